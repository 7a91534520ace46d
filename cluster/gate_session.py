"""One gate's stream at a gateway: reads frames, sends them to the owners, writes answers as they come.

A frame whose scans all belong to one owner is forwarded as it came; its answer comes back ready to be sent. Others are
split by owner and put together again in the order of the frame. Frames of one stream do not wait for each other, up to
`MAX_FRAMES_IN_FLIGHT`; beyond that the stream is not read, and gRPC's flow control slows the client down.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError

from cluster.heads import heads_of
from cluster.link import LinkClient
from cluster.partition import partition_of, partition_of_scan
from cluster.routes import Routes
from cluster.verdicts import retry
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.errors import ParkgateError

MAX_FRAMES_IN_FLIGHT = 16
MAX_ITEMS_IN_FRAME = 1_000
MAX_SCANS_IN_FLIGHT = 4_000
"""Scans and passages of one stream that wait for their answers, when its next frame is read: a tenth of an owner's
inbox, so that a device that floods fills neither that nor anybody's time. A lane controller has a thousand at most."""
SCANS_WITH_HEADS = 8
"""In a frame, for its heads to be cut at the gateway: one of a single scan costs a gateway 100 µs of CPU and an owner
30, one of 200 costs the owner five times what it costs the gateway."""
MAX_ANSWER_BYTES = 64 * 1024
"""Of answers that are joined: more than a thousand verdicts. One alone may be larger."""
AWAY_RETRY_MS = 200
UNKNOWN_RETRY_MS = 100


@dataclass(slots=True, eq=False)
class Pending:
    """A frame that waits for its answers."""

    frame: gate_pb2.ClientFrame
    finish: Callable[[bytes], None]
    deadline: float
    link: LinkClient | None = None
    group_id: int = 0
    """Where the whole frame went; unless it was split into parts."""
    parts: Sequence[Part] = ()
    missing: int = 0
    done: bool = False


@dataclass(slots=True, eq=False)
class Part:
    """What of a frame goes to one owner, and where its items stand in the frame."""

    frame: gate_pb2.ClientFrame
    scans: Sequence[int]
    passages: Sequence[int]
    link: LinkClient | None = None
    group_id: int = 0
    answer: gate_pb2.ServerFrame | None = None


