"""The gate's client: carries a Session's frames over gRPC, and reconnects by itself. Decides nothing about scans."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from gateclient.credentials import Credentials
from gateclient.link_events import Commanded, Event, Instant, LinkDead, SessionLimits, Settled, Welcomed
from gateclient.session import Session
from parkgate.gate.v1 import gate_pb2 as pb
from parkgate.gate.v1 import gate_pb2_grpc
from ticketcore.errors import InvalidInputError, NotPermittedError, ParkgateError, UnavailableError

SOFTWARE = "parkgate-gate 0.1"
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
"""Between attempts on a full round of addresses; the wait is a random share of the cap, so a thousand gates that lost
one gateway do not come back in step."""
CONNECT_TIMEOUT_S = 5.0
FAREWELL_S = 2.0
TICK_S = 0.05
IDLE_TICK_S = 0.25
"""How finely deadlines of seconds are kept."""

Call = grpc.aio.StreamStreamCall[pb.ClientFrame, pb.ServerFrame]


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Whom to speak for and to. `addresses` are `host:port`, tried in turn; the first is tried first."""

    gate_ids: tuple[str, ...]
    addresses: tuple[str, ...]
    credentials: Credentials
    server_name: str = ""
    limits: SessionLimits = field(default_factory=SessionLimits)


def read_clocks() -> Instant:
    """Both clocks, now."""
    return Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


