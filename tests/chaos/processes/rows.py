"""Rows of real processes: one a fault, from as many trials as there are seeds."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.processes import tools
from tests.chaos.processes.disks import disk_faults, small_disk
from tests.chaos.processes.faults import ONE_NODE, Fault
from tests.chaos.processes.hosts import two_host_faults
from tests.chaos.processes.park import GATES, Park, installation
from tests.chaos.processes.site import two_nodes
from tests.chaos.processes.takeover import killed_owner, lost_node, takeover_row
from tests.chaos.processes.trial import Rehearsal, Trial
from tests.chaos.rows import Row

Progress = Callable[[str], None]
LAYER = "processes"


def process_rows(seeds: Sequence[int], tell: Progress) -> list[Row]:
    """All faults, each with every seed, and both take-overs."""
    # One event loop for all of it: gRPC takes no second one in a process.
    return asyncio.run(_all_rows(seeds, tell))


async def _all_rows(seeds: Sequence[int], tell: Progress) -> list[Row]:
    rows, lacking = await _one_host(seeds, tell), tools.missing()
    if not lacking:
        return rows + await _two_hosts(seeds, tell)
    says = f"left out, for want of {', '.join(lacking)}: cut wires, lost nodes, disks"
    return [*rows, Row(LAYER, "others", says, 0, 0, 0, 0, ())]


async def _one_host(seeds: Sequence[int], tell: Progress) -> list[Row]:
    tell(f"{LAYER}: an installation starts")
    with setting(1) as (park, faults):
        rows = as_rows(await rehearse(park, faults, seeds, tell))
        tell(f"{LAYER}: a million tickets are registered, and their owner is killed")
        return [*rows, await takeover_row(park, killed_owner(park))]


async def _two_hosts(seeds: Sequence[int], tell: Progress) -> list[Row]:
    tell(f"{LAYER}: an installation on two hosts starts")
    with two_nodes() as (site, park):
        rows = as_rows(await rehearse(park, two_host_faults(site), seeds, tell))
        tell(f"{LAYER}: a million tickets are registered, and their owner's host is cut off")
        return [*rows, await takeover_row(park, lost_node(park, site.namespace.there, site.namespace.cut_all_but))]


@contextmanager
def setting(hosts: int) -> Iterator[tuple[Park, Sequence[Fault]]]:
    """An installation on so many hosts, and the faults that are tried on it here."""
    if hosts == 2:
        with two_nodes() as (site, park):
            yield park, two_host_faults(site)
    elif tools.missing():
        with one_node() as park:
            yield park, ONE_NODE
    else:
        with one_node(on_small_disk=True) as park:
            yield park, [*ONE_NODE, *disk_faults()]


@contextmanager
def one_node(*, on_small_disk: bool = False) -> Iterator[Park]:
    """An installation on this machine. Nothing of it is left, however this ends."""
    with tempfile.TemporaryDirectory(prefix="pgchaos-") as folder, ExitStack() as exits:
        if on_small_disk:
            exits.enter_context(small_disk(Path(folder) / "disk", Path(folder) / "data"))
        stack = installation(Path(folder) / "data")
        try:
            stack.up()
            yield Park(stack)
            stack.down()
        finally:
            stack.kill_everything()


async def rehearse(park: Park, faults: Sequence[Fault], seeds: Sequence[int], tell: Progress) -> list[Trial]:
    """Every fault with every seed, in an order that the seed draws: each meets what the ones before have left."""
    rehearsal, trials = Rehearsal(park), list[Trial]()
    await rehearsal.connect(GATES)
    try:
        for seed in seeds:
            for fault in random.Random(seed).sample(faults, len(faults)):
                tell(f"{LAYER}: {fault.name}, seed {seed}")
                trials.append(trial := await rehearsal.run(fault, seed))
                tell(said(trial))
    finally:
        await rehearsal.close()
    return trials


def said(trial: Trial) -> str:
    """A trial in one line."""
    return (
        f"{trial.fault.name}, seed {trial.seed}: {trial.seconds:.1f} s, {trial.operations} operations, "
        f"{trial.unknown} unknown, {trial.admitted} admitted, longest pause {trial.recovery_ms} ms, "
        f"{len(trial.violations)} violations"
    )


def as_rows(trials: Sequence[Trial]) -> list[Row]:
    """One row a fault."""
    by_fault: dict[Fault, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_fault[trial.fault].append(trial)
    return [_row(fault, some) for fault, some in by_fault.items()]


def _row(fault: Fault, trials: Sequence[Trial]) -> Row:
    return Row(
        LAYER,
        fault.name,
        fault.says,
        len(trials),
        sum(trial.operations for trial in trials),
        sum(trial.unknown for trial in trials),
        sum(trial.admitted for trial in trials),
        tuple(
            f"--hosts {fault.hosts} --fault {fault.name} --seed {trial.seed}: {item}"
            for trial in trials
            for item in trial.violations
        ),
        max(trial.recovery_ms for trial in trials),
    )
