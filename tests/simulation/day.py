"""One simulated park day, from a seed to violations. The same seed and profile give the same day."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from cluster.control import Control
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from tests.checker import Books, History, Operation, StoredEntry, Trimmed, Violation, check
from tests.cluster import small_park
from tests.simulation.bugs import BUGS
from tests.simulation.catalogues import catalogues
from tests.simulation.guests import (
    ARENA,
    ARENA_CAPACITY,
    GATES_OF_ZONE,
    PRODUCTS,
    QUOTA,
    QUOTA_LIMIT,
    REFUNDED,
    REFUNDED_LIMIT,
    ZONE_OF,
    People,
    Ticket,
)
from tests.simulation.loop import VirtualLoop
from tests.simulation.memory_redis import MemoryRedis
from tests.simulation.nemesis import Nemesis, Takeover
from tests.simulation.network import Network
from tests.simulation.park import Park
from tests.simulation.profiles import PROFILES
from tests.simulation.servers import Ledger
from tests.simulation.streams import Device
from tests.simulation.trace import Trace
from tests.simulation.world import as_one_world

GUESTS = 18
DEADLINES_S = 2.2
"""After this much silence no passage is awaited and no hold can lapse."""
OPEN_S = 7.0
"""How long guests arrive and the nemesis is about."""
SETTLE_S = 40.0
"""How long after healing everything may take to come to rest; a park that takes longer is not well."""


@dataclass(slots=True)
class Day:
    """What became of one day."""

    seed: int
    profile: str
    digest: str = ""
    history: History = field(default_factory=History)
    entries: list[StoredEntry] = field(default_factory=list)
    trims: list[Trimmed] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    violations: list[Violation] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    virtual_s: float = 0.0
    steps: int = 0

    @property
    def operations(self) -> int:
        """What clients asked."""
        return sum(1 for _ in self.history.of("scan", "refund", "hold", "register"))

    @property
    def unknown(self) -> int:
        """What of it ended, for the client, without an answer."""
        return sum(item.outcome == "unknown" for item in self.history.of("scan", "refund", "hold", "register"))

    @property
    def admitted(self) -> int:
        """Scans that ended with ADMIT."""
        return sum(item.answer.get("decision") == "ADMIT" for item in self.history.of("scan"))

    @property
    def recovery_ms(self) -> int:
        """The longest time from an owner's fault to the first entry of its successor; 0 without such a fault."""
        return max((_recovery_ms(self.entries, takeover) for takeover in self.takeovers), default=0)


def _recovery_ms(entries: list[StoredEntry], takeover: Takeover) -> int:
    waited = []
    for entry in entries:
        before = takeover.epochs.get(entry.partition)
        if before is None or entry.durable_ms is None or entry.durable_ms < takeover.at_ms:
            continue
        if events_pb2.LogEntry.FromString(entry.data).epoch > before:
            waited.append(entry.durable_ms - takeover.at_ms)
            break
    return min(waited, default=0)


def history_open(history: History) -> list[Operation]:
    """What was asked and never answered."""
    return [item for item in history if item.completed is None]


