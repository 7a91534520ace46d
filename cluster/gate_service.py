"""The gate service: streams and dry runs. Frames are bytes here, so that one for a single owner travels as it came.

A shell: it checks who is calling and the form of what arrives, and leaves every decision to the owners.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError

from cluster.control import Control
from cluster.gate_session import MAX_ITEMS_IN_FRAME, Dispatcher, Outbox
from cluster.identity import Identity, Revoked, identity_of, refused
from cluster.owner import wall_clock_ms
from cluster.partition import partition_of_scan
from cluster.routes import Routes
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import Mode
from ticketcore.catalogue import Catalogue, Gate
from ticketcore.displays import Display, default_display
from ticketcore.errors import (
    InvalidInputError,
    NotFoundError,
    NotPermittedError,
    ParkgateError,
    UnavailableError,
    impossible,
)
from ticketcore.reasons import Reason
from ticketcore.status import status_of

SERVICE = "parkgate.gate.v1.GateService"
FRAME_TIMEOUT_S = 2.0
"""After this a frame's outcome is unknown and the gate is told to retry; take-over of an owner takes longer."""
HELLO_TIMEOUT_S = 10.0
LAST_WRITES_TIMEOUT_S = 2.0
"""For a client that ends its stream and does not read what it is still told."""
MAX_GATES = 64
MAX_UNREAD = 64
"""Frames that a client may leave unread: its answers, and some dozen commands, which come when modes change."""
MAX_STREAMS = 10_000
"""Streams of one gateway, each some 60 kB. Far above any park's gates: a bound, not a target."""
MAX_FRAME_BYTES = 1024 * 1024
"""A thousand scans take some 130 kB. Frames of many streams share a link, so none may be much larger."""
log = structlog.get_logger("cluster.gateway")

Context = grpc.aio.ServicerContext[Any, Any]


