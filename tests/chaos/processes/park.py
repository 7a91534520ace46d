"""The installation under attack: a real stack with a catalogue in which things run out, and where it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from gateclient.credentials import Credentials, load_credentials
from ops.files import sync_tree
from ops.pki import Kind
from sales.catalogue_folder import load_folder
from tests.checker import Books, History, StoredEntry, Trimmed
from tests.checker.sources import books_of, ledger_of, trims_of, with_what_was_trimmed
from tests.system import traffic
from tests.system.stack import QUOTA, Stack
from ticketcore.catalogue_document import parse_catalogue

PARK, WATER = 1, 2
"""Zones; the second is small."""
WATER_CAPACITY = 12
MANY = "2500000"
PARK_GATES = ("main-1", "main-2", "main-3", "main-4", "lake-1", "lake-2")
WATER_GATES = ("water-1", "water-2")
GATES = dict.fromkeys(PARK_GATES, PARK) | dict.fromkeys(WATER_GATES, WATER)
"""And the zone that each leads to. So many that every gateway has some of them."""
BLIND_AFTER_S = 5
"""After this long without a report a guest counts as gone through: short, so that it happens within a trial."""
MAX_TRIALS = 300
"""Trials of one installation: each sells a day of its own out."""
HOLD_LIMIT = 6
QUOTA_LOG = "q0"
DAY, EVENING, WATER_DAY = 1, 2, 6
"""Numbers of products that have quotas."""


@dataclass  # not slotted: it keeps what it has worked out
class Park:
    """A running installation and all that its clients ever saw."""

    stack: Stack
    history: History = field(default_factory=History)
    trials: int = 0
    known: set[str] = field(default_factory=set)
    """Violations that were told before: each belongs to the trial that showed it first."""
    addresses: tuple[str, ...] = ()
    """Where turnstiles connect; on one node any connection may reach any gateway."""
    _devices: dict[str, Credentials] = field(default_factory=dict)
    _entries: list[StoredEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.addresses = self.addresses or (f"localhost:{self.stack.settings.gate_port}",)
        self.history.note("park", "nobody", 0, self._set_up())

    def _set_up(self) -> dict[str, Any]:
        quotas = {f"product={number};date={self.today}": int(MANY) for number in (DAY, WATER_DAY)}
        for number in range(1, MAX_TRIALS):
            quotas |= {self.evening_quota(number): QUOTA, self.hold_quota(number): HOLD_LIMIT}
        capacities = {str(PARK): int(MANY), str(WATER): WATER_CAPACITY}
        return {"capacities": capacities, "quotas": quotas, "time_zone": self.time_zone}

    @cached_property
    def today(self) -> date:
        """The park's day."""
        return traffic.today(self.stack)

    @property
    def time_zone(self) -> str:
        """The park's own."""
        return str(parse_catalogue(load_folder(self.stack.settings.catalogue_dir)[0]).venue.time_zone)

    @cached_property
    def products(self) -> Mapping[str, Any]:
        """What the catalogue says of each product."""
        return parse_catalogue(load_folder(self.stack.settings.catalogue_dir)[0]).products

    def evening(self, trial: int) -> date:
        """The day that a trial sells out."""
        return self.today + timedelta(days=trial)

    def evening_quota(self, trial: int) -> str:
        """Its quota."""
        return f"product={EVENING};date={self.evening(trial)}"

    def hold_quota(self, trial: int) -> str:
        """A quota whose holds are asked for directly: what sales keep to themselves is seen here step by step."""
        return f"product=99;date={self.evening(trial)}"

    def credentials(self, gate: str) -> Credentials:
        """A device's certificate, by the real enrolment. The device has it: it does not need the park's disk for it."""
        if gate not in self._devices:
            self._devices[gate] = load_credentials(self.stack.certificate(Kind.GATE, f"device-{gate}", (gate,)))
        return self._devices[gate]

    # What it has written

    @property
    def logs(self) -> list[str]:
        """All partitions."""
        return [*(f"p{number}" for number in range(self.stack.settings.partitions)), QUOTA_LOG]

    def entries(self) -> list[StoredEntry]:
        """The ledger, whole: what was trimmed since it was read before is kept here."""
        self._entries = with_what_was_trimmed(self._entries, ledger_of(self.stack.endpoints.ledger_url, self.logs))
        return self._entries

    def trims(self) -> list[Trimmed]:
        """What the ledger has no more."""
        return trims_of(self.stack.endpoints.ledger_url, self.logs)

    def books(self) -> Books:
        """Postgres."""
        return books_of(self.stack.endpoints.postgres_url, sales=True)

    def void_ids(self) -> dict[str, str]:
        """The id under which the owner was asked to void a ticket, by the caller's: each refund is of one ticket."""
        with psycopg.connect(self.stack.endpoints.postgres_url) as connection:
            query = "SELECT encode(request_id, 'hex'), encode(id, 'hex') FROM sales.voids WHERE kind = 'refund'"
            return dict(connection.execute(query).fetchall())

    def broken_actors(self) -> list[str]:
        """Actors that ended because they met a state that cannot be."""
        logs = (self.stack.settings.data_dir / "logs").glob("*.events.log*")
        lines = (line for path in sorted(logs) for line in path.read_text(errors="replace").splitlines())
        return [line for line in lines if "rebuilt from the ledger" in line]


def installation(folder: Path, **settings: object) -> Stack:
    """A stack that is not up yet, of several partitions, owners and gateways."""
    stack = Stack(folder, **({"partitions": 4, "owners": 2, "gateways": 2} | settings))
    catalogue = stack.settings.catalogue_dir
    _replace(catalogue / "park.toml", "capacity = 20000", f"capacity = {MANY}")
    _replace(catalogue / "park.toml", "capacity = 2500\n", f"capacity = {WATER_CAPACITY}\n")
    _replace(catalogue / "products.toml", "daily_quota = 25000", f"daily_quota = {MANY}")
    _replace(catalogue / "products.toml", "daily_quota = 4000", f"daily_quota = {MANY}")
    for gate in ("main-1", "main-2", "lake-1", *WATER_GATES):
        heading = f'id = "{gate}"\n'
        _replace(catalogue / "gates.toml", heading, f"{heading}passage_timeout_seconds = {BLIND_AFTER_S}\n")
    sync_tree(stack.data_dir)  # whoever edits a catalogue saves it to the disk
    return stack


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise LookupError(f"the shipped catalogue has changed: {path.name} no longer says {old!r}")
    path.write_text(text.replace(old, new))
