"""Targets in front of the cluster: frames of a gate's stream, and control calls of services."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from cluster import gate_service
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from tests.fuzz.inside import STEP_S, Days, Inside
from tests.fuzz.target import ADMITTED, Target, require
from ticketcore.errors import ParkgateError

TICKETS = [small_park.token(("day", "two-day", "rides", "show")[number % 4], 100 + number) for number in range(160)]
UNREGISTERED = [small_park.token("day", 9_000 + number) for number in range(20)]
GENUINE = frozenset((*TICKETS, *UNREGISTERED))
GATE_NAMES = ("main", "side", "arena", "ride")
STATUSES = frozenset({"INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND", "UNAVAILABLE"})
"""A stream may end with these: the client's mistake, or come back later. UNKNOWN and INTERNAL would be a crash."""
HELLO = gate_pb2.ClientFrame(hello=gate_pb2.Hello(gate_ids=GATE_NAMES, device_time_ms=small_park.NOON_MS))
RETRY_REASONS = frozenset({gate_pb2.REASON_BACKPRESSURE, gate_pb2.REASON_TIMEOUT, gate_pb2.REASON_INTERNAL_ERROR})


Ids = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""Of a frame: its scans, or their verdicts, and its passages, or their receipts."""


def _rests(heard: list[Ids], asked: Counter[Ids]) -> Iterator[Counter[Ids]]:
    """What of the asked frames is left when each heard one answers some of them, one after the other; in every way that
    this may be read, for scan ids may be the same."""
    if not heard:
        yield asked
        return
    (verdicts, receipts), *others = heard
    if not verdicts and not receipts:
        yield from _rests(others, asked)
    for scans, passages in asked:
        if verdicts[: len(scans)] == scans and receipts[: len(passages)] == passages:
            rest = (verdicts[len(scans) :], receipts[len(passages) :])
            yield from _rests([rest, *others], asked - Counter([(scans, passages)]))


class StreamContext:
    """A stream as the gate service sees it: frames that came, then its end. Keeps what is said."""

    def __init__(self, frames: list[bytes]) -> None:
        self.names = frozenset(GATE_NAMES)
        self.said: list[bytes] = []
        self.status = "OK"
        self._frames = deque(frames)

    async def read(self) -> Any:
        """The next frame, or the end."""
        return self._frames.popleft() if self._frames else grpc.aio.EOF

    async def write(self, frame: bytes) -> None:
        """Takes an answer."""
        self.said.append(frame)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the stream, as gRPC does: by an exception."""
        require(bool(details), "a stream ends without a word for people")
        self.status = code.name
        raise grpc.aio.AbortError(details)

    def auth_context(self) -> StreamContext:
        """Who is calling; see `tests.simulation.world`."""
        return self


def in_frames(data: bytes) -> Iterator[bytes]:
    """Cuts a case into frames: each behind its length in two bytes, the last one as long as there is."""
    start = 0
    while start < len(data):
        length = int.from_bytes(data[start : start + 2], "big")
        yield data[start + 2 : start + 2 + length]
        start += 2 + length


def joined(*frames: Any) -> bytes:
    """A case of these frames."""
    parts = [frame.SerializeToString() for frame in frames]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


