"""What is rehearsed against: a system of one's own, made for it and removed again, or one that runs elsewhere.

An address needs two certificates, in one folder with the park's `ca.pem`: a gate's that speaks for all gates of the
scenario, and a service's, which sells, refunds and reads the books.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from loadtest.surge.evening import catalogue_at
from loadtest.surge.fits import check
from loadtest.surge.hours import check_hours
from loadtest.surge.parts import Certificate
from loadtest.surge.scenario import Scenario, Source
from ops import running
from ops.devices import gate_folder
from ops.errors import OpsError
from ops.example_park import (
    NO_BLACKOUT,
    Edit,
    capacity,
    clock,
    daily_quota,
    evening_zone,
    slot_quota,
    write_copy,
)
from ops.own_stack import OwnStack
from ops.services.catalogue import EXAMPLE, read_catalogue
from ops.services.identities import service_identity
from ops.state import StackState
from ticketcore.catalogue import Catalogue

DEVICE, SERVICE = "surge-gates", "surge-shop"
ORDINALS = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the system is, and who the rehearsal is there. `data_dir` where it runs on this machine and can be watched;
    `own`: whether it was made for the rehearsal."""

    gates: tuple[str, ...]
    sales: str
    reporting: str
    device: Certificate
    service: Certificate
    catalogue: Catalogue
    data_dir: Path | None = None
    changes: tuple[str, ...] = ()
    """What differs from the example park, in words."""
    own: bool = False

    @property
    def today(self) -> date:
        """The park's day."""
        return datetime.now(self.catalogue.venue.time_zone).date()


def edits(scenario: Scenario, catalogue: Catalogue, now: datetime) -> tuple[Edit, ...]:
    """What the rehearsal's own park differs in, once `fits.check_own` has found that all of it is there."""
    park = scenario.park
    return (
        clock(evening_zone(now)),
        NO_BLACKOUT,
        *(capacity(zone, catalogue.zones[zone].name, persons) for zone, persons in park.capacity.items()),
        *(
            daily_quota(product, catalogue.products[product].name, persons)
            for product, persons in park.daily_quota.items()
        ),
        *(slot_quota(int(number), ORDINALS[int(number) - 1], places) for number, places in park.slot_quota.items()),
    )


class OwnSystem:
    """A system that is started for the rehearsal. Its data go when it ends, its logs stay when something failed."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        example: Catalogue = read_catalogue(EXAMPLE)[1]
        self._changes = write_copy(folder / "catalogue", edits(scenario, example, datetime.now(UTC)))
        self._scenario = scenario
        self.stack = OwnStack(folder)

    @contextmanager
    def running(self, tick: Callable[[StackState], None]) -> Iterator[Target]:
        """Starts it, and stops it again whatever happens. Raises: StartFailed."""
        try:
            self.stack.start(tick)
            yield self._target()
        finally:
            self.stack.stop()

    def _target(self) -> Target:
        settings = self.stack.settings
        device = gate_folder(settings.data_dir, self._scenario.gates, DEVICE)
        files = service_identity(settings.data_dir, "operations")
        return Target(
            (f"localhost:{settings.gate_port}",),
            f"localhost:{settings.sales_port}",
            f"localhost:{settings.reporting_port}",
            Certificate(str(device / "ca.pem"), str(device / f"{DEVICE}.pem"), str(device / f"{DEVICE}.key")),
            Certificate(str(files.ca), str(files.certificate), str(files.key)),
            read_catalogue(settings.catalogue_dir)[1],
            settings.data_dir,
            self._changes,
            own=True,
        )

    def remove(self, logs: Path | None) -> None:
        """Removes its data; copies its logs before, if somebody wants them."""
        written = self.stack.data_dir / "logs"
        if logs is not None and written.exists():
            shutil.copytree(written, logs, dirs_exist_ok=True)
        shutil.rmtree(self.stack.data_dir, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Installation:
    """A system that runs on this machine, as `parkgate up` started it: its certificates are made there."""

    data_dir: Path

    @property
    def gates(self) -> tuple[str, ...]:
        """Where its gates are served. Raises: OpsError when nothing runs there."""
        return (self._address("gate_port"),)

    async def target(self, scenario: Scenario, source: Source) -> Target:
        """Raises: OpsError, BadInput."""
        gates, sales = self.gates, self._address("sales_port")
        files = service_identity(self.data_dir, "operations")
        service = Certificate(str(files.ca), str(files.certificate), str(files.key))
        catalogue = await catalogue_at(sales, service)
        now = datetime.now(UTC)
        check(scenario, source, catalogue, now.astimezone(catalogue.venue.time_zone).date())
        check_hours(scenario, catalogue, now)
        folder = gate_folder(self.data_dir, scenario.gates)
        name = next(folder.glob("*.key")).stem
        device = Certificate(*(str(folder / file) for file in ("ca.pem", f"{name}.pem", f"{name}.key")))
        reporting = self._address("reporting_port")
        return Target(gates, sales, reporting, device, service, catalogue, self.data_dir)

    def _address(self, purpose: str) -> str:
        return f"localhost:{running.port(running.require_running(self.data_dir), purpose)}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """A system elsewhere, and the folder with its `ca.pem` and both certificates."""

    gates: tuple[str, ...]
    sales: str
    reporting: str
    folder: Path
    device: str = DEVICE
    service: str = SERVICE

    async def target(self, scenario: Scenario, source: Source) -> Target:
        """Raises: OpsError, BadInput."""
        device, service = self.certificates()
        catalogue = await catalogue_at(self.sales, service)
        now = datetime.now(UTC)
        check(scenario, source, catalogue, now.astimezone(catalogue.venue.time_zone).date())
        check_hours(scenario, catalogue, now)
        return Target(self.gates, self.sales, self.reporting, device, service, catalogue)

    def certificates(self) -> tuple[Certificate, Certificate]:
        """The gate's and the service's. Raises: OpsError that says which file is missing and how to get it."""
        return self._certificate(self.device, "gate"), self._certificate(self.service, "service")

    def _certificate(self, name: str, kind: str) -> Certificate:
        paths = [self.folder / file for file in ("ca.pem", f"{name}.pem", f"{name}.key")]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            gates = " --gates ..." if kind == "gate" else ""
            raise OpsError(
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
                f"At the park: parkgate enroll {kind} {name}{gates} --out {self.folder}",
            )
        return Certificate(*(str(path) for path in paths))