class Simulation:
    """Everything of one day."""

    def __init__(self, seed: int, profile: str, tell: Callable[[str], None] | None = None) -> None:
        self.chance = random.Random(f"{profile}/{seed}")
        self.day = Day(seed, profile)
        self.trace = Trace(tell)
        self.loop = VirtualLoop()
        self.network = Network(self.loop, self.chance, self.trace)
        self.loop.network = self.network
        self.stuck: list[str] = []
        config = ClusterConfig(
            "", Path("/nowhere"), self.chance.randint(1, 4), self.chance.randint(1, 2), 2, snapshot_after_events=12
        )
        self.park = Park(config, self.network, self.chance)
        history = self.day.history
        self.devices = {name: Device(name, self.network, history, self.park.clock(name)) for name in ZONE_OF}
        self.profile = PROFILES[profile]
        self.catalogues = catalogues(self.chance, change=self.profile.publishes)
        self.nemesis = Nemesis(self.park, list(self.devices.values()), self.profile, self.chance)
        self.people = People(self.park, self.devices, history, self.chance)

    async def run(self) -> None:
        """The whole day."""
        self._set_up()
        await self._publish()
        self.nemesis.prepare()
        self.park.start_all()
        supervising = asyncio.create_task(self.park.supervise())
        for device in self.devices.values():
            device.start(self.park.gateways, self.chance)
        attacking = asyncio.create_task(self.nemesis.run())
        guests = asyncio.gather(*self._crowd())
        await asyncio.sleep(OPEN_S)
        attacking.cancel()
        self.nemesis.heal()
        try:
            async with asyncio.timeout(SETTLE_S):
                await guests
        except TimeoutError:
            self.stuck = [f"{item.kind} at {item.process}" for item in history_open(self.day.history)]
            supervising.cancel()
            return
        await self._at_rest(DEADLINES_S)
        await self._last_guests()
        await self._at_rest(0.4)
        supervising.cancel()

    def _set_up(self) -> None:
        asked = {
            **self.catalogues[0].said(),
            "quotas": {QUOTA: QUOTA_LIMIT, REFUNDED: REFUNDED_LIMIT},
            "time_zone": "UTC",
        }
        self.day.history.note("park", "nobody", 0, asked)

    async def _publish(self) -> None:
        control = Control(Ledger(MemoryRedis(self.park.ledger.data)))
        keys = [control_pb2.PublicKey(key_id=small_park.KEY_ID, public_key=small_park.PUBLIC_KEY)]
        await control.publish_keys(control_pb2.PublishKeysRequest(keys=keys))
        await control.publish_catalogue(self.catalogues[0].version, self.catalogues[0].document)

    def _crowd(self) -> list[Any]:
        """Guests, copycats, forgers, registrations, refunds and orders of a day."""
        people, chance = self.people, self.chance
        coming: list[Any] = []
        for number in range(1, GUESTS + 1):
            ticket = people.issue(chance.choice(PRODUCTS), number)
            arrive_s = chance.uniform(0.5, OPEN_S - 1)
            coming.append(people.visit(ticket, arrive_s))
            if chance.random() < 0.85:
                coming.append(people.register(ticket, chance.choice((0.0, 0.1, arrive_s, arrive_s + 2))))
            if chance.random() < 0.3:
                coming.append(people.visit(ticket, max(0.0, arrive_s + chance.uniform(-0.3, 0.3))))
            if chance.random() < 0.25:
                coming.append(people.refund(ticket, max(0.0, arrive_s + chance.uniform(-0.5, 0.5))))
        forged = people.issue("day", GUESTS + 1)
        coming.append(people.visit(forged, chance.uniform(0.5, OPEN_S), forged=True))
        if self.profile.publishes:
            coming.append(people.publish(self.catalogues[1:], OPEN_S))
        for _ in range(6):
            coming.append(people.order(chance.randint(1, 2), chance.uniform(0, OPEN_S), chance.uniform(0, 3.5)))
        return coming

    async def _last_guests(self) -> None:
        """More ask than there is: zone and quota must end exactly full."""
        people, now_ms = self.people, self.people.now_ms()
        # All of one partition, or of all: units that lie idle in others must be found by whoever asks.
        step = self.chance.choice((1, self.park.config.partitions))
        first = GUESTS + 2 + self.chance.randrange(4)
        shows = [people.issue("show", first + step * number) for number in range(ARENA_CAPACITY + 2)]
        await asyncio.gather(*(people.register(ticket, 0) for ticket in shows))
        await asyncio.gather(*(people.insist(ticket) for ticket in shows))
        await people.sell_twice()
        await asyncio.gather(*(people.order(1, 0, 0) for _ in range(QUOTA_LIMIT + 1)))
        self.day.history.note("full", "nobody", now_ms, {"zone": ARENA})
        for quota in (QUOTA, REFUNDED):
            self.day.history.note("full", "nobody", now_ms, {"quota": quota})

    async def _at_rest(self, still_s: float) -> None:
        """Waits until nobody has anything left to do and nothing was appended for so long: reports are receipted,
        reporting is at the end."""
        quiet_s, deadline = 0.0, self.loop.time() + SETTLE_S
        count = -1
        while quiet_s < still_s and self.loop.time() < deadline:
            await asyncio.sleep(0.2)
            busy = any(device.session.open_work for device in self.devices.values()) or self._behind()
            quiet_s = 0.0 if busy or count != len(self.park.ledger.entries) else quiet_s + 0.2
            count = len(self.park.ledger.entries)

    def _behind(self) -> bool:
        last = {entry.partition: entry.number for entry in self.park.ledger.entries}
        return any(self.park.postgres.books.offsets.get(name, 0) != number for name, number in last.items())

    def close(self) -> Day:
        """What became of it."""
        day = self.day
        day.entries, day.books = self.park.ledger.entries, self.park.postgres.books
        day.trims = self.park.ledger.trims
        day.books.postings, day.books.sold = self.people.till.postings, self.people.till.sold
        day.takeovers, day.digest = self.nemesis.takeovers, self.trace.digest
        day.virtual_s, day.steps = self.loop.time(), self.loop.steps
        failures = [*self.park.failures, *map(repr, self.loop.crashes)]
        crashes = [Violation("I8", "a server", "crashed", failure) for failure in failures]
        if self.stuck:
            what = f"{len(self.stuck)} operations are not answered {SETTLE_S:.0f} s after all faults are over"
            day.violations = [Violation("I10", "the park", what, ", ".join(self.stuck[:5])), *crashes]
        else:
            day.violations = [*check(day.history, day.entries, day.books, day.trims), *crashes]
        return day


def run_day(seed: int, profile: str, bug: str = "", tell: Callable[[str], None] | None = None) -> Day:
    """Simulates one day, with a bug planted if one is named, and checks it."""
    simulation = Simulation(seed, profile, tell)
    with ExitStack() as stack:
        stack.enter_context(as_one_world(simulation.park, simulation.chance))
        if bug:
            stack.enter_context(BUGS[bug].plant(simulation))
        simulation.loop.run(simulation.run())
    return simulation.close()


__all__ = ["GATES_OF_ZONE", "Day", "Simulation", "Ticket", "run_day"]