class GateStreams:
    """Frames of one stream, against a real gate session, links and owners."""

    def __init__(self) -> None:
        self._days = Days(TICKETS)
        self._inside: Inside | None = None
        self._tokens: dict[bytes, set[bytes]] = defaultdict(set)
        """Every token that came with a scan id: an id is answered as it was first."""

    def case(self, data: bytes) -> str:
        """A stream ends in order or with a status that says why. Each frame that was taken is answered once, each of
        its scans by a decision, each refusal by a reason. ADMIT is only for a token that was issued (I7, I8)."""
        inside = self._days.inside()
        if inside is not self._inside:
            self._inside = inside
            self._tokens.clear()
        greeted = data[:1] != b"\xff"
        frames = [HELLO.SerializeToString()] * greeted + list(in_frames(data[1:]))
        context = StreamContext(frames)
        inside.drive(self._stream(inside, context))
        require(context.status == "OK" or context.status in STATUSES, f"I8: a stream ended with {context.status}")
        taken = self._taken(frames)
        answers = list(map(gate_pb2.ServerFrame.FromString, context.said))
        verdicts = [answer for answer in answers if answer.verdicts or answer.receipts]
        self._require_answered(context.status, taken, verdicts)
        told = [self._checked(verdict) for answer in verdicts for verdict in answer.verdicts]
        return ADMITTED if ADMITTED in told else (told[0] if told else context.status)

    @staticmethod
    async def _stream(inside: Inside, context: StreamContext) -> None:
        try:
            async with asyncio.timeout(60):
                await inside.gates.stream(None, context)  # type: ignore[arg-type]
        except grpc.aio.AbortError:
            pass
        await asyncio.sleep(STEP_S)

    def _taken(self, frames: list[bytes]) -> list[gate_pb2.ClientFrame]:
        """The frames up to the first that the protocol does not allow."""
        taken = []
        for raw in frames:
            try:
                frame = gate_service._parse(raw)
            except ParkgateError:
                break
            if frame.scans or frame.passages:
                taken.append(frame)
            for scan in frame.scans:
                self._tokens[scan.scan_id].add(scan.token)
        return taken

    @staticmethod
    def _require_answered(status: str, taken: list[Any], answers: list[gate_pb2.ServerFrame]) -> None:
        asked = Counter((tuple(s.scan_id for s in f.scans), tuple(p.scan_id for p in f.passages)) for f in taken)
        heard = [(tuple(v.scan_id for v in a.verdicts), tuple(r.scan_id for r in a.receipts)) for a in answers]
        require(any(True for _ in _rests(heard, asked)), "an answer came to what was not asked, or in another order")
        all_heard = status != "OK" or any(not rest for rest in _rests(heard, asked))
        require(all_heard, f"of {asked.total()} frames not all were answered")

    def _checked(self, verdict: gate_pb2.Verdict) -> str:
        reason = gate_pb2.Reason.Name(verdict.reason).removeprefix("REASON_")
        match verdict.decision:
            case gate_pb2.DECISION_ADMIT:
                genuine = {token for token in self._tokens[verdict.scan_id] if token in GENUINE}
                ids = {small_park.ticket_id(token) for token in genuine}
                require(verdict.ticket_id in ids, f"I8: ticket {verdict.ticket_id} is admitted on a token not issued")
                return ADMITTED
            case gate_pb2.DECISION_RETRY:
                require(verdict.reason in RETRY_REASONS, f"I7: RETRY for {reason}")
                require(verdict.retry_after_ms > 0, "RETRY without a time to wait")
            case gate_pb2.DECISION_REJECT | gate_pb2.DECISION_NEEDS_ACTION:
                require(verdict.reason not in (0, *RETRY_REASONS), f"I7: a refusal for {reason}")
            case decision:
                require(False, f"decision {decision} is none")
        return reason

    def close(self) -> None:
        """Ends the cluster."""
        self._days.close()


def stream_seeds() -> list[bytes]:
    seeds = []
    for number, token in enumerate((*TICKETS, *UNREGISTERED)):
        scan = small_park.scan(token, 1_000 + number, lane=number % 4)
        other = small_park.scan(TICKETS[number % 7], 5_000 + number, lane=(number + 1) % 4, persons=1)
        report = gate_pb2.PassageReport(
            scan_id=scan.scan_id, ticket_id=small_park.ticket_id(token), outcome=1 + number % 2, lane=number % 4
        )
        away = small_park.scan(token, 7_000 + number, lane=number % 4, direction=gate_pb2.DIRECTION_EXIT)
        text = gate_pb2.Scan(
            scan_id=small_park.scan_id(number), qr_text="HTTP://A PARK", scan_time_ms=scan.scan_time_ms
        )
        first = gate_pb2.ClientFrame(scans=[scan, other, text])
        second = gate_pb2.ClientFrame(scans=[away], passages=[report], heartbeat=gate_pb2.Heartbeat(count=1))
        seeds.append(b"\0" + joined(first, second))
    seeds.append(b"\xff" + joined(HELLO, gate_pb2.ClientFrame(scans=[small_park.scan(TICKETS[0], 1)])))
    return seeds