class GateService:
    """Serves gates on one gateway."""

    def __init__(self, name: str, control: Control, routes: Routes, revoked: Revoked) -> None:
        self.name = name
        self.streams = 0
        self.frames = 0
        self.timeouts = 0
        self._opening = 0
        self._control = control
        self._routes = routes
        self._revoked = revoked
        self._dispatcher = Dispatcher(routes, FRAME_TIMEOUT_S)
        self._outboxes: dict[Outbox, list[Gate]] = {}
        self._welcomed: Catalogue | None = None
        self._common = b""
        self._callers: dict[Outbox, tuple[Identity, asyncio.Task[Any] | None]] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        """What the server registers."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
                "DryRun": grpc.unary_unary_rpc_method_handler(
                    self.dry_run,
                    request_deserializer=gate_pb2.DryRunRequest.FromString,
                    response_serializer=gate_pb2.DryRunResponse.SerializeToString,
                ),
            },
        )

    # Streams

    async def stream(self, _requests: object, context: Context) -> None:
        """One gate's stream."""
        self._opening += 1
        try:
            gates, hello, identity = await self._open(context)
        except ParkgateError as error:
            await abort(context, error)
        finally:
            self._opening -= 1
        outbox = Outbox()
        self._outboxes[outbox] = gates
        self._callers[outbox] = (identity, asyncio.current_task())
        self.streams += 1
        writer = asyncio.create_task(_write(context, outbox))
        try:
            outbox.put(self._welcome(gates))
            await self._read(context, outbox, [gate.number for gate in gates], hello)
            await _written(writer, outbox)
        except ParkgateError as error:
            await _end_with(error, context, writer, outbox)
        except asyncio.CancelledError:
            if outbox.ended_by is None:
                raise
            await _end_with(outbox.ended_by, context, writer, outbox)
        finally:
            self.streams -= 1
            del self._outboxes[outbox], self._callers[outbox]
            writer.cancel()

    async def _open(self, context: Context) -> tuple[list[Gate], bytes, Identity]:
        # The hello is read before anybody is refused: a client whose first write meets a stream that has ended sees a
        # fault of its library instead of the reason.
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                raw = await context.read()
        except TimeoutError as error:
            raise InvalidInputError(f"no hello came within {HELLO_TIMEOUT_S:.0f} s") from error
        if raw is grpc.aio.EOF:
            raise InvalidInputError("the stream ended before its hello")
        identity = identity_of(context.auth_context())
        self._revoked.check(identity)
        if self.streams + self._opening > MAX_STREAMS:
            raise UnavailableError(f"gateway {self.name} serves {MAX_STREAMS} streams and no more: try another")
        frame = _parse(raw)
        if not frame.HasField("hello"):
            raise InvalidInputError("the first frame of a stream must hold a hello")
        return self._gates(frame.hello, identity), raw, identity

    def _gates(self, hello: gate_pb2.Hello, identity: Identity) -> list[Gate]:
        catalogue = self._control.catalogue
        if catalogue is None:
            raise UnavailableError("no catalogue is in force yet; publish one first", 1_000)
        if not 1 <= len(hello.gate_ids) <= MAX_GATES:
            raise InvalidInputError(f"a hello names 1 to {MAX_GATES} gates, this one {len(hello.gate_ids)}")
        gates: list[Gate] = []
        for gate_id in hello.gate_ids:
            if gate_id not in identity.of("gate"):
                raise NotPermittedError(
                    f"the certificate of {identity.label} does not speak for gate {gate_id!r}, only for "
                    f"{', '.join(sorted(identity.of('gate'))) or 'none'}: enrol the device for it"
                )
            gate = catalogue.gates.get(gate_id)
            if gate is None:
                raise NotFoundError(f"gate {gate_id!r} is not in catalogue {self._control.catalogue_version}")
            gates.append(gate)
        return gates

    def _welcome(self, gates: list[Gate]) -> bytes:
        frame = gate_pb2.ServerFrame()
        welcome = frame.welcome
        welcome.server_time_ms = wall_clock_ms()
        welcome.key_ids.extend(self._control.ring.key_ids)
        welcome.modes.extend(self._modes(gates))
        welcome.gateway = self.name
        assert self._control.catalogue is not None
        return self._common_welcome(self._control.catalogue) + frame.SerializeToString()

    def _common_welcome(self, catalogue: Catalogue) -> bytes:
        """What the welcomes of all gates share: most of them, and put together once, for thousands may connect at the
        same moment. Protobuf joins the two parts."""
        if self._welcomed is not catalogue:
            frame = gate_pb2.ServerFrame()
            welcome = frame.welcome
            welcome.catalogue_version = self._control.catalogue_version
            welcome.displays.extend(_display(catalogue, reason) for reason in Reason)
            welcome.time_zone = str(catalogue.venue.time_zone)
            welcome.gate_names.update({gate.number: gate.name for gate in catalogue.gates.values()})
            welcome.product_names.update({product.number: product.name for product in catalogue.products.values()})
            self._welcomed, self._common = catalogue, frame.SerializeToString()
        return self._common

    def _modes(self, gates: list[Gate]) -> list[gate_pb2.GateMode.ValueType]:
        return [int(self._control.modes.get(gate.number, Mode.OPEN)) for gate in gates]  # type: ignore[misc]

    async def _read(self, context: Context, outbox: Outbox, gate_numbers: list[int], first: bytes) -> None:
        raw: Any = first
        while raw is not grpc.aio.EOF:
            frame = _parse(raw)
            if raw is not first and frame.HasField("hello"):
                raise InvalidInputError("a stream has one hello, in its first frame: open another stream")
            items = len(frame.scans) + len(frame.passages)
            if items:
                if outbox.is_full:
                    await outbox.room()
                self.frames += 1
                answer = outbox.asked(items)
                self._dispatcher.send(raw, frame, gate_numbers, answer)
            if frame.HasField("heartbeat"):
                await outbox.room()
                outbox.put(gate_pb2.ServerFrame(heartbeat=frame.heartbeat).SerializeToString())
            raw = await context.read()
        # The client has finished sending: whatever is still in flight is answered before the stream closes.
        await outbox.drained()

    # Dry runs

    async def dry_run(self, request: gate_pb2.DryRunRequest, context: Context) -> gate_pb2.DryRunResponse:
        """Answers what a scan would be told now."""
        try:
            identity = identity_of(context.auth_context())
            self._revoked.check(identity)
            return await self._dry_run(request, identity)
        except ParkgateError as error:
            await abort(context, error)

    async def _dry_run(self, request: gate_pb2.DryRunRequest, identity: Identity) -> gate_pb2.DryRunResponse:
        catalogue = self._control.catalogue
        if catalogue is None:
            raise UnavailableError("no catalogue is in force yet; publish one first", 1_000)
        if not identity.of("service") and request.gate_id not in identity.of("gate"):
            raise NotPermittedError(f"the certificate of {identity.label} does not speak for gate {request.gate_id!r}")
        gate = catalogue.gates.get(request.gate_id)
        if gate is None:
            raise NotFoundError(f"gate {request.gate_id!r} is not in catalogue {self._control.catalogue_version}")
        request.scan.lane = 0
        table = self._routes.table()
        link = table[partition_of_scan(request.scan.token, request.scan.scan_id, len(table))]
        if link is None:
            raise UnavailableError("the owner of this ticket is away")
        call = link_pb2.LinkRequest()
        call.dry_run.client_frame = gate_pb2.ClientFrame(scans=[request.scan]).SerializeToString()
        call.dry_run.gate_numbers.append(gate.number)
        answer = await link.call(call, FRAME_TIMEOUT_S)
        verdict = gate_pb2.ServerFrame.FromString(answer.dry_run.server_frame).verdicts[0]
        return gate_pb2.DryRunResponse(verdict=verdict, display=_display(catalogue, Reason(verdict.reason)))

    # By the clock

    def expire(self) -> None:
        """Answers RETRY to frames whose time is over; called several times a second."""
        self.timeouts += self._dispatcher.expire(asyncio.get_running_loop().time())

    def end_revoked(self) -> None:
        """Ends the streams of certificates that were revoked since they were opened. Raises: DamagedDataError, if the
        list cannot be read, and never could."""
        serials = self._revoked.serials() if self._callers else frozenset[int]()
        for outbox, (identity, _) in self._callers.items():
            if identity.serial in serials:
                self._end(outbox, refused(identity))

    def _end(self, outbox: Outbox, why: ParkgateError) -> None:
        """Ends a stream from our side. What it has in flight is decided all the same, and told by its scan ids."""
        if outbox.ended_by is None:
            identity, task = self._callers[outbox]
            log.warning("stream ended", gateway=self.name, caller=identity.label, error=str(why))
            outbox.ended_by = why
            if task is not None:
                task.cancel()

    def announce(self) -> None:
        """Tells every stream what is in force now."""
        for outbox, gates in self._outboxes.items():
            if outbox.unread >= MAX_UNREAD:
                self._end(outbox, UnavailableError(f"{outbox.unread} frames were not read: connect again"))
                continue
            command = gate_pb2.Command(catalogue_version=self._control.catalogue_version, modes=self._modes(gates))
            outbox.put(gate_pb2.ServerFrame(command=command).SerializeToString())


