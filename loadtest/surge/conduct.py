"""The conductor: starts both parts of the generator, opens the doors, orders the faults, reads the books at the end."""

from __future__ import annotations

import asyncio
import math
import os
import platform
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import psutil

from loadtest.surge import evening, faults, share
from loadtest.surge.clock import DayClock
from loadtest.surge.faults import Fault
from loadtest.surge.gate_parts import GateParts
from loadtest.surge.part import Part, result_of
from loadtest.surge.parts import Order
from loadtest.surge.plan import Plan
from loadtest.surge.ramp import climb
from loadtest.surge.record import Count, Happened, Machine, Record
from loadtest.surge.scenario import Scenario
from loadtest.surge.screen import Screen, devices
from loadtest.surge.target import Target
from loadtest.surge.watch import GENERATOR, Watch, Watched
from ops import state
from ops.books import Books
from ops.errors import OpsError
from ticketcore.catalogue import Catalogue

T = TypeVar("T")
DOORS_S = 0.3
TICK_S = 0.25
BEYOND_S = 240.0
"""How much longer than its plan a rehearsal may take: the ramp, and the restart of what was killed."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is rehearsed: a scenario by its name or file, what differs from it, the faults. `out` gets the report."""

    scenario: str
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


@dataclass
class _Stop:
    """Whether somebody wants it to end now, in order."""

    wanted: asyncio.Event = field(default_factory=asyncio.Event)


async def conduct(rehearsal: Rehearsal, plan: Plan, target: Target, screen: Screen) -> Record:
    """The whole rehearsal against a running system. Raises: OpsError when a part of the generator fails."""
    before = None if target.own else await evening.read_books(target)
    watch = Watch(target.data_dir)
    watch.start()
    stop = _Stop()
    try:
        with interrupts(stop):
            results, clock, struck, presale_s = await _play(rehearsal, plan, (target, screen), (watch, stop))
    finally:
        watched = watch.stop()
    screen.section("The books of the day")
    counts, now = await _books(target, results, before, screen)
    return Record(
        scenario=plan.scenario.model_dump(mode="json"),
        machine=machine(),
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        here=target.data_dir is not None,
        against=_against(target),
        seconds=time.monotonic() - clock.start,
        gates=results[0],
        shop=results[1],
        usage=_usage(watched, clock),
        entrance_zones=[number for number, _ in _zones(target, plan)],
        capacity={str(zone.number): (zone.name, zone.capacity) for zone in target.catalogue.zones.values()},
        quotas=quotas(target.catalogue, plan.scenario),
        counts=counts,
        tickets=evening.tickets(now, before) if now else {},
        money=evening.amounts(target, now, before) if now else {},
        faults=struck,
        changes=list(target.changes),
        interrupted=stop.wanted.is_set(),
        presale_s=presale_s,
    )


def _against(target: Target) -> str:
    if target.own:
        return "a system of its own on this machine"
    where = ", ".join(target.gates)
    return f"the installation on this machine, {where}" if target.data_dir else where


async def _play(
    rehearsal: Rehearsal, plan: Plan, shown: tuple[Target, Screen], aside: tuple[Watch, _Stop]
) -> tuple[tuple[dict[str, Any], dict[str, Any]], DayClock, list[Happened], float]:
    (target, screen), (watch, stop) = shown, aside
    work = rehearsal.out / "work"
    work.mkdir(exist_ok=True)
    (work / "sold.jsonl").touch()
    shop = await Part.start("shop", _shop_order(rehearsal, target, plan), work / "shop.log")
    gates = await GateParts.start(_gate_orders(rehearsal, target, plan))
    watch.generator |= {shop.pid: GENERATOR[1], **dict.fromkeys(gates.pids, GENERATOR[0])}
    try:
        async with asyncio.timeout(longest_s(plan.scenario)):
            ahead_s = await _ready(gates, shop, screen, stop)
            clock = DayClock(time.monotonic() + DOORS_S, plan.starts_s, plan.scenario.speed)
            for part in (gates, shop):
                part.tell(f"go {clock.start}")
            screen.section("The doors open")
            struck = await _day(rehearsal, plan, (gates, shop), (target, screen, clock, stop))
        found = await asyncio.to_thread(gates.result)
        results = (found | {"ramp": [asdict(step) for step in gates.steps]}, result_of(work / "shop.json"))
        return results, clock, struck, ahead_s
    except TimeoutError as error:
        raise OpsError("The rehearsal did not end in time.", f"What its parts said is in {work}.") from error
    finally:
        for part in (gates, shop):
            await part.end()