METHODS: dict[str, list[Any]] = {
    "RegisterTickets": [
        control_pb2.RegisterTicketsRequest(
            tickets=[
                control_pb2.IssuedTicket(token=token, price_minor=5, lifecycle=events_pb2.LIFECYCLE_ACTIVE)
                for token in UNREGISTERED[:3]
            ]
        )
    ],
    "ChangeTickets": [
        control_pb2.ChangeTicketsRequest(
            changes=[
                control_pb2.TicketChange(ticket_id=small_park.ticket_id(TICKETS[to]), to=to, request_id=bytes(16))
                for to in range(1, 9)
            ]
        )
    ],
    "InspectTickets": [control_pb2.InspectTicketsRequest(ticket_ids=[small_park.ticket_id(TICKETS[0]), 5])],
    "PlaceHold": [
        control_pb2.PlaceHoldRequest(
            hold_id=bytes(16),
            lines=[control_pb2.LimitedLine(quota_key="a", units=2, limit=9)],
            time_to_live_ms=900,
            catalogue_version=1,
        )
    ],
    "PinHold": [control_pb2.HoldRequest(hold_id=bytes(16))],
    "ConfirmHold": [control_pb2.HoldRequest(hold_id=bytes(16))],
    "ReleaseHold": [control_pb2.HoldRequest(hold_id=bytes(16))],
    "ChangeHolds": [
        control_pb2.ChangeHoldsRequest(
            commands=[
                control_pb2.HoldCommand(
                    place=control_pb2.PlaceHoldRequest(
                        hold_id=b"b" * 16,
                        lines=[control_pb2.LimitedLine(quota_key="b", units=1, limit=3)],
                        time_to_live_ms=900,
                    )
                ),
                control_pb2.HoldCommand(pin=control_pb2.HoldRequest(hold_id=b"b" * 16)),
                control_pb2.HoldCommand(confirm=control_pb2.HoldRequest(hold_id=b"b" * 16)),
            ]
        )
    ],
    "ReturnUnits": [
        control_pb2.ReturnUnitsRequest(request_id=bytes(16), lines=[events_pb2.QuotaLine(quota_key="b", units=1)])
    ],
    "GetQuotas": [control_pb2.GetQuotasRequest(quota_keys=["a", "b"])],
    "GetOccupancy": [control_pb2.GetOccupancyRequest()],
    "GetStatus": [control_pb2.GetStatusRequest()],
    "PublishCatalogue": [control_pb2.PublishCatalogueRequest(catalogue_version=1, document=b'{"format":1}')],
    "PublishKeys": [
        control_pb2.PublishKeysRequest(
            keys=[control_pb2.PublicKey(key_id=small_park.KEY_ID, public_key=small_park.PUBLIC_KEY)]
        )
    ],
    "SetModes": [
        control_pb2.SetModesRequest(changes=[control_pb2.ModeChange(gate_id="main", mode=gate_pb2.GATE_MODE_OPEN)])
    ],
}
NAMES = list(METHODS)


class ControlCalls:
    """Requests of services. The first byte says which call."""

    def __init__(self) -> None:
        self._days = Days(TICKETS)

    def case(self, data: bytes) -> str:
        """A call is answered, or refused by an error of ours that says what to do; nobody dies of it, now or when the
        log is read back (I8)."""
        name = NAMES[(data[0] if data else 0) % len(NAMES)]
        try:
            request = type(METHODS[name][0]).FromString(data[1:])
        except DecodeError:
            return "not protobuf"
        inside = self._days.inside()
        return str(inside.drive(self._call(inside, name, request)))

    @staticmethod
    async def _call(inside: Inside, name: str, request: Any) -> str:
        try:
            await inside.ask(name, request)
            return f"{name} answered"
        except ParkgateError as error:
            require(bool(str(error)), "an error without a word for people")
            return type(error).__name__
        finally:
            await asyncio.sleep(STEP_S)

    def close(self) -> None:
        """Ends the cluster."""
        self._days.close()


def gate_target() -> Target:
    """Frames of a gate."""
    streams = GateStreams()
    return Target("gate", "frames on a gate's stream, to the owners", streams.case, stream_seeds(), streams.close)


def control_target() -> Target:
    """Calls of services."""
    calls = ControlCalls()
    seeds = [bytes((NAMES.index(name),)) + item.SerializeToString() for name in NAMES for item in METHODS[name]]
    return Target("control", "control calls of services", calls.case, seeds, calls.close)


MAKERS: dict[str, Callable[[], Target]] = {"gate": gate_target, "control": control_target}
