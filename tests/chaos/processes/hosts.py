"""Faults of two hosts: cut wires, lost nodes, zombies, clocks that jump, and actors that move."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from tests.chaos.processes.faults import Fault, Heal, Inject, nothing, signal_all
from tests.chaos.processes.namespace import Way
from tests.chaos.processes.park import Park
from tests.chaos.processes.site import Site

CUT_S = (2.5, 3.5)
PAST_FAIL_OVER_S = (8.0, 9.0)
"""Ray's health check gives a node up after some 4 s, and its partitions are elsewhere after some 6 s."""
LOST_S = (7.0, 8.0)
HEADLESS_S = (3.0, 4.0)
CLOCK_S = (1.5, 2.0)
JUMPS_S = (60, 100)
"""Within the two minutes beyond which a scan is refused as CLOCK_SKEW."""
SPREAD_WITHIN_S = 40.0


def two_host_faults(site: Site) -> list[Fault]:
    """All of them. Each leaves both nodes in the cluster and partitions on both."""
    others = [
        Fault(
            "lose-head",
            "Ray's head is lost with all that it knew; it starts anew, and the other node joins it again",
            _losing_head(site),
            HEADLESS_S,
            lambda park: _join(site, park),
        ),
        Fault("clock-jump", "the clock of a node jumps back and forth by up to 100 s", _jumping(site), CLOCK_S),
        Fault("roll", "a rolling restart: every actor is ended, one after the other", _rolling(site)),
    ]
    return [replace(fault, hosts=2) for fault in (*_cuts(site), *_losses(site), *others)]


def _cuts(site: Site) -> list[Fault]:
    """Wires that are cut for a while, both ways or for what is answered only."""
    wire = site.namespace

    def fault(name: str, says: str, cut: Callable[[Park], None]) -> Fault:
        return Fault(name, says, _cutting(site, cut), CUT_S)

    def gate(park: Park) -> Way:
        return Way(park.stack.settings.gate_port, inside=True)

    def owners_here(park: Park) -> list[Way]:
        return [way for way in site.link_ways(park) if way.inside]

    return [
        fault("cut-ledger", "an owner's node cannot reach the ledger", lambda _: wire.cut(site.ledger_way)),
        fault(
            "cut-ledger-replies",
            "an owner's appends arrive, their answers do not",
            lambda _: wire.cut_arriving(site.ledger_way),
        ),
        fault(
            "cut-links",
            "gateways and owners of two nodes cannot reach each other",
            lambda park: wire.cut(*site.link_ways(park)),
        ),
        fault(
            "cut-link-replies",
            "owners of the other node are asked, their answers do not arrive",
            lambda park: wire.cut_leaving(*owners_here(park)),
        ),
        fault("cut-gates", "the gates cannot reach a gateway", lambda park: wire.cut(gate(park))),
        fault(
            "cut-gate-replies",
            "scans reach a gateway, its verdicts do not reach the gates",
            lambda park: wire.cut_leaving(gate(park)),
        ),
        fault("cut-postgres", "a node cannot reach Postgres", lambda _: wire.cut(site.postgres_way)),
    ]


def _losses(site: Site) -> list[Fault]:
    """Nodes that are given up: some are really lost, others come back as zombies."""

    def fault(name: str, says: str, inject: Inject) -> Fault:
        return Fault(name, says, _past_fail_over(site, inject), PAST_FAIL_OVER_S, lambda park: _join(site, park))

    return [
        fault(
            "zombie-cut",
            "an owner's node is cut off from Ray's head past its fail-over, but not from ledger and gates; then mended",
            _cutting(site, lambda park: _cut_from_head(site, park)),
        ),
        fault("zombie-stopped", "a whole node stands still past its fail-over and goes on", _stopping(site)),
        fault(
            "lose-wire",
            "a node's network is gone altogether",
            _cutting(site, lambda _: site.namespace.cut_all_but()),
        ),
        Fault(
            "lose-and-join",
            "a node is lost with all that ran on it; another joins, and its share of owners and gateways moves there",
            _losing(site),
            LOST_S,
        ),
    ]


def _cutting(site: Site, cut: Callable[[Park], None]) -> Inject:
    async def inject(park: Park, chance: random.Random) -> Heal:
        await asyncio.to_thread(cut, park)

        async def heal() -> None:
            if not await asyncio.to_thread(site.namespace.mend):
                raise RuntimeError("the wire was cut, but nobody had anything to say on it: nothing was tried")

        return heal

    return inject


def _cut_from_head(site: Site, park: Park) -> None:
    """What Ray's servers say to each other is dropped: all but what the park's own parts do."""
    gate = Way(park.stack.settings.gate_port, inside=True)
    site.namespace.cut_all_but(site.ledger_way, site.postgres_way, gate, *site.link_ways(park))


def _stopping(site: Site) -> Inject:
    async def inject(park: Park, chance: random.Random) -> Heal:
        stopped = site.namespace.processes()
        signal_all(stopped, signal.SIGSTOP)

        async def heal() -> None:
            signal_all(stopped, signal.SIGCONT)

        return heal

    return inject


def _past_fail_over(site: Site, inject: Inject) -> Inject:
    """Heals no sooner than the other node has all partitions: else nothing was tried."""

    async def longer(park: Park, chance: random.Random) -> Heal:
        heal = await inject(park, chance)

        async def later() -> None:
            try:
                await _until(lambda: site.hosts(park) == {site.namespace.here})
            finally:
                await heal()

        return later

    return longer


def _losing(site: Site) -> Inject:
    async def inject(park: Park, chance: random.Random) -> Heal:
        site.kill_second()

        async def heal() -> None:
            await asyncio.to_thread(site.join)
            await _rebalance(site, park)
            await _until(lambda: site.is_spread(park) and site.gateways_serve(park))

        return heal

    return inject


def _losing_head(site: Site) -> Inject:
    """Healed is what its operator's unit does: the head is started again. The rest is the park's."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        site.kill_head()

        async def heal() -> None:
            await asyncio.to_thread(site.start_head)

        return heal

    return inject


def _jumping(site: Site) -> Inject:
    async def inject(park: Park, chance: random.Random) -> Heal:
        for direction in chance.sample((1, -1), 2):
            site.clock.turn(direction * chance.randint(*JUMPS_S))
            await asyncio.sleep(chance.uniform(*CLOCK_S))

        async def heal() -> None:
            site.clock.turn(0)

        return heal

    return inject


def _rolling(site: Site) -> Inject:
    async def inject(park: Park, chance: random.Random) -> Heal:
        await _rebalance(site, park, "--all")
        return nothing

    return inject


async def _rebalance(site: Site, park: Park, *more: str) -> None:
    """The next is only ended when this one serves again."""
    await asyncio.to_thread(lambda: park.stack.parkgate("rebalance", *more, environ=site.environ))


async def _join(site: Site, park: Park) -> None:
    """Another node joins in the place of one that was given up, and its share moves to it."""
    await _until(lambda: not site.namespace.processes())
    await asyncio.to_thread(site.join)
    await _rebalance(site, park)
    await _until(lambda: site.is_spread(park) and site.gateways_serve(park))


async def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SPREAD_WITHIN_S
    while not await asyncio.to_thread(done):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the actors are not where they should be after {SPREAD_WITHIN_S:.0f} s")
        await asyncio.sleep(0.2)
