"""A whole cluster in one thread for fuzz targets: the simulation's, on virtual time and without faults.

Owners, quota owner, links, routes, gate and control services are the real ones. A case that waits for a time-out costs
nothing, and whatever dies inside is seen at once. It is made anew after `CASES_A_DAY` cases, for its clock goes on and
what it remembers grows; then all that was logged is read back, by another owner and by reporting: what a client has
sent must not become a poison that stops whoever reads the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cluster.config import ClusterConfig
from cluster.control import Control
from cluster.control_service import ControlService
from cluster.gate_service import GateService
from cluster.owner import Owner
from cluster.quota_owner import QuotaOwner
from parkgate.cluster.v1 import control_pb2
from reporting.batch import batch_of
from reporting.log_reader import check_entries
from reporting.store import Offset
from tests.cluster import small_park
from tests.fuzz.target import require
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.memory_redis import MemoryRedis
from tests.simulation.network import Network, Weather
from tests.simulation.park import Park
from tests.simulation.servers import Ledger
from tests.simulation.trace import Trace
from tests.simulation.world import as_one_world, replaced
from ticketcore.catalogue_document import canonical_json

CASES_A_DAY = 2_000
STEP_S = 0.05
"""Virtual time that goes by after each case: 2,000 of them stay within the age at which scans are still decided."""
START_S = 1.0
UTC = ZoneInfo("UTC")


class _NoTrace(Trace):
    """Nobody replays a fuzz case from its trace: the case is its bytes."""

    def note(self, at_s: float, what: str, *details: object) -> None:
        """Notes nothing."""


class Inside:
    """A cluster that cases are tried on."""

    def __init__(self, tickets: list[bytes], number: int) -> None:
        chance = random.Random(number)
        self.loop = VirtualLoop()
        network = Network(self.loop, chance, _NoTrace(), Weather(delay_s=(0.001, 0.001)))
        self.loop.network = network
        self.park = Park(ClusterConfig("", Path("/nowhere"), 4, 2, 1), network, chance)
        self.client = Process("fuzz")
        self.owners: list[Owner | QuotaOwner] = []
        self._stack = ExitStack()
        self._stack.enter_context(as_one_world(self.park, chance))
        self._stack.enter_context(
            replaced(*((kind, "start", _seen(kind.start, self.owners)) for kind in (Owner, QuotaOwner)))
        )
        self.hurt = False
        self._checked = 0
        self.drive(self._start(tickets))

    async def _start(self, tickets: list[bytes]) -> None:
        control = Control(Ledger(MemoryRedis(self.park.ledger.data)))
        keys = [control_pb2.PublicKey(key_id=small_park.KEY_ID, public_key=small_park.PUBLIC_KEY)]
        await control.publish_keys(control_pb2.PublishKeysRequest(keys=keys))
        await control.publish_catalogue(1, canonical_json(small_park.document()))
        for slot in (*self.park.owners, self.park.quota, *self.park.gateway_slots):
            self.park.start(slot)
        await asyncio.sleep(START_S)
        issued = [control_pb2.IssuedTicket(token=token, price_minor=1_000) for token in tickets]
        if issued:
            await self.ask("RegisterTickets", control_pb2.RegisterTicketsRequest(tickets=issued))

    @property
    def control(self) -> ControlService:
        """The control service of the gateway."""
        return next(iter(self.park.controls.values()))

    @property
    def gates(self) -> GateService:
        """The gate service of the gateway."""
        return self.control._gates

    async def ask(self, method: str, request: Any) -> Any:
        """A call of a service, past the check of its certificate."""
        return await getattr(ControlService, method).__wrapped__(self.control, request, None)

    def drive(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs work to its end, and everything else until then. Raises what it raises, and what anything died of."""
        asyncio._set_running_loop(self.loop)
        try:
            task = self.loop.start(self.client, work)
            self.loop._run_until(task)
        finally:
            asyncio._set_running_loop(None)
        self.loop._tasks = [task for task in self.loop._tasks if not task.done()]
        self.loop.steps = 0
        self._require_health()
        return task.result()

    def _require_health(self) -> None:
        self.hurt = True
        require(not self.loop.crashes, f"I8: a callback died: {self.loop.crashes!r}")
        require(not self.park.failures, f"I8: a process died: {self.park.failures}")
        for owner in self.owners:
            require(owner.failure is None, f"I8: {owner.name} died: {owner.failure!r}")
        self.hurt = False

    def read_back(self) -> None:
        """All that was logged, as reporting reads it, and as other owners do that take over (I6)."""
        entries = self.park.ledger.entries[self._checked :]
        self._checked += len(entries)
        for name in {entry.partition for entry in entries}:
            mine = [entry for entry in entries if entry.partition == name]
            rows = [(b"%d-0" % entry.number, {b"e": entry.data}) for entry in mine]
            batch_of(name, check_entries(name, Offset(mine[0].number - 1, 0), rows), UTC)
        self.drive(self._take_over())

    async def _take_over(self) -> None:
        for slot in (*self.park.owners, self.park.quota):
            assert slot.present is not None
            self.loop.kill(slot.present)
            self.park.start(slot)
        await asyncio.sleep(START_S)
        await self.ask("GetStatus", control_pb2.GetStatusRequest())

    def close(self) -> None:
        """Ends it, and gives the world back."""
        asyncio._set_running_loop(self.loop)
        try:
            self.loop._sweep()
        finally:
            asyncio._set_running_loop(None)
            self._stack.close()


def _seen(start: Callable[..., Any], owners: list[Owner | QuotaOwner]) -> Callable[..., Any]:
    """An owner's `start` that is remembered, so that its death is seen."""

    async def seen(self: Any, *arguments: Any) -> None:
        owners.append(self)
        await start(self, *arguments)

    return seen


class Days:
    """One cluster after the other: a case is tried on the present one."""

    def __init__(self, tickets: list[bytes]) -> None:
        self._tickets = tickets
        self._cases = 0
        self._present: Inside | None = None

    def inside(self) -> Inside:
        """The cluster for the next case; another one after a case that hurt it."""
        if self._present is not None and self._present.hurt:
            self._present, hurt = None, self._present
            hurt.close()
        if self._present is None or self._cases % CASES_A_DAY == 0:
            self.close()
            self._present = Inside(self._tickets, self._cases)
        self._cases += 1
        return self._present

    def close(self) -> None:
        """Reads back what was logged, and ends."""
        if self._present is not None:
            present, self._present = self._present, None
            try:
                if not present.hurt:
                    present.read_back()
            finally:
                present.close()
