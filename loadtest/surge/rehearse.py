"""A rehearsal from its first line to its report: what the command calls."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.surge import faults
from loadtest.surge import plan as planning
from loadtest.surge.conduct import Rehearsal, conduct
from loadtest.surge.fits import check_own
from loadtest.surge.folder import ReportFolder
from loadtest.surge.plan import Plan
from loadtest.surge.record import Record
from loadtest.surge.report import page
from loadtest.surge.report.figures import Figures, figures_of
from loadtest.surge.scenario import Scenario, Source, parse_source, read
from loadtest.surge.screen import Screen, devices
from loadtest.surge.target import Addresses, Installation, OwnSystem
from ops.errors import BadInput, OpsError
from ops.services.catalogue import EXAMPLE, read_catalogue
from ops.state import StackState, Stage
from ticketcore.errors import ParkgateError

PORTS = {"gates": 7443, "sales": 7444, "reporting": 7445}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was given. The report in `out` is replaced once there is a new one."""

    scenario: str
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[str] = ()
    address: Sequence[str] = ()
    credentials: Path | None = None
    data_dir: Path | None = None
    """Of an installation that runs on this machine."""
    yes: bool = False


def rehearse(options: Options, screen: Screen | None = None) -> bool:
    """Runs it; True when all answers were right and the books agree. Raises: OpsError, BadInput."""
    screen = screen or Screen()
    source = read(options.scenario)
    scenario = parse_source(source, options.changes)
    day_s = (scenario.opens, scenario.closes)
    elsewhere = system_of(options)
    ordered = tuple(faults.parse(text, day_s, own=elsewhere is None) for text in options.faults)
    plan = planning.make(scenario)
    folder = ReportFolder(options.out)
    folder.check()

    def begin() -> Rehearsal:
        """Called when nothing is left that bad input could spoil."""
        _open(screen, scenario, plan, elsewhere)
        return Rehearsal(options.scenario, folder.begin(), options.changes, ordered)

    try:
        if elsewhere is not None:
            record = asyncio.run(_elsewhere(begin, (plan, source), elsewhere, screen))
        else:
            check_own(scenario, source, read_catalogue(EXAMPLE)[1], datetime.now(UTC).date())
            record = _on_own_system(begin(), plan, screen)
        return _conclude(screen, record, folder)
    except ParkgateError as error:
        raise OpsError(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise OpsError("The rehearsal was broken off; there is no report.") from None
    finally:
        folder.end()


def system_of(options: Options) -> Addresses | Installation | None:
    """The system that is rehearsed against; None: one of its own. Raises: BadInput for one that nobody agreed to."""
    if not options.address and options.data_dir is None:
        if options.credentials is not None or options.yes:
            raise BadInput(
                "--credentials and --yes are for a system that runs already.", "Name it with --address or --data-dir."
            )
        return None
    if options.address and options.data_dir is not None:
        raise BadInput("--address and --data-dir name two systems.", "Give one of them.")
    found = addresses(options) if options.data_dir is None else Installation(options.data_dir)
    if not options.yes:
        where = ", ".join(options.address) if options.address else f"the installation in {options.data_dir}"
        raise BadInput(
            f"A rehearsal sells, admits and refunds thousands of tickets at {where}.",
            "If that is no open park, say so with --yes.",
        )
    return found


def addresses(options: Options) -> Addresses:
    """Where the other system is. Raises: BadInput for an address that is none."""
    if options.credentials is None:
        raise BadInput("An address needs certificates.", "Name their folder with --credentials.")
    found: dict[str, list[str]] = {name: [] for name in PORTS}
    for text in options.address:
        name, equals, place = text.partition("=")
        if not equals and ":" not in text:
            for each, port in PORTS.items():
                found[each].append(f"{text}:{port}")
        elif name in PORTS and ":" in place:
            found[name].append(place)
        else:
            raise BadInput(f"{text!r} is no address.", "Give a host, or gates=HOST:PORT, sales=… and reporting=….")
    missing = [name for name, places in found.items() if not places]
    if missing:
        raise BadInput(f"There is no address of {', '.join(missing)}.", "Give a host, or each of the three.")
    return Addresses(tuple(found["gates"]), found["sales"][0], found["reporting"][0], options.credentials)


def _open(screen: Screen, scenario: Scenario, plan: Plan, elsewhere: Addresses | Installation | None) -> None:
    hours = (scenario.closes - scenario.opens) / 3600
    where = f"at {', '.join(elsewhere.gates)}" if elsewhere else "on a system of its own"
    screen.panel(
        f"Parkgate · rehearsal · {scenario.name}",
        [
            scenario.story,
            f"{scenario.visitors:,} guests, {plan.scans:,} scans at {devices(scenario.devices)}, {where}",
            f"{hours:g} hours pass in {scenario.seconds:g} seconds: {scenario.speed:,.0f} times as fast as on the day",
        ],
    )


def _on_own_system(rehearsal: Rehearsal, plan: Plan, screen: Screen) -> Record:
    system = OwnSystem(rehearsal.out / "system", plan.scenario)
    seen: set[str] = set()

    def tick(now: StackState) -> None:
        for one in now.processes:
            if one.stage is Stage.RUNNING and one.name not in seen:
                seen.add(one.name)
                screen.line(one.name, f"ready after {one.ready_after_s:.1f} s")

    logs: Path | None = rehearsal.out / "logs"
    try:
        screen.section("Starting Postgres, Valkey, Ray and the services")
        with system.running(tick) as target:
            record = asyncio.run(conduct(rehearsal, plan, target, screen))
            logs = None if figures_of(record).passed else logs
        return record
    finally:
        system.remove(logs)


async def _elsewhere(
    begin: Callable[[], Rehearsal], wanted: tuple[Plan, Source], elsewhere: Addresses | Installation, screen: Screen
) -> Record:
    plan, source = wanted
    target = await elsewhere.target(plan.scenario, source)
    return await conduct(begin(), plan, target, screen)


def _conclude(screen: Screen, record: Record, folder: ReportFolder) -> bool:
    figures = figures_of(record)
    page.put(folder.unfinished / "record.json", record.json())
    page.write(record, folder.unfinished / "report.html")
    if figures.passed:
        shutil.rmtree(folder.unfinished / "work", ignore_errors=True)
    folder.finish()
    _tell(screen, figures, folder.final)
    return figures.passed


def _tell(screen: Screen, figures: Figures, out: Path) -> None:
    screen.section("The verdict")
    for heading, text, good in figures.sentences:
        screen.line(heading, text, good=good)
    style = "green" if figures.ready else "yellow" if figures.passed else "red"
    screen.panel("Verdict", [figures.headline, f"The report: {out / 'report.html'}"], style)
