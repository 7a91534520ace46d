"""Partitions in memory: batches are decided as an owner would, and their entries kept as a ledger would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster import owner_commands
from cluster.batch import Batch, Group
from cluster.minute import Context, Minute
from cluster.partition import Partition
from cluster.recovery import replay, restore
from cluster.snapshot_parts import snapshot
from cluster.ticket_table import CHUNK_ROWS, ROW_SIZE, USE, USE_OFFSET
from cluster.visit_keys import ticket_of, visit_key
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from ticketcore.admission import Visit
from ticketcore.rules import Rules, moment_at

GATES = [small_park.MAIN, small_park.SIDE, small_park.ARENA, small_park.RIDE]


class Ignored:
    """Nobody listens."""

    def send(self, _response: object) -> None: ...


@dataclass
class Bench:
    """One partition of one, its log, and the instant."""

    now_ms: int = small_park.NOON_MS
    rules: Rules = field(default_factory=lambda: small_park.RULES)
    modes: dict[int, Any] = field(default_factory=dict)
    ring: Any = field(default_factory=lambda: small_park.RING)
    log: list[events_pb2.LogEntry] = field(default_factory=list)
    partition: Partition = field(default_factory=lambda: Partition("p0", 1))
    full_zones: frozenset[tuple[str, int]] = frozenset({("p0", 2)})
    minute: Minute | None = None

    def batch(self) -> Batch:
        moment = moment_at(self.now_ms, self.rules.time_zone)
        self.partition.age(self.now_ms)
        if self.minute is None or not self.minute.holds(self.rules, moment, self.modes):
            self.minute = Minute(self.rules, moment, self.modes)
        return Batch(Context(moment, self.minute, self.ring, full_zones=self.full_zones), {0: self.partition}, 1)

    def commit(self, batch: Batch) -> None:
        for partition, append in batch.appends():
            self.log.append(events_pb2.LogEntry.FromString(append.entry))
            partition.appended(append.sequence, self.now_ms)

    def frame(self, frame: gate_pb2.ClientFrame) -> gate_pb2.ServerFrame:
        batch, group = self.batch(), Group(Ignored(), 1, frame, GATES)  # type: ignore[arg-type]
        batch.decide_groups([group])
        self.commit(batch)
        return gate_pb2.ServerFrame.FromString(group.answer())

    def send(self, *scans: gate_pb2.Scan) -> list[gate_pb2.Verdict]:
        return list(self.frame(gate_pb2.ClientFrame(scans=scans)).verdicts)

    def passage(self, scan: gate_pb2.Scan, outcome: int) -> gate_pb2.PassageReceipt:
        ticket_id = small_park.ticket_id(scan.token)
        report = gate_pb2.PassageReport(scan_id=scan.scan_id, ticket_id=ticket_id, outcome=outcome)  # type: ignore[arg-type]
        return self.frame(gate_pb2.ClientFrame(passages=[report])).receipts[0]

    def register(self, *codes: bytes, **fields: Any) -> control_pb2.RegisterTicketsResponse:
        batch = self.batch()
        tickets = [control_pb2.IssuedTicket(token=code, **fields) for code in codes]
        response = owner_commands.register(batch, control_pb2.RegisterTicketsRequest(tickets=tickets), set())
        self.commit(batch)
        return response

    def change(self, code: bytes, to: int, request_id: bytes) -> control_pb2.ChangeResult:
        batch = self.batch()
        item = control_pb2.TicketChange(ticket_id=small_park.ticket_id(code), to=to, request_id=request_id)  # type: ignore[arg-type]
        response = owner_commands.change(batch, control_pb2.ChangeTicketsRequest(changes=[item]), set())
        self.commit(batch)
        return response.results[0]

    def lease(self, zone_number: int, received_total: int) -> None:
        batch = self.batch()
        decider = batch.decider(0)
        assert decider is not None
        if self.partition.zone_lease(zone_number).receive(received_total):
            owner_commands.add_lease_event(decider, zone_number)
        self.commit(batch)

    def recall(self, zone_number: int, wanted: int) -> link_pb2.RecallResponse:
        batch = self.batch()
        response = owner_commands.recall(batch, link_pb2.RecallRequest(zone_number=zone_number, wanted=wanted), set())
        self.commit(batch)
        return response

    def assume_passages(self) -> None:
        batch = self.batch()
        assert not batch.assume_passages(1_000_000)
        self.commit(batch)

    def recovered(self, snapshot_after: int | None = None) -> Bench:
        """Another bench whose partition comes back from the log; or from a snapshot and the rest of the log."""
        first = replayed(self.log[:snapshot_after], self.rules) if snapshot_after else Partition("p0", 1)
        partition = Partition("p0", 1)
        if snapshot_after:
            restore(partition, snapshot(first, 1), 1)
        for entry in self.log[partition.sequence :]:
            replay(partition, entry, self.rules)
        return Bench(self.now_ms, self.rules, self.modes, self.ring, list(self.log), partition, self.full_zones)


def replayed(log: Sequence[events_pb2.LogEntry], rules: Rules) -> Partition:
    """A partition that has applied a log from its beginning."""
    partition = Partition("p0", 1)
    for entry in log:
        replay(partition, entry, rules)
    return partition


def visits_in(partition: Partition) -> dict[int, Visit]:
    """Every visit by its key, whether others share it or not. The partition is the only one."""
    used, shared = set[int](), dict[int, Visit]()
    uses = partition.uses.still()
    for number, chunk in partition.table.chunks.items():
        for ticket_id, row in enumerate(rows_of(chunk), number * CHUNK_ROWS):
            (number_of_use,) = USE.unpack_from(row, USE_OFFSET)
            used |= {ticket_id} if number_of_use else set()
            use = uses[number_of_use]
            if use is not None:
                shared[visit_key(ticket_id, use.zone_number)] = use.visit
    assert {ticket_of(key) for key in partition.visits} <= used
    return shared | partition.visits


def rows_of(chunk: bytes | bytearray) -> list[bytes]:
    return [bytes(chunk[start : start + ROW_SIZE]) for start in range(0, len(chunk), ROW_SIZE)]