class Dispatcher:
    """Sends frames to owners, and sees to it that each is answered once: with verdicts, or RETRY when time is over."""

    def __init__(self, routes: Routes, timeout_s: float) -> None:
        self._routes = routes
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: dict[Pending, None] = {}

    def send(
        self, raw: bytes, frame: gate_pb2.ClientFrame, gate_numbers: list[int], finish: Callable[[bytes], None]
    ) -> None:
        """Sends a frame's scans and passages; `finish` gets the serialized answer, in this call or later."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked once: it asks the kernel for the process, 1.3 µs a scan
        pending = Pending(frame, finish, self._loop.time() + self._timeout_s)
        self._pending[pending] = None
        sole = self._routes.sole()
        if sole is not None:
            pending.link = sole
            heads = _heads(frame, gate_numbers)
            pending.group_id = sole.scan(raw, heads, gate_numbers, partial(self._whole, pending))
        else:
            self._send_split(pending, gate_numbers, self._routes.table())

    def _whole(self, pending: Pending, group: link_pb2.VerdictGroup | None) -> None:
        if pending.done:
            return
        if group is None:
            self._finish(pending, retry_frame(pending.frame, gate_pb2.REASON_TIMEOUT, UNKNOWN_RETRY_MS))
            return
        if group.misrouted:
            self._routes.look_up_soon()
        self._finish(pending, group.server_frame)

    def _finish(self, pending: Pending, answer: bytes) -> None:
        pending.done = True
        del self._pending[pending]
        pending.finish(answer)

    def _send_split(self, pending: Pending, gate_numbers: list[int], table: list[LinkClient | None]) -> None:
        parts = split(pending.frame, table)
        pending.parts = [part for _, part in parts]
        pending.missing = len(parts)
        if not parts:
            self._finish(pending, b"")
        for link, part in parts:
            if link is None:
                self._part(pending, part, None, gate_pb2.REASON_INTERNAL_ERROR, AWAY_RETRY_MS)
                continue
            part.link = link
            raw, heads = part.frame.SerializeToString(), _heads(part.frame, gate_numbers)
            part.group_id = link.scan(raw, heads, gate_numbers, self._part_answer(pending, part))

    def _part_answer(self, pending: Pending, part: Part) -> Callable[[link_pb2.VerdictGroup | None], None]:
        return lambda group: self._part(pending, part, group, gate_pb2.REASON_TIMEOUT, UNKNOWN_RETRY_MS)

    def _part(
        self,
        pending: Pending,
        part: Part,
        group: link_pb2.VerdictGroup | None,
        reason: gate_pb2.Reason.ValueType,
        retry_after_ms: int,
    ) -> None:
        if pending.done:
            return
        part.answer = read_answer(part, group) if group is not None else None
        if part.answer is None:
            part.answer = gate_pb2.ServerFrame.FromString(retry_frame(part.frame, reason, retry_after_ms))
        if group is not None and group.misrouted:
            self._routes.look_up_soon()
        pending.missing -= 1
        if pending.missing == 0:
            self._finish(pending, merge(pending).SerializeToString())

    def expire(self, now: float) -> int:
        """Answers RETRY to frames whose time is over: the outcome is unknown, the same scan_id will tell (I7).

        An owner may be silent because it stands still and another has taken over: its routes are looked up again.
        """
        late = []
        for pending in self._pending:
            if pending.deadline > now:
                break
            late.append(pending)
        for pending in late:
            _forget(pending, *pending.parts)
            self._finish(pending, retry_frame(pending.frame, gate_pb2.REASON_TIMEOUT, UNKNOWN_RETRY_MS))
        if late:
            self._routes.look_up_soon()
        return len(late)


def _heads(frame: gate_pb2.ClientFrame, gate_numbers: list[int]) -> bytes:
    """What spares the owner work. Of small frames gateways have the larger part anyway: their owner helps himself."""
    return heads_of(frame, gate_numbers) if len(frame.scans) >= SCANS_WITH_HEADS else b""


def _forget(*waiting: Pending | Part) -> None:
    """Their links wait for them no more: what never comes must not be counted as a crowd."""
    for one in waiting:
        if one.link is not None:
            one.link.forget(one.group_id)


def split(frame: gate_pb2.ClientFrame, table: Sequence[LinkClient | None]) -> list[tuple[LinkClient | None, Part]]:
    """Parts of a frame by owner. All partitions without a known owner make one part."""
    partitions = len(table)
    parts: dict[LinkClient | None, tuple[gate_pb2.ClientFrame, list[int], list[int]]] = {}
    for position, scan in enumerate(frame.scans):
        link = table[partition_of_scan(scan.token, scan.scan_id, partitions)]
        part = parts.setdefault(link, (gate_pb2.ClientFrame(), [], []))
        part[0].scans.append(scan)
        part[1].append(position)
    for position, report in enumerate(frame.passages):
        link = table[partition_of(report.ticket_id, partitions)]
        part = parts.setdefault(link, (gate_pb2.ClientFrame(), [], []))
        part[0].passages.append(report)
        part[2].append(position)
    return [(link, Part(*part)) for link, part in parts.items()]


def read_answer(part: Part, group: link_pb2.VerdictGroup) -> gate_pb2.ServerFrame | None:
    """The answer to a part, or None if it is none: then its outcome is unknown, like that of one that was lost."""
    try:
        answer = gate_pb2.ServerFrame.FromString(group.server_frame)
    except DecodeError:
        return None
    fits = len(answer.verdicts) == len(part.scans) and len(answer.receipts) == len(part.passages)
    return answer if fits else None


def merge(pending: Pending) -> gate_pb2.ServerFrame:
    """The parts' answers in the order of the frame."""
    verdicts: dict[int, gate_pb2.Verdict] = {}
    receipts: dict[int, gate_pb2.PassageReceipt] = {}
    for part in pending.parts:
        assert part.answer is not None
        verdicts.update(zip(part.scans, part.answer.verdicts, strict=True))
        receipts.update(zip(part.passages, part.answer.receipts, strict=True))
    return gate_pb2.ServerFrame(
        verdicts=[verdicts[position] for position in range(len(pending.frame.scans))],
        receipts=[receipts[position] for position in range(len(pending.frame.passages))],
    )


