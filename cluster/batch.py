"""One turn of an owner: all that arrived while the last append was in flight is decided, appended once, answered.

A `Batch` collects one log entry a partition. A `Group` is the scans and passages of one client frame; it is answered
when all of its scans are decided (some may wait for capacity over several turns) and the last of them is durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.deciding import Decider
from cluster.heads import HEAD, heads_of
from cluster.ledger import Append
from cluster.link import Connection
from cluster.minute import Context
from cluster.partition import Partition, partition_of, partition_of_scan
from cluster.short_way import Piece, ShortWay
from cluster.verdicts import in_frame, retry
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2

NOT_OWNED_RETRY_MS = 100
BATCH_ID_LENGTH = 8


class Group:
    """The scans and passages of one client frame, and the answer that grows."""

    __slots__ = (
        "connection",
        "frame",
        "gate_numbers",
        "group_id",
        "heads",
        "items",
        "misrouted",
        "partitions",
        "receipts",
        "verdicts",
        "waiting",
    )

    def __init__(
        self,
        connection: Connection,
        group_id: int,
        frame: gate_pb2.ClientFrame,
        gate_numbers: Sequence[int],
        heads: bytes = b"",
    ) -> None:
        """`gate_numbers` by lane; `heads` as the gateway has cut them, or none."""
        scans = len(frame.scans)
        self.connection = connection
        self.group_id = group_id
        self.frame = frame
        self.gate_numbers = gate_numbers
        self.items = scans + len(frame.passages)
        self.verdicts = [b""] * scans
        """For each scan a server frame with its verdict; empty while it waits."""
        self.receipts: gate_pb2.ServerFrame | None = None
        self.waiting = 0
        self.misrouted = False
        self.partitions: set[Partition] = set()
        self.heads = heads if len(heads) == HEAD.size * scans else heads_of(frame, gate_numbers)
        """A head for each scan, one after the other; worked out here where the gateway has sent none that fit."""

    def gate_number(self, scan: gate_pb2.Scan) -> int:
        """Where a scan was shown; 0 for a lane that there is not."""
        return self.gate_numbers[scan.lane] if scan.lane < len(self.gate_numbers) else 0

    def answer(self) -> bytes:
        """The server frame that answers it all: protobuf joins the frames of a row."""
        verdicts = b"".join(self.verdicts)
        return verdicts if self.receipts is None else verdicts + self.receipts.SerializeToString()

    def receipt(self) -> gate_pb2.PassageReceipt:
        """The receipt of the next passage, to be filled in."""
        if self.receipts is None:
            self.receipts = gate_pb2.ServerFrame()
        return self.receipts.receipts.add()

    def give_up(self, reason: gate_pb2.Reason.ValueType, after_ms: int) -> None:
        """Answers RETRY to all of it."""
        self.verdicts = [retry_frame(scan.scan_id, reason, after_ms) for scan in self.frame.scans]
        for report in self.frame.passages:
            self.receipt().MergeFrom(gate_pb2.PassageReceipt(scan_id=report.scan_id, retry_after_ms=after_ms))


@dataclass(frozen=True, slots=True)
class WaitingScan:
    """A scan that needs capacity before it can be decided."""

    group: Group
    position: int
    partition: str
    zone_number: int
    persons: int

    @property
    def scan(self) -> gate_pb2.Scan:
        """The scan."""
        return self.group.frame.scans[self.position]

    def give_up(self, reason: gate_pb2.Reason.ValueType, after_ms: int) -> None:
        """Answers RETRY."""
        self.group.verdicts[self.position] = retry_frame(self.scan.scan_id, reason, after_ms)


Reply = Callable[[], None]


class Batch:
    """What one turn decides: a log entry for each partition that anything happens to."""

    def __init__(self, context: Context, owned: Mapping[int, Partition], partitions: int) -> None:
        self.context = context
        self.owned = owned
        self.partitions = partitions
        self.scans = 0
        self.waiting: list[WaitingScan] = []
        self.replies: list[tuple[set[Partition], Reply]] = []
        self.ready_groups: list[Group] = []
        self._deciders: dict[int, Decider] = {}
        self._short_way = ShortWay(partitions, context.moment.time_ms)

    def decider(self, index: int) -> Decider | None:
        """The decider of a partition. None: it is not owned here; or it was taken after the batch began, and its last
        entry is later by an earlier owner's clock: nothing may be decided before that; or it was lost and taken again,
        and what the batch has decided of it is fenced."""
        decider, partition = self._deciders.get(index), self.owned.get(index)
        if decider is not None:
            return decider if decider.partition is partition else None
        if partition is None or partition.last_time_ms > self.context.moment.time_ms:
            return None
        decider = self._deciders[index] = Decider(partition, self.context)
        return decider

    def decider_of_ticket(self, ticket_id: int) -> Decider | None:
        """The decider of a ticket's partition; None as in `decider`."""
        return self.decider(partition_of(ticket_id, self.partitions))

    def answer_later(self, touched: set[Partition], reply: Reply) -> None:
        """Answers when the batch is durable; not at all if one of the partitions turns out to be fenced."""
        self.replies.append((touched, reply))

    def told_of(self) -> set[Partition]:
        """Partitions of whose state something is told in answer to a command or a passage report."""
        commands = {item for touched, _ in self.replies for item in touched}
        return commands.union(*(group.partitions for group in self.ready_groups if group.receipts is not None))

    def forget_fenced(self) -> None:
        """Leaves out the answers that met a partition which an earlier append, or this batch's, found to be fenced."""
        self.replies = [reply for reply in self.replies if not any(item.fenced for item in reply[0])]
        self.ready_groups = [group for group in self.ready_groups if not any(item.fenced for item in group.partitions)]

    def decide_groups(self, groups: Sequence[Group]) -> None:
        """Decides all scans and passages of groups, in order; groups that wait for nothing are answered with the
        batch."""
        self._decide_scans(self._pieces(groups))
        self.ready_groups += [group for group in groups if not group.waiting]

    def _pieces(self, groups: Iterable[Group]) -> Iterator[Piece]:
        """The scans of groups; when those of one are decided, its passages are recorded."""
        for group in groups:
            yield group, 0, HEAD.iter_unpack(group.heads)
            if group.items > len(group.verdicts):
                for report in group.frame.passages:
                    self._record_passage(group, report)

    def resume(self, waiting: WaitingScan) -> None:
        """Decides a scan again that has waited for capacity."""
        group, position = waiting.group, waiting.position
        self._decide_scans([(group, position, (HEAD.unpack_from(group.heads, position * HEAD.size),))])

    def _decide_scans(self, pieces: Iterable[Piece]) -> None:
        """Most scans of a morning go the short way."""
        for group, position in self._short_way.left_over(pieces, self.decider):
            self._decide_scan(group, position)

    def _record_passage(self, group: Group, report: gate_pb2.PassageReport) -> None:
        receipt = group.receipt()
        decider = self.decider_of_ticket(report.ticket_id)
        if decider is None:
            group.misrouted = True
            receipt.scan_id, receipt.retry_after_ms = report.scan_id, NOT_OWNED_RETRY_MS
            return
        group.partitions.add(decider.partition)
        decider.record_passage(report, receipt)

    def assume_passages(self, about: int) -> bool:
        """Settles passages that nobody reported in time, about so many of each partition, for a crowd's are due
        together. Whether more are due now."""
        now_ms = self.context.moment.time_ms
        deciders = [decider for index in self.owned if (decider := self.decider(index)) is not None]
        for decider in deciders:
            for held in decider.partition.due(now_ms, about):
                self.scans += decider.assume(held)
        deadlines = (decider.partition.next_deadline() for decider in deciders)
        return any(deadline is not None and deadline <= now_ms for deadline in deadlines)

    def _decide_scan(self, group: Group, position: int) -> None:
        """Decides one scan of a group, or puts it among those that wait."""
        scan = group.frame.scans[position]
        decider = self.decider(partition_of_scan(scan.token, scan.scan_id, self.partitions))
        if decider is None:
            group.misrouted = True
            group.verdicts[position] = retry_frame(scan.scan_id, gate_pb2.REASON_INTERNAL_ERROR, NOT_OWNED_RETRY_MS)
            return
        group.partitions.add(decider.partition)
        verdict = gate_pb2.Verdict()
        waits = decider.decide(scan, group.gate_number(scan), verdict)
        if waits is None:
            group.verdicts[position] = in_frame(verdict)
            return
        group.waiting += 1
        name = decider.partition.name
        self.waiting.append(WaitingScan(group, position, name, waits.zone_number, waits.persons))

    def appends(self) -> Iterator[tuple[Partition, Append]]:
        """One append for each partition that something happened to; from now on that entry is on its way."""
        for decider in self._deciders.values():
            entry, partition = decider.entry(), decider.partition
            if not entry.events:
                continue
            entry.partition = partition.name
            entry.sequence = partition.sequence + 1
            entry.epoch = partition.epoch
            entry.time_ms = self.context.moment.time_ms
            entry.batch_id = os.urandom(BATCH_ID_LENGTH)
            partition.appending = True
            yield (
                partition,
                Append(partition.name, partition.epoch, entry.sequence, entry.batch_id, entry.SerializeToString()),
            )


def send_groups(groups: list[Group]) -> None:
    """Answers groups, those of one connection in one frame."""
    by_connection: dict[Connection, link_pb2.LinkResponse] = {}
    for group in groups:
        response = by_connection.get(group.connection)
        if response is None:
            response = by_connection[group.connection] = link_pb2.LinkResponse()
        response.verdicts.groups.add(group_id=group.group_id, server_frame=group.answer(), misrouted=group.misrouted)
    for connection, response in by_connection.items():
        connection.send(response)


def retry_frame(scan_id: bytes, reason: gate_pb2.Reason.ValueType, after_ms: int) -> bytes:
    """A server frame with one verdict: RETRY."""
    verdict = gate_pb2.Verdict()
    retry(verdict, scan_id, reason, after_ms)
    return in_frame(verdict)