class GateClient:
    """A Checker that asks the cluster. `await start()`, then `check` and `report_passage`; `await close()` at the end.

    `on_link` is told of each change of the link: an open one's Welcome, or the reason why there is none.
    """

    def __init__(
        self,
        config: LinkConfig,
        on_link: Callable[[pb.Welcome | str], None] = lambda _: None,
        on_command: Callable[[pb.Command], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._on_link = on_link
        self._on_command = on_command
        self._jitter = jitter
        self._session = Session(config.gate_ids, SOFTWARE, config.limits)
        self._answers: dict[bytes, list[asyncio.Future[pb.Verdict]]] = {}
        self._changed = asyncio.Event()
        self._welcomed: asyncio.Future[pb.Welcome] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_failure = "no attempt was made yet"
        self._call: Call | None = None
        self._dead = ""
        self._opened = False
        self.welcome = pb.Welcome()
        self._refused = asyncio.Event()
        self.refusal: ParkgateError | None = None

    @property
    def session(self) -> Session:
        """For its counters; what it decides is the client's to carry."""
        return self._session

    async def start(self, patience_s: float = 15.0) -> pb.Welcome:
        """Connects and answers the first Welcome.

        Raises:
            NotPermittedError: the cluster refuses this device for these gates.
            InvalidInputError: the cluster does not understand this client.
            UnavailableError: no gateway answered within `patience_s`.
        """
        self._tasks = [asyncio.create_task(self._keep_linked()), asyncio.create_task(self._keep_time())]
        try:
            async with asyncio.timeout(patience_s):
                return await asyncio.shield(self._welcomed)
        except TimeoutError as error:
            addresses = ", ".join(self._config.addresses)
            raise UnavailableError(
                f"no gateway answered at {addresses} within {patience_s:g} s: {self._last_failure}"
            ) from error

    async def check(self, scan: pb.Scan) -> pb.Verdict:
        """See Checker."""
        answer: asyncio.Future[pb.Verdict] = asyncio.get_running_loop().create_future()
        scan_id, events = self._session.submit(scan, read_clocks())
        self._answers.setdefault(scan_id, []).append(answer)
        self._handle(events)
        self._changed.set()
        return await answer

    def report_passage(self, report: pb.PassageReport) -> None:
        """See Checker."""
        self._session.report_passage(report, read_clocks())
        self._changed.set()

    async def wait_refused(self) -> None:
        """Waits until the cluster refuses this client for good; `refusal` then says why."""
        await self._refused.wait()

    async def close(self, patience_s: float = FAREWELL_S) -> int:
        """Waits for the receipts still due, at most `patience_s`, and hangs up; answers how many did not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._session.unreceipted and self.refusal is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._welcomed.done() and not self._welcomed.cancelled():
            self._welcomed.exception()
        return self._session.unreceipted

    # The link.

    async def _keep_linked(self) -> None:
        failures = 0
        for address in itertools.cycle(self._config.addresses):
            self._opened = False
            try:
                await self._one_link(address)
            except (NotPermittedError, InvalidInputError) as error:
                self._give_up(error)
                return
            except UnavailableError as error:
                self._last_failure = str(error)
                self._on_link(str(error))
            failures = 0 if self._opened else failures + 1
            await asyncio.sleep(self._backoff_s(failures) * self._jitter())

    def _backoff_s(self, failures: int) -> float:
        rounds = failures // len(self._config.addresses)
        return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(rounds, 10)))

    async def _one_link(self, address: str) -> None:
        """One stream from Hello to its end; always ends in an exception."""
        async with self._config.credentials.channel(address, self._config.server_name) as channel:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    call = gate_pb2_grpc.GateServiceStub(channel).Stream(wait_for_ready=False)
                    await call.wait_for_connection()
            except TimeoutError as error:
                raise UnavailableError(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s") from error
            except grpc.aio.AioRpcError as error:
                raise _as_ours(error, address) from error
            self._session.connected(read_clocks())
            self._call, self._dead = call, ""
            try:
                await self._carry(call, address)
            finally:
                self._call = None
                self._session.disconnected(read_clocks())
                call.cancel()

    async def _carry(self, call: Call, address: str) -> None:
        writer = asyncio.create_task(self._write(call))
        try:
            async for frame in call:
                self._handle(self._session.received(frame, read_clocks()))
                self._changed.set()
        except grpc.aio.AioRpcError as error:
            raise _as_ours(error, address) from error
        except asyncio.CancelledError:
            if not self._dead or _is_being_cancelled():
                raise
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        raise UnavailableError(f"{address}: {self._dead or 'the gateway ended the stream'}")

    async def _write(self, call: Call) -> None:
        """Sends what the session wants sent. Ends with the call, whose reader knows why it ended."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                self._changed.clear()
                now = read_clocks()
                while (frame := self._session.next_frame(now)) is not None:
                    await call.write(frame)
                await self._wait_for_change()

    async def _keep_time(self) -> None:
        """Deadlines pass with no link too, and while a write is stuck."""
        while True:
            self._handle(self._session.tick(read_clocks()))
            await asyncio.sleep(TICK_S if self._session.open_work else IDLE_TICK_S)

    async def _wait_for_change(self) -> None:
        wake_ms = self._session.next_wake_ms()
        wait_s = None if wake_ms is None else max(wake_ms - read_clocks().monotonic_ms, 0) / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Settled(verdict):
                    for answer in self._answers.pop(verdict.scan_id, ()):
                        if not answer.done():
                            answer.set_result(verdict)
                case Welcomed(welcome):
                    self._greet(welcome)
                case Commanded(command):
                    self._on_command(command)
                case LinkDead(why):
                    self._dead = why
                    if self._call is not None:
                        self._call.cancel()

    def _greet(self, welcome: pb.Welcome) -> None:
        self._opened = True
        self.welcome = welcome
        self._on_link(welcome)
        if not self._welcomed.done():
            self._welcomed.set_result(welcome)

    def _give_up(self, error: ParkgateError) -> None:
        self.refusal = error
        self._refused.set()
        self._on_link(str(error))
        if not self._welcomed.done():
            self._welcomed.set_exception(error)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _as_ours(error: grpc.aio.AioRpcError, address: str) -> ParkgateError:
    """A stream's end, by what the gate can do about it."""
    code, details = error.code(), (error.details() or "").strip()
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return NotPermittedError(f"{address} refuses this device: {details}")
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
        return InvalidInputError(f"{address} does not take this stream ({code.name}): {details}")
    return UnavailableError(f"{address}: {_plain(details) or code.name}")


def _plain(details: str) -> str:
    """What a connection failure means, in words; gRPC's own text where nothing better is known."""
    lower = details.lower()
    if "certificate_verify_failed" in lower or "certificate signature failure" in lower:
        return "its certificate is not signed by the CA in the certificate folder (ca.pem)"
    if "hostname" in lower or "peer name" in lower:
        return "its certificate is for another name; give that name with --server-name"
    if "dns resolution failed" in lower or "name resolution" in lower:
        return "no such host"
    if "connection refused" in lower:
        return "nothing listens there"
    if "handshak" in lower or "ssl" in lower:
        return f"no TLS connection: {details}"
    return details
