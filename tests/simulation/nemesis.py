"""The nemesis: does to the park what its profile allows, at instants drawn by chance, until it is told to heal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.loop import Process, State
from tests.simulation.network import CALM
from tests.simulation.park import Park, Slot
from tests.simulation.profiles import Profile
from tests.simulation.servers import NO_TROUBLE, RemoteServer
from tests.simulation.streams import Device

STOPPED_S = (0.5, 5.0)
AWAY_S = (0.2, 2.5)
CUT_S = (0.3, 3.0)
DARK_S = (0.05, 1.5)
"""From the end of a turnstile's program to the next."""
NOTICED_S = (0.1, 1.0)
"""After this the supervisor takes a stopped owner for dead."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An owner was hit: its partitions are to come back under a later epoch."""

    at_ms: int
    epochs: dict[str, int]


class Nemesis:
    """Attacks, one method each."""

    def __init__(self, park: Park, devices: Sequence[Device], profile: Profile, chance: random.Random) -> None:
        self.park, self.devices, self.profile, self.chance = park, devices, profile, chance
        self.takeovers: list[Takeover] = []
        self._loop = park.loop
        self._stopped: list[Process] = []

    def prepare(self) -> None:
        """The weather of the day."""
        park, skew = self.park, self.profile.skew_ms
        park.network.weather, park.deadlines = self.profile.weather, self.profile.deadlines
        park.ledger.trouble, park.postgres.trouble = self.profile.ledger, self.profile.postgres
        for name in [*(slot.name for slot in park.slots), *self._gates()]:
            park.skew_ms[name] = self.chance.randint(-skew, skew)

    def _gates(self) -> list[str]:
        return ["main", "main-2", "side", "arena", "arena-2", "ride"]

    async def run(self) -> None:
        """Attacks until cancelled."""
        while self.profile.attacks:
            await asyncio.sleep(self.chance.uniform(*self.profile.every_s))
            attack = self.chance.choice(self.profile.attacks)
            self.park.network.trace.note(self._loop.time(), "attack", attack)
            getattr(self, attack)()

    def heal(self) -> None:
        """Good weather, no cut, and whoever was stopped goes on."""
        park = self.park
        park.network.weather = CALM
        park.network.cut.clear()
        park.ledger.trouble = park.postgres.trouble = NO_TROUBLE
        self.wake()
        for server in (park.ledger, park.postgres):
            self._loop.continue_process(server.process)

    # Owners

    def kill_owner(self) -> None:
        self._kill(self._hit(self.park.owners))

    def stop_owner(self) -> None:
        self._stop(self._hit(self.park.owners))

    def hang_owner(self) -> None:
        self._hang(self._hit(self.park.owners))

    def hang_quota(self) -> None:
        self._hang(self.park.quota)

    def double_owner(self) -> None:
        self.park.start(self._hit(self.park.owners))

    def wake(self) -> None:
        """All that were stopped go on, also those that have a successor."""
        for process in self._stopped:
            self._loop.continue_process(process)
        self._stopped.clear()

    def _hit(self, slots: Sequence[Slot]) -> Slot:
        """Chooses an owner and notes what it owned."""
        slot = self.chance.choice(slots)
        number, config = self.park.owners.index(slot), self.park.config
        heads = self.park.ledger.data
        names = config.partition_names[number :: config.owners]
        epochs = {name: int(heads.hget(f"pg:{{{name}}}:head", "epoch") or 0) for name in names}
        self.takeovers.append(Takeover(int(self._loop.time() * 1_000), epochs))
        return slot

    # The quota owner, gateways, reporting

    def kill_quota(self) -> None:
        self._kill(self.park.quota)

    def stop_quota(self) -> None:
        self._stop(self.park.quota)

    def double_quota(self) -> None:
        self.park.start(self.park.quota)

    def kill_gateway(self) -> None:
        self._kill(self.chance.choice(self.park.gateway_slots))

    def kill_reporting(self) -> None:
        self._kill(self.park.reporting)

    def stop_reporting(self) -> None:
        self._stop(self.park.reporting)

    def double_reporting(self) -> None:
        self.park.start(self.park.reporting)

    def restart_gate(self) -> None:
        """A turnstile's program ends, with whatever is on its way, and another begins."""
        device, away_s = self.chance.choice(self.devices), self.chance.uniform(*DARK_S)
        if device.is_up:
            device.crash()
            self._loop.call_later(away_s, device.start, self.park.gateways, self.chance)

    def _kill(self, slot: Slot) -> None:
        if slot.present is not None:
            self._loop.kill(slot.present)

    def _stop(self, slot: Slot) -> None:
        """Stopped; after a while it is taken for dead and replaced; after another it goes on."""
        process = slot.present
        if process is None or process.state is not State.RUNNING:
            return
        self._loop.stop_process(process)
        self._stopped.append(process)
        self._loop.call_later(self.chance.uniform(*NOTICED_S), self._replace, slot, process)
        self._loop.call_later(self.chance.uniform(*STOPPED_S), self._loop.continue_process, process)

    def _hang(self, slot: Slot) -> None:
        """Stopped for good, its connections open."""
        if slot.present is not None:
            self._loop.stop_process(slot.present)
            self._loop.call_later(self.chance.uniform(*NOTICED_S), self._replace, slot, slot.present)

    def _replace(self, slot: Slot, process: Process) -> None:
        if slot.present is process and process.state is State.STOPPED:
            self.park.start(slot)

    # Servers, ways, clocks

    def stop_ledger(self) -> None:
        self._pause(self.park.ledger)

    def stop_postgres(self) -> None:
        self._pause(self.park.postgres)

    def _pause(self, server: RemoteServer) -> None:
        self._loop.stop_process(server.process)
        self._loop.call_later(self.chance.uniform(*AWAY_S), self._loop.continue_process, server.process)

    def cut(self) -> None:
        """Both ways between two processes."""
        one, other = self._two()
        self._cut({(one, other), (other, one)})

    def cut_replies(self) -> None:
        """One way only: what is asked arrives, what is answered does not."""
        self._cut({self._two()})

    def _two(self) -> tuple[str, str]:
        present = [slot.present.name for slot in self.park.slots if slot.present is not None]
        one = self.chance.choice(present)
        other = self.chance.choice([name for name in ("ledger", *present) if name != one])
        return (one, other) if self.chance.random() < 0.5 else (other, one)

    def _cut(self, ways: set[tuple[str, str]]) -> None:
        self.park.network.cut |= ways
        self._loop.call_later(self.chance.uniform(*CUT_S), self.park.network.cut.difference_update, ways)

    def turn_clock(self) -> None:
        """The clock of a host jumps."""
        name = self.chance.choice(list(self.park.skew_ms))
        self.park.skew_ms[name] = self.chance.randint(-self.profile.skew_ms, self.profile.skew_ms)
