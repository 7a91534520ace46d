"""What an owner is asked besides scans: register, change, inspect, recall, occupancy. Pure of I/O, like deciding."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf.message import DecodeError

from cluster.batch import Batch
from cluster.deciding import Decider
from cluster.partition import Partition, partition_of_scan
from cluster.ticket_table import MAX_PRICE_MINOR, Origin, Row
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens
from ticketcore.errors import UnavailableError
from ticketcore.lifecycle import CHANGES, Change, Lifecycle, judge_change

CHANGEABLE = frozenset(int(state) for state in CHANGES)
"""States that some ticket may be changed to."""
BEGINNINGS = frozenset({0, Lifecycle.ACTIVE, Lifecycle.UNPAID, Lifecycle.NOT_ACTIVATED})
"""States that a ticket may be registered in; 0 is active."""
NOT_OWNED = "a partition is not owned here, or not yet; look the routes up again"


def answer(
    batch: Batch,
    request: link_pb2.LinkRequest,
    response: link_pb2.LinkResponse,
    touched: set[Partition],
    status: Callable[[], control_pb2.GetStatusResponse],
) -> None:
    """Does what a request asks, and puts the answer into `response`; `touched` gets the partitions that it tells of.

    Raises:
        UnavailableError: it cannot be done here, or not now.
    """
    match request.WhichOneof("body"):
        case "register":
            response.register.CopyFrom(register(batch, request.register, touched))
        case "change":
            response.change.CopyFrom(change(batch, request.change, touched))
        case "inspect":
            response.inspect.CopyFrom(inspect(batch, request.inspect, touched))
        case "recall":
            response.recall.CopyFrom(recall(batch, request.recall, touched))
        case "occupancy":
            response.occupancy.CopyFrom(occupancy(list(batch.owned.values())))
        case "dry_run":
            response.dry_run.CopyFrom(dry_run(batch, request.dry_run, touched))
        case "status":
            response.status.CopyFrom(status())
        case other:
            raise UnavailableError(f"a partition owner does not answer {other}")


def register(
    batch: Batch, request: control_pb2.RegisterTicketsRequest, touched: set[Partition]
) -> control_pb2.RegisterTicketsResponse:
    """Registers tickets; the same again changes nothing."""
    response = control_pb2.RegisterTicketsResponse()
    for issued in request.tickets:
        ticket_id = int.from_bytes(issued.token[1:9], "big")
        if not _may_begin(issued):
            response.conflicting_ticket_ids.append(ticket_id)
            continue
        decider = _decider(batch, ticket_id, touched)
        row = decider.partition.table.find(ticket_id)
        digest = tokens.digest(issued.token)
        if row is not None and row.origin != Origin.CHANGED and row.digest != digest:
            response.conflicting_ticket_ids.append(ticket_id)
        elif decider.partition.is_registered(row):
            response.already_registered += 1
        else:
            event = decider.log().ticket_registered
            event.claims = issued.token[: tokens.CLAIMS_LENGTH]
            event.digest = digest
            event.lifecycle = issued.lifecycle or events_pb2.LIFECYCLE_ACTIVE
            event.price_minor = issued.price_minor
            decider.partition.register(event)
            response.registered += 1
    return response


def _may_begin(issued: control_pb2.IssuedTicket) -> bool:
    """Whether the token is one, the state exists and the price can be: a row that is none would stop its owner at every
    scan."""
    if len(issued.token) != tokens.TOKEN_LENGTH or issued.lifecycle not in BEGINNINGS:
        return False
    if not 0 <= issued.price_minor <= MAX_PRICE_MINOR:
        return False
    try:
        tokens.decode_claims(issued.token[: tokens.CLAIMS_LENGTH])
    except tokens.TokenFault:
        return False
    return True


def change(
    batch: Batch, request: control_pb2.ChangeTicketsRequest, touched: set[Partition]
) -> control_pb2.ChangeTicketsResponse:
    """Changes lifecycles, each on its own; the same request again is answered as before."""
    response = control_pb2.ChangeTicketsResponse()
    for wanted in request.changes:
        decider = _decider(batch, wanted.ticket_id, touched)
        outcome = _change_one(decider, wanted)
        result = response.results.add(ticket_id=wanted.ticket_id, outcome=int(outcome))
        result.state.CopyFrom(ticket_state(decider.partition, wanted.ticket_id))
    return response


def _change_one(decider: Decider, wanted: control_pb2.TicketChange) -> Change:
    """Both answers are facts, and final: a request that was refused is refused for good, or whoever has heard that and
    whoever asks again later would settle it in two ways (I5)."""
    partition = decider.partition
    answered = partition.answer_to(wanted.ticket_id, wanted.request_id)
    if answered is not None:
        return answered
    if wanted.to not in CHANGEABLE:
        return Change.NOT_ALLOWED  # of no ticket, at no time: nothing has to be remembered
    row = partition.table.find(wanted.ticket_id)
    current = Lifecycle(row.lifecycle) if row is not None else Lifecycle.UNKNOWN
    zones = partition.zones_used(row.terms.product_number) if row is not None else ()
    judged = judge_change(current, Lifecycle(wanted.to), partition.admitted(wanted.ticket_id, zones))
    if judged is Change.DONE:
        _log_change(decider, wanted, current, row)
    else:
        _log_refusal(decider, wanted, current, judged)
    return judged


def _log_change(decider: Decider, wanted: control_pb2.TicketChange, current: Lifecycle, row: Row | None) -> None:
    event = decider.log().ticket_changed
    event.ticket_id = wanted.ticket_id
    event.request_id = wanted.request_id
    setattr(event, "from", int(current))  # "from" is a keyword of Python
    event.to = wanted.to
    if row is not None:
        event.product_number, event.price_minor = row.terms.product_number, row.price_minor
    decider.partition.change(event)


def _log_refusal(decider: Decider, wanted: control_pb2.TicketChange, current: Lifecycle, judged: Change) -> None:
    event = decider.log().ticket_change_refused
    event.ticket_id = wanted.ticket_id
    event.request_id = wanted.request_id
    setattr(event, "from", int(current))
    event.to = wanted.to
    event.refusal = int(judged)  # type: ignore[assignment]
    decider.partition.refuse(event)


def inspect(
    batch: Batch, request: control_pb2.InspectTicketsRequest, touched: set[Partition]
) -> control_pb2.InspectTicketsResponse:
    """Tells what is known of tickets."""
    response = control_pb2.InspectTicketsResponse()
    for ticket_id in request.ticket_ids:
        decider = _decider(batch, ticket_id, touched)
        response.states.append(ticket_state(decider.partition, ticket_id))
    return response


def dry_run(batch: Batch, request: link_pb2.ScanGroup, touched: set[Partition]) -> link_pb2.VerdictGroup:
    """Answers scans as they would be answered now, and changes nothing."""
    answer = gate_pb2.ServerFrame()
    lanes = request.gate_numbers
    for scan in _client_frame(request.client_frame).scans:
        decider = batch.decider(partition_of_scan(scan.token, scan.scan_id, batch.partitions))
        if decider is None:
            raise UnavailableError(NOT_OWNED)
        touched.add(decider.partition)
        decider.dry_run(scan, lanes[scan.lane] if scan.lane < len(lanes) else 0, answer.verdicts.add())
    return link_pb2.VerdictGroup(server_frame=answer.SerializeToString())


def _client_frame(raw: bytes) -> gate_pb2.ClientFrame:
    try:
        return gate_pb2.ClientFrame.FromString(raw)
    except DecodeError as error:
        raise UnavailableError("a dry run holds what is no parkgate.gate.v1.ClientFrame") from error


def recall(batch: Batch, request: link_pb2.RecallRequest, touched: set[Partition]) -> link_pb2.RecallResponse:
    """Gives unused units of a zone back, until enough are found. A grant whose answer was lost is received first, or
    its units would lie idle until somebody happens to ask for more here."""
    response = link_pb2.RecallResponse()
    wanted = request.wanted
    for index, partition in batch.owned.items():
        granted = request.granted_totals.get(partition.name, 0)
        if partition.name == request.except_partition or not (granted or request.zone_number in partition.leases):
            continue
        decider = batch.decider(index)
        if decider is None:
            raise UnavailableError(NOT_OWNED)
        lease = partition.zone_lease(request.zone_number)
        # Nothing of it may be told unless it is durable, nor what an earlier recall of the same turn has given back.
        touched.add(partition)
        received, units = lease.receive(granted), lease.give_back(wanted, partition.next_sequence)
        wanted -= units
        if received or units:
            add_lease_event(decider, request.zone_number)
        response.totals.add(
            zone_number=request.zone_number,
            partition=partition.name,
            received_total=lease.received_total,
            returned_total=lease.returned_total,
        )
    return response


def add_lease_event(decider: Decider, zone_number: int) -> None:
    """Logs where a lease stands."""
    lease = decider.partition.zone_lease(zone_number)
    event = decider.log().lease_changed
    event.zone_number = zone_number
    event.received_total, event.returned_total = lease.received_total, lease.returned_total


def occupancy(owned: list[Partition]) -> control_pb2.GetOccupancyResponse:
    """Who is inside by zone, as far as these partitions know."""
    inside: dict[int, int] = {}
    for partition in owned:
        for zone_number, lease in partition.leases.items():
            inside[zone_number] = inside.get(zone_number, 0) + lease.inside
    response = control_pb2.GetOccupancyResponse()
    for zone_number, persons in sorted(inside.items()):
        response.zones.add(zone_number=zone_number, inside=persons)
    return response


def status(owner: str, catalogue_version: int, owned: Iterable[Partition]) -> control_pb2.GetStatusResponse:
    """Where these partitions stand."""
    response = control_pb2.GetStatusResponse(catalogue_version=catalogue_version)
    for partition in owned:
        response.partitions.add(
            partition=partition.name,
            owner=owner,
            epoch=partition.epoch,
            sequence=partition.sequence,
            tickets=len(partition.table),
            snapshot_sequence=partition.snapshot_sequence,
        )
    return response


def ticket_state(partition: Partition, ticket_id: int) -> control_pb2.TicketState:
    """What a partition knows of a ticket."""
    state = control_pb2.TicketState(ticket_id=ticket_id)
    row = partition.table.find(ticket_id)
    if row is None:
        return state
    state.lifecycle = row.lifecycle  # type: ignore[assignment]
    state.product_number = row.terms.product_number
    visits = partition.visits_of(ticket_id, partition.zones_used(row.terms.product_number))
    state.persons_admitted = sum(visit.admitted for visit in visits)
    state.persons_inside = sum(visit.inside for visit in visits)
    used = [visit for visit in visits if visit.first_ms]
    if used:
        first = min(used, key=lambda visit: visit.first_ms)
        last = max(used, key=lambda visit: visit.last_ms)
        state.first_use.admit_time_ms, state.first_use.gate_number = first.first_ms, first.first_gate
        state.last_use.admit_time_ms, state.last_use.gate_number = last.last_ms, last.last_gate
    return state


def _decider(batch: Batch, ticket_id: int, touched: set[Partition]) -> Decider:
    decider = batch.decider_of_ticket(ticket_id)
    if decider is None:
        raise UnavailableError(NOT_OWNED)
    touched.add(decider.partition)
    return decider
