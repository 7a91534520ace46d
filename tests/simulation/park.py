"""The simulated cluster: real owners, quota owner, gateways and reporting workers as processes, and who starts them.

Owners live in the real `cluster.hosting`; gateways are put together as `cluster.gateway` does it, less its
gRPC server. A `Slot` stands for the supervisor's view of one actor: it has one present incarnation, and starts another
when that is dead, or when it is told that it is (which is how two live owners come about).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from cluster.config import QUOTA_PARTITION, ClusterConfig
from cluster.control import POLL_S, Control
from cluster.control_service import ControlService
from cluster.gate_service import GateService
from cluster.gateway import EXPIRE_EVERY_S
from cluster.hosting import OwnerHost, QuotaHost
from cluster.identity import Revoked
from cluster.routes import Routes
from reporting.config import ReportingConfig
from reporting.joint import JointWriter
from reporting.worker import PartitionWorker
from tests.cluster.small_park import NOON_MS
from tests.simulation.loop import Process, State, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.servers import Ledger, LedgerServer, PostgresServer
from tests.simulation.streams import GatewayEnd
from ticketcore.errors import DamagedDataError, FencedError, TransientError

NODE = "node"
START_EVERY_S = 0.4
"""How often the supervisor calls `start`, which takes over what is missing."""
REVIVE_S = (0.2, 1.2)
PATIENCE_S = 3.0
"""A control call that takes longer has an unknown outcome for its caller."""

Body = Callable[["Slot", Process], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Slot:
    """One actor by name, whichever of its incarnations lives."""

    name: str
    body: Body
    present: Process | None = None
    all: list[Process] = field(default_factory=list)


class Park:
    """Everything that runs, and the errors that must not be."""

    def __init__(self, config: ClusterConfig, network: Network, chance: random.Random) -> None:
        self.config, self.network, self.chance = config, network, chance
        self.loop: VirtualLoop = network.loop
        self.postgres = PostgresServer(network, chance)
        self.ledger = LedgerServer(network, chance, network.trace, self.postgres.committed)
        self.skew_ms: dict[str, int] = {}
        self.failures: list[str] = []
        self.gateways = [f"gateway-{number}" for number in range(config.gateways)]
        self.owners = [Slot(f"owner-{number}", self._owner) for number in range(config.owners)]
        self.quota = Slot("quota-0", self._quota)
        self.gateway_slots = [Slot(name, self._gateway) for name in self.gateways]
        self.reporting = Slot("reporting", self._reporting)
        self.slots = [*self.owners, self.quota, *self.gateway_slots, self.reporting]
        self._numbers = count(1)
        self._reviving: set[str] = set()
        self.controls: dict[str, ControlService] = {}
        self.deadlines = False
        """Whether control calls bring their deadline, which ends them at the gateway too, or go on unheard."""

    # Incarnations

    def start_all(self) -> None:
        """Starts one incarnation of everything."""
        for slot in self.slots:
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Starts a new incarnation, whatever has become of the one before."""
        number = next(self._numbers)
        process = Process(f"{slot.name}.{number}", number)
        slot.present = process
        slot.all.append(process)
        self.loop.start(process, self._live(slot, process))

    async def _live(self, slot: Slot, process: Process) -> None:
        try:
            await slot.body(slot, process)
        except TransientError:
            pass  # as an actor whose start has failed: its process ends and another is made
        except Exception as error:  # noqa: BLE001 - whatever a process dies of is a finding
            self.failures.append(f"{process.name}: {error!r}")
        self.loop.call_soon(self.loop.kill, process, context=None)

    async def supervise(self) -> None:
        """Makes dead actors anew."""
        while True:
            await asyncio.sleep(0.2)
            for slot in self.slots:
                if slot.present is not None and slot.present.state is State.DEAD and slot.name not in self._reviving:
                    self._reviving.add(slot.name)
                    self.loop.call_later(self.chance.uniform(*REVIVE_S), self._revive, slot)

    def _revive(self, slot: Slot) -> None:
        self._reviving.discard(slot.name)
        if slot.present is not None and slot.present.state is State.DEAD:
            self.start(slot)

    def clock(self, name: str) -> Callable[[], int]:
        """The wall clock of a process, as wrong as its host's is."""
        return lambda: NOON_MS + int(self.loop.time() * 1_000) + self.skew_ms.get(name, 0)

    # Bodies

    async def _owner(self, slot: Slot, process: Process) -> None:
        number = self.owners.index(slot)
        indexes = range(number, self.config.partitions, self.config.owners)
        host = OwnerHost(process.name, self.config, NODE)
        host.owner._clock = self.clock(slot.name)
        while host.failure is None:
            if slot.present is process:  # nobody calls `start` of an incarnation that was given up
                with contextlib.suppress(TransientError):
                    await host.start(indexes)
            if host.owner.counters.damaged:
                raise DamagedDataError(str(host.owner.counters.damaged))
            await asyncio.sleep(START_EVERY_S)
        raise host.failure

    async def _quota(self, slot: Slot, process: Process) -> None:
        host = QuotaHost(self.config, NODE)
        host.owner._clock = self.clock(slot.name)
        while host.owner.failure is None:
            if slot.present is process:
                with contextlib.suppress(TransientError):
                    await host.start()
            if host.owner.damage:
                raise DamagedDataError(host.owner.damage)
            await asyncio.sleep(START_EVERY_S)
        if not isinstance(host.owner.failure, FencedError):
            raise host.owner.failure

    async def _gateway(self, slot: Slot, process: Process) -> None:
        ledger = Ledger(self.ledger.client())
        control = Control(ledger)
        routes = Routes(ledger, self.config.partition_names, NODE, None)
        await control.refresh()
        await routes.look_up()
        gates = GateService(slot.name, control, routes, Revoked(None))
        self.controls[process.name] = ControlService(self.config, ledger, control, routes, gates)
        names = frozenset(control.catalogue.gates) if control.catalogue is not None else frozenset()
        self.network.listen(lambda: GatewayEnd(gates, names), f"stream:{slot.name}")
        polls = 0.0
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            gates.expire()
            polls += EXPIRE_EVERY_S
            if polls >= POLL_S:
                polls = 0.0
                with contextlib.suppress(TransientError):
                    if await control.refresh():
                        gates.announce()

    async def _reporting(self, _slot: Slot, _process: Process) -> None:
        names = (*self.config.partition_names, QUOTA_PARTITION)
        reports, writer = ReportingConfig("", "", names, "UTC"), JointWriter("", len(names))
        await asyncio.gather(*(PartitionWorker(reports, name, writer).run() for name in names))

    # Control calls

    async def control(self, method: str, request: Any) -> Any:
        """A call of a service to one of the gateways, as its stub would make it.

        Raises:
            TimeoutError: no answer came, so the outcome is unknown.
            ParkgateError: as the service answers.
        """
        answer: asyncio.Future[Any] = self.loop.create_future()
        present = self.chance.choice(self.gateway_slots).present
        if present is not None and self.chance.random() >= self.network.weather.drop:
            delay = self.network.delay()
            self.loop.call_later(delay, self._serve, present, method, request, answer, context=present.context)
        async with asyncio.timeout(PATIENCE_S):
            return await answer

    def _serve(self, process: Process, method: str, request: Any, answer: asyncio.Future[Any]) -> None:
        service = self.controls.get(process.name)
        if service is None:
            return
        call = getattr(type(service), method).__wrapped__(service, request, None)
        task = asyncio.create_task(_outcome(call))
        task.add_done_callback(lambda done: self._answer(done, answer))
        if self.deadlines:
            self.loop.call_later(PATIENCE_S, task.cancel)

    def _answer(self, done: asyncio.Task[Any], answer: asyncio.Future[Any]) -> None:
        if not done.cancelled() and self.chance.random() >= self.network.weather.drop:
            self.loop.call_later(self.network.delay(), _settle, answer, done.result())


async def _outcome(call: Awaitable[Any]) -> Any:
    """A call's answer, or the error that its caller gets."""
    try:
        return await call
    except TransientError as error:
        return error


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