def longest_s(scenario: Scenario) -> float:
    """How long a rehearsal may take: each step of the ramp may be tried twice, and its guests leave."""
    ramp = scenario.ramp
    return scenario.seconds * 2 + BEYOND_S + (ramp.steps * ramp.seconds * 3 if ramp else 0.0)


async def _ready(gates: GateParts, shop: Part, screen: Screen, stop: _Stop) -> float:
    """Both parts are; nothing is sold before every gate is welcome. Answers how long the sale ahead took, in seconds.
    Raises: OpsError, also when somebody stops it here: there is no day to report on yet."""
    with screen.busy("Connecting the gates"):
        connected = await _unless(stop, gates.ready())
    by = f"by {len(gates.pids)} processes" if len(gates.pids) > 1 else "welcome"
    screen.line(devices(connected), "TLS streams", by)
    shop.tell("sell")
    with screen.selling() as show:
        said = await _unless(stop, _shown(shop.says("ready"), lambda: show(shop.values.get("sold", 0))))
    screen.line(f"{said.values['sold']:,.0f} tickets sold ahead", f"{said.values['seconds']:.1f} s")
    if said.text:
        screen.line("sold out before the day", said.text)
    return said.values["seconds"]


async def _shown(awaited: Coroutine[Any, Any, T], show: Callable[[], None]) -> T:
    """What it answers; how far it is, is shown meanwhile."""
    task = asyncio.create_task(awaited)
    try:
        while not task.done():
            show()
            await asyncio.wait({task}, timeout=TICK_S)
        return task.result()
    finally:
        task.cancel()


