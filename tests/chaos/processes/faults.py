"""The nemesis: the table of faults. Each says what it does, how long it lasts, and how to bring it about.

`inject` does the damage and returns what heals it. Faults by signals are here; those that need more of the machine are
in files of their own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ops.processes import Identity, is_alive, send
from tests.chaos.processes.park import Park

Heal = Callable[[], Awaitable[None]]
Inject = Callable[[Park, random.Random], Awaitable[Heal]]
Hook = Callable[[Park], Awaitable[None]]
MOMENT = (0.3, 0.6)
"""What was killed comes back by itself: the crowd is only given time to notice."""
STOPPED_S = (2.0, 3.0)
NOTICED_WITHIN_S = 30.0


async def nothing() -> None:
    """The park heals this by itself."""


async def as_it_is(park: Park) -> None:
    """Nothing has to be put in order."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table. `after` puts in order, when the crowd has gone, what an operator would."""

    name: str
    says: str
    inject: Inject
    hold_s: tuple[float, float] = MOMENT
    after: Hook = as_it_is
    hosts: int = 1


async def calm(park: Park, chance: random.Random) -> Heal:
    """No fault."""
    return nothing


def kill(*names: str) -> Inject:
    """SIGKILL of all these at once."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        for who in [park.stack.process(name) for name in names]:
            os.kill(who.pid, signal.SIGKILL)
        return nothing

    return inject


def stop(name: str) -> Inject:
    """SIGSTOP of a process and all below it: its connections stay open and nothing answers. SIGCONT heals."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        stopped = [park.stack.process(name), *park.stack.below(name)]
        signal_all(stopped, signal.SIGSTOP)

        async def heal() -> None:
            signal_all(stopped, signal.SIGCONT)

        return heal

    return inject


def hang(*names: str) -> Inject:
    """SIGSTOP for good: they must be taken for dead and replaced, although their connections are open. Healed once
    those very processes are gone."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        hung = [park.stack.process(name) for name in names]
        signal_all(hung, signal.SIGSTOP)

        async def heal() -> None:
            deadline = time.monotonic() + NOTICED_WITHIN_S
            while any(map(is_alive, hung)) and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            left = [name for name, who in zip(names, hung, strict=True) if send(who, signal.SIGCONT)]
            if left:
                raise TimeoutError(f"{left} stand still, and are not replaced within {NOTICED_WITHIN_S:.0f} s")

        return heal

    return inject


def signal_all(processes: list[Identity], number: signal.Signals) -> None:
    """To those that still run."""
    for who in processes:
        send(who, number)


KILLED = {
    "owner": "a partition owner is killed",
    "quota": "the quota and capacity owner is killed",
    "gateway": "a gateway is killed under its streams",
    "reporting actor": "the reporting workers are killed",
    "valkey": "the ledger is killed",
    "postgres": "Postgres is killed",
    "sales": "the sales service is killed",
    "raylet": "Ray's raylet is killed, and with it every actor of the node",
    "gcs_server": "Ray's head is lost: its control server is killed",
}
STOPPED = {
    "owner": "an owner stands still and goes on",
    "quota": "the quota and capacity owner stands still and goes on",
    "gateway": "a gateway stands still under its streams and goes on",
    "reporting actor": "the reporting workers stand still and go on",
    "raylet": "the raylet and all actors of the node stand still and go on",
    "valkey": "the ledger stands still and goes on",
    "postgres": "Postgres stands still and goes on, its connections open",
    "sales": "the sales service stands still and goes on",
}


def _slug(name: str) -> str:
    return name.replace(" actor", "").replace("_server", "")


ONE_NODE = [
    Fault("calm", "no fault: what a good day looks like", calm, (1.0, 2.0)),
    *(Fault(f"kill-{_slug(name)}", says, kill(name)) for name, says in KILLED.items()),
    *(Fault(f"stop-{_slug(name)}", says, stop(name), STOPPED_S) for name, says in STOPPED.items()),
    Fault("hang-owner", "an owner stands still for good and is replaced", hang("owner")),
    Fault(
        "hang-others", "the quota owner and a gateway stand still for good and are replaced", hang("quota", "gateway")
    ),
]