async def abort(context: Context, error: ParkgateError) -> NoReturn:
    """Ends a call with the status of an error and its message for people."""
    await context.abort(getattr(grpc.StatusCode, status_of(error).grpc), str(error))
    impossible("abort raises")


async def _write(context: Context, outbox: Outbox) -> None:
    while (frame := await outbox.next()) is not None:
        await context.write(frame)


async def _written(writer: asyncio.Task[None], outbox: Outbox) -> None:
    """What a stream still has to say is written before it ends: gRPC cannot send a status while it sends a frame."""
    outbox.close()
    await asyncio.wait((writer,), timeout=LAST_WRITES_TIMEOUT_S)


async def _end_with(error: ParkgateError, context: Context, writer: asyncio.Task[None], outbox: Outbox) -> None:
    """Ends a stream with an error, after what it still has to say. A client that reads nothing cannot be told either,
    and is not waited for."""
    await _written(writer, outbox)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WRITES_TIMEOUT_S):
            await abort(context, error)


def _parse(raw: bytes) -> gate_pb2.ClientFrame:
    if len(raw) > MAX_FRAME_BYTES:
        raise InvalidInputError(f"a frame has at most {MAX_FRAME_BYTES} bytes, this one {len(raw)}")
    try:
        frame = gate_pb2.ClientFrame.FromString(raw)
    except DecodeError as error:
        raise InvalidInputError("a frame is not a parkgate.gate.v1.ClientFrame") from error
    if len(frame.scans) > MAX_ITEMS_IN_FRAME or len(frame.passages) > MAX_ITEMS_IN_FRAME:
        raise InvalidInputError(
            f"a frame holds at most {MAX_ITEMS_IN_FRAME} scans and as many passages, this one {len(frame.scans)} and "
            f"{len(frame.passages)}: send them in several frames"
        )
    return frame


def _display(catalogue: Catalogue, reason: Reason) -> gate_pb2.Display:
    shown: Display = default_display(reason)
    own = catalogue.gate_texts.get(reason.name if reason is not Reason.NONE else "ADMIT")
    return gate_pb2.Display(
        reason=int(reason),  # type: ignore[arg-type]
        decision=int(shown.decision),  # type: ignore[arg-type]
        lamp=int(shown.lamp),  # type: ignore[arg-type]
        sound=int(shown.sound),  # type: ignore[arg-type]
        guest_text=own.guest if own else shown.guest_text,
        staff_text=own.staff if own else shown.staff_text,
    )
