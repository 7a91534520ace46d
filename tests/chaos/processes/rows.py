"""Rows of real processes: one a fault, from as many trials as there are seeds, and one a take-over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from tests.chaos.processes import tools
from tests.chaos.processes.faults import Fault
from tests.chaos.processes.park import GATES, Park
from tests.chaos.processes.settings import setting
from tests.chaos.processes.takeover import TAKEOVERS, takeover_row
from tests.chaos.processes.trial import Rehearsal, Trial
from tests.chaos.record import Record
from tests.chaos.rows import Row

Progress = Callable[[str], None]
LAYER = "processes"
HOSTS = {1: "on one host", 2: "on two hosts"}


def try_processes(seeds: Sequence[int], record: Record, tell: Progress) -> None:
    """All faults, each with every seed, and both take-overs."""
    # One event loop for all of it: gRPC takes no second one in a process.
    asyncio.run(_all_settings(seeds, record, tell))


async def _all_settings(seeds: Sequence[int], record: Record, tell: Progress) -> None:
    left_out = left_out_row()
    if left_out is not None:
        record.put(left_out)
    for hosts in (1, 2) if left_out is None else (1,):
        with record.stage(f"an installation {HOSTS[hosts]}"):
            await _one_setting(hosts, seeds, record, tell)


def left_out_row() -> Row | None:
    """What cannot be tried on this machine is not known to work: it fails the run. None if all can be tried."""
    lacking = tools.lacking()
    broken = f"cut wires, lost nodes and disks were not tried, for this machine lacks {lacking}"
    return Row(LAYER, "left out", "what this machine cannot try", 0, 0, 0, 0, (broken,)) if lacking else None


async def _one_setting(hosts: int, seeds: Sequence[int], record: Record, tell: Progress) -> None:
    trials: list[Trial] = []

    def ended(trial: Trial) -> None:
        trials.append(trial)
        record.put(as_row([one for one in trials if one.fault is trial.fault]))

    tell(f"{LAYER}: an installation {HOSTS[hosts]} starts")
    with setting(hosts) as here:
        with record.stage(f"faults {HOSTS[hosts]}"):
            await rehearse(here.park, here.faults, seeds, tell, ended)
        with record.stage(TAKEOVERS[hosts]):
            tell(f"{LAYER}: a million tickets are registered for {TAKEOVERS[hosts]}")
            record.put(await takeover_row(here.park, here.loss()))


async def rehearse(
    park: Park, faults: Sequence[Fault], seeds: Sequence[int], tell: Progress, ended: Callable[[Trial], None]
) -> None:
    """Every fault with every seed, in an order that the seed draws: each meets what the ones before have left."""
    rehearsal = Rehearsal(park)
    await rehearsal.connect(GATES)
    try:
        for seed in seeds:
            for fault in random.Random(seed).sample(faults, len(faults)):
                tell(f"{LAYER}: {fault.name}, seed {seed}")
                ended(await rehearsal.run(fault, seed))
    finally:
        await rehearsal.close()


def said(trial: Trial) -> str:
    """A trial in one line."""
    return (
        f"{trial.fault.name}, seed {trial.seed}: {trial.seconds:.1f} s, {trial.operations} operations, "
        f"{trial.unknown} unknown, {trial.admitted} admitted, longest pause {trial.recovery_ms} ms, "
        f"back {trial.back_ms} ms after the healing, {len(trial.violations)} violations"
    )


def as_row(trials: Sequence[Trial]) -> Row:
    """The row of one fault."""
    fault = trials[0].fault
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
        "\n".join(trial.traceback for trial in trials if trial.traceback),
    )