async def _unless(stop: _Stop, awaited: Coroutine[Any, Any, T]) -> T:
    """What it answers. Raises: OpsError when somebody stops it before."""
    wanted, stopped = asyncio.create_task(awaited), asyncio.create_task(stop.wanted.wait())
    try:
        await asyncio.wait({wanted, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise OpsError("The rehearsal was stopped before the doors opened.")
        return wanted.result()
    finally:
        for task in (wanted, stopped):  # else what becomes of them later is told as an error in the end
            task.cancel()
        await asyncio.gather(wanted, stopped, return_exceptions=True)


async def _day(
    rehearsal: Rehearsal,
    plan: Plan,
    parts: tuple[GateParts, Part],
    around: tuple[Target, Screen, DayClock, _Stop],
) -> list[Happened]:
    target, screen, clock, stop = around
    struck: list[Happened] = []
    gates, shop = parts
    ramp = asyncio.create_task(_ramp(plan.scenario, gates, _room(target, plan)))
    ending = asyncio.gather(gates.done(), shop.done(), ramp)
    tasks = [asyncio.create_task(_strike(fault, (gates, target, clock), struck)) for fault in rehearsal.faults]
    tasks += [asyncio.create_task(_stopped(stop, parts)), ramp]
    try:
        with screen.day(plan) as shown:
            while not ending.done():
                shown.update(gates.values, shop.values, gates.phase)
                await asyncio.wait({ending}, timeout=TICK_S)
        ending.result()
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
    return struck


async def _ramp(scenario: Scenario, gates: GateParts, room: float) -> None:
    """Once the day is over: the steps of the ramp, if the scenario has any, and the gates' end."""
    await gates.settled()
    ramp = scenario.ramp
    if ramp is not None and ramp.steps and not gates.stopping:
        gates.climbing = True
        await climb(ramp, lambda per_s: gates.held(per_s, ramp, room))
    gates.tell("end")


async def _stopped(stop: _Stop, parts: tuple[GateParts, Part]) -> None:
    await stop.wanted.wait()
    for part in parts:
        part.tell("stop")


async def _strike(fault: Fault, where: tuple[GateParts, Target, DayClock], struck: list[Happened]) -> None:
    """Does it when it is time. Raises: OpsError when there is nothing to kill."""
    gates, target, clock = where
    await asyncio.sleep(max(clock.wall(fault.at_s) - time.monotonic(), 0))
    if fault.kind is faults.Kind.NETWORK:
        gates.tell(f"cut {faults.CUT_S}")
    else:
        await asyncio.to_thread(_kill, fault, target)
    struck.append(Happened(clock.day(time.monotonic()), faults.SAYS[fault.kind]))


def _kill(fault: Fault, target: Target) -> None:
    assert target.data_dir is not None, "parse refuses faults that kill where there is nothing of one's own to kill"
    pid = _victim(fault, target.data_dir)
    if pid is None:
        raise OpsError(f"There is no {fault.kind} to kill.")
    os.kill(pid, signal.SIGKILL)


def _victim(fault: Fault, data_dir: Path) -> int | None:
    from loadtest.surge.watch import actor

    if fault.kind in faults.ACTORS:
        found = actor(data_dir, faults.ACTORS[fault.kind])
        return found.pid if found else None
    last = state.read(data_dir)
    known = {one.name: one.who.pid for one in last.processes if one.who} if last else {}
    return known.get("postgres")


async def _books(
    target: Target,
    results: tuple[dict[str, Any], dict[str, Any]],
    before: Books | None,
    screen: Screen,
) -> tuple[list[Count], Books | None]:
    try:
        with screen.busy("Waiting until reporting has read the whole ledger"):
            now = await evening.read_books(target)
    except OpsError as error:
        return [Count("the books close", "in time", str(error))], None
    return evening.compare(target, results, now, before), now


def _shop_order(rehearsal: Rehearsal, target: Target, plan: Plan) -> Order:
    return Order(
        scenario=rehearsal.scenario,
        changes=dict(rehearsal.changes),
        addresses=[target.sales],
        certificate=target.service,
        sold=str(rehearsal.out / "work" / "sold.jsonl"),
        result=str(rehearsal.out / "work" / "shop.json"),
        visit_date=target.today.isoformat(),
        zones=_zones(target, plan),
    )


def _gate_orders(rehearsal: Rehearsal, target: Target, plan: Plan) -> list[Order]:
    """One for each process that has a share of the gates."""
    common = _shop_order(rehearsal, target, plan)
    count = share.processes(plan.scenario, cores(), here=target.data_dir is not None)
    return [
        replace(
            common,
            addresses=list(target.gates),
            certificate=target.device,
            result=str(rehearsal.out / "work" / f"gates-{index + 1}.json"),
            share=(index, count),
        )
        for index in range(count)
    ]


ROOM_SHARE = 0.8
"""Of a zone's capacity: guests come by chance, and a few more than expected must find room too."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def quotas(catalogue: Catalogue, scenario: Scenario) -> list[tuple[str, int, int]]:
    """Of what the day's guests hold, as the catalogue has them; what is not limited has none."""
    found = set()
    for line in (line for party in scenario.parties for line in party.tickets):
        product = catalogue.products[line.product]
        if product.daily_quota:
            found.add((line.product, 0, product.daily_quota))
        if (slot := catalogue.slot(product, line.slot)) is not None:
            found.add((line.product, line.slot, slot.quota))
    return sorted(found)


def _zones(target: Target, plan: Plan) -> list[tuple[int, bool]]:
    """Where each entrance leads, and whether its gates tell who went through."""
    ramp = plan.scenario.ramp
    first = [target.catalogue.gates[name] for name in (*_entrances(plan), *(ramp.gates[:1] if ramp else ()))]
    return [(target.catalogue.zones[gate.zone].number, gate.passage_reported) for gate in first]


def _entrances(plan: Plan) -> list[str]:
    return [entrance.gates[0] for entrance in plan.scenario.entrances]


def _room(target: Target, plan: Plan) -> float:
    """How many guests a step of the ramp may have, so that no zone that they enter is full; infinite without limits."""
    ramp = plan.scenario.ramp
    gates = (ramp.gates[:1] if ramp is not None else ()) or _entrances(plan)
    zones = [target.catalogue.zones[target.catalogue.gates[name].zone] for name in gates]
    return min((zone.capacity * ROOM_SHARE for zone in zones if zone.capacity), default=math.inf)


def _usage(watched: Watched, clock: DayClock) -> dict[str, Any]:
    return {
        "day_s": [round(clock.day(time_), 1) for time_ in watched.times],
        "machine": [round(share, 3) for share in watched.machine],
        "pace_ms": [round(took, 3) for took in watched.pace_ms],
        "processes": {
            name: {"cpu": [round(x, 3) for x in one.cpu], "memory_mb": [round(x, 1) for x in one.memory_mb]}
            for name, one in sorted(watched.by_name.items())
        },
    }


def machine() -> Machine:
    """Where this runs."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return Machine(
        os.cpu_count() or 1, round(memory_gb, 1), platform.system(), platform.python_version(), version("parkgate")
    )


@contextmanager
def interrupts(stop: _Stop) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the day in order, with a report of what there is; the second at once."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None

    def interrupted() -> None:
        if stop.wanted.is_set():
            main.cancel()
        stop.wanted.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