def retry_frame(frame: gate_pb2.ClientFrame, reason: gate_pb2.Reason.ValueType, retry_after_ms: int) -> bytes:
    """RETRY for everything in a frame."""
    answer = gate_pb2.ServerFrame()
    for scan in frame.scans:
        retry(answer.verdicts.add(), scan.scan_id, reason, retry_after_ms)
    for report in frame.passages:
        answer.receipts.add(scan_id=report.scan_id, retry_after_ms=retry_after_ms)
    return answer.SerializeToString()


class Outbox:
    """What a stream has to write, in order of completion. A client that does not read is not read: unwritten answers
    take the place of frames in flight, so only unasked commands may pile up, which `GateService.announce` bounds."""

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, bool]] = deque()
        """What is to be written, and whether it is an answer."""
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self.in_flight = 0
        self.scans_in_flight = 0
        self.ended_by: ParkgateError | None = None
        """Why the stream is ended from our side, once it is."""

    def put(self, frame: bytes) -> None:
        """Queues an unasked frame."""
        self._queue(frame, is_answer=False)

    def _queue(self, frame: bytes, *, is_answer: bool) -> None:
        self._frames.append((frame, is_answer))
        _resolve(self._wake)

    @property
    def unread(self) -> int:
        """Frames that the client has not taken yet."""
        return len(self._frames)

    def asked(self, items: int) -> Callable[[bytes], None]:
        """Notes a frame with so many scans and passages as in flight; what is returned takes its answer."""
        self.in_flight += 1
        self.scans_in_flight += items
        return partial(self._answer, items)

    def _answer(self, items: int, frame: bytes) -> None:
        """Queues the answer to a frame that was in flight."""
        self.scans_in_flight -= items
        self.in_flight -= 1
        _resolve(self._room)
        if frame:
            self._queue(frame, is_answer=True)

    async def next(self) -> bytes | None:
        """The next frame to write; None once it is closed and empty. Answers that wait together are one frame, as
        protobuf joins them: a turn of an owner answers many of one device, and each write costs gRPC some 40 µs."""
        while not self._frames:
            if self._closed:
                return None
            self._wake = self._loop.create_future()
            await self._wake
        frame, is_answer = self._frames.popleft()
        if is_answer and self._frames:
            frame = self._joined(frame)
        _resolve(self._room)
        return frame

    def _joined(self, first: bytes) -> bytes:
        """An answer and those that follow it."""
        parts, size = [first], len(first)
        while self._frames and self._frames[0][1] and size + len(self._frames[0][0]) <= MAX_ANSWER_BYTES:
            parts.append(self._frames.popleft()[0])
            size += len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Nothing more comes; what is here is still to be written."""
        self._closed = True
        _resolve(self._wake)

    async def drained(self) -> None:
        """Waits until every frame in flight is answered and written."""
        while self.in_flight or self._frames:
            self._room = self._loop.create_future()
            await self._room

    @property
    def is_full(self) -> bool:
        """Whether no other frame may be in flight now."""
        frames = self.in_flight + len(self._frames)
        return frames >= MAX_FRAMES_IN_FLIGHT or self.scans_in_flight >= MAX_SCANS_IN_FLIGHT

    async def room(self) -> None:
        """Waits until another frame may be in flight."""
        while self.is_full:
            self._room = self._loop.create_future()
            await self._room


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
