"""A partition owner whose ledger fails it: what is answered, what is not, and what is there afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.batch import Batch, Group
from cluster.control import Control
from cluster.ledger import Ledger
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from tests.cluster.elementary import elementary
from tests.cluster.plain_owner import GATES, LOST_AFTER, LOST_BEFORE, MAIN, SIDE, Desk, Fault, until
from tests.cluster.small_park import NOON_MS, reason, ticket_id, token
from ticketcore.catalogue_document import canonical_json


async def test_what_arrives_while_an_append_is_in_flight_is_decided_at_once_and_appended_together(desk: Desk) -> None:
    """Deciding and fsync overlap, and a crowd shares one fsync; nobody is answered before (I2)."""
    codes = [token("day", number) for number in range(2, 12, 2)]  # of one partition
    await desk.register(*codes)
    held, before = asyncio.Event(), len(desk.ledger.appends)
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    first = desk.group(desk.scan(codes[0], lane=SIDE))
    await until(lambda: not desk.ledger.faults)
    others = []
    for code in codes[1:]:
        others.append(desk.group(desk.scan(code, lane=SIDE)))
        await until(lambda code=code: desk.owner.owned[0].admitted(ticket_id(code), [1]) == 1)  # type: ignore[misc]
    assert not any(group.done() for group in (first, *others))
    held.set()
    await asyncio.gather(first, *others)
    assert len(desk.ledger.appends) - before == 2


async def test_what_arrives_after_a_catalogue_was_read_is_decided_by_it_and_by_no_batch_that_is_open(
    desk: Desk,
) -> None:
    """I7: whoever publishes is told that it is in force once the owner has read it."""
    first, before, after = (token("day", number) for number in (2, 4, 6))  # of one partition
    await desk.register(first, before, after)
    held = asyncio.Event()
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    answers = [desk.group(desk.scan(first, lane=SIDE))]
    await until(lambda: not desk.ledger.faults)
    answers.append(desk.group(desk.scan(before, lane=SIDE)))
    await until(lambda: desk.owner.owned[0].admitted(ticket_id(before), [1]) == 1)
    later = small_park.document()
    later["products"] = [product for product in later["products"] if product["id"] != "day"]
    await Control(desk.real).publish_catalogue(2, canonical_json(later))
    await desk.ask(refresh=link_pb2.RefreshRequest())
    answers.append(desk.group(desk.scan(after, lane=SIDE)))
    await asyncio.sleep(0.02)
    held.set()
    frames = [gate_pb2.ServerFrame.FromString((await answer).server_frame) for answer in answers]
    assert [reason(frame.verdicts[0]) for frame in frames] == ["ADMIT", "ADMIT", "WRONG_PRODUCT"]


async def test_a_partition_that_is_taken_over_is_decided_by_the_catalogue_that_is_in_force_by_then(desk: Desk) -> None:
    """I7: its owner began before that was published, and nobody could have asked it to read it."""
    code = token("day", 2)
    await desk.register(code)
    later = small_park.document()
    later["products"] = [product for product in later["products"] if product["id"] != "day"]
    taken = desk.real.take

    async def publish_first(partition: str, owner: str) -> Any:
        await Control(desk.real).publish_catalogue(2, canonical_json(later))
        return await taken(partition, owner)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.real, "take", publish_first)
        await desk.take_over()
    assert reason((await desk.send(desk.scan(code, lane=SIDE)))[0]) == "WRONG_PRODUCT"


async def test_what_was_decided_after_an_append_that_turns_out_to_be_fenced_is_not_answered(desk: Desk) -> None:
    """I2, I5: "already registered", "already changed" and a repeated verdict all lean on what was never written."""
    code, other = token("day", 2), token("day", 4)
    await desk.register(other)
    held, zombie = asyncio.Event(), desk.owner
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    tickets = [control_pb2.IssuedTicket(token=code)]
    first = desk.ask(register=control_pb2.RegisterTicketsRequest(tickets=tickets))
    await until(lambda: not desk.ledger.faults)
    again = desk.ask(register=control_pb2.RegisterTicketsRequest(tickets=tickets))
    scanned = desk.group(desk.scan(code, lane=SIDE), desk.scan(other, lane=SIDE))
    await until(lambda: zombie.owned[0].admitted(ticket_id(other), [1]) == 1)
    await desk.take_over()
    held.set()
    await until(lambda: bool(zombie.counters.fenced))
    await asyncio.sleep(0.05)  # the batch that was decided meanwhile is appended, and fenced as well
    assert not any(answer.done() for answer in (first, again, scanned))
    assert reason((await desk.send(desk.scan(other, lane=SIDE)))[0]) == "ADMIT"


async def test_time_never_falls_within_a_partition_also_when_the_next_owner_has_a_slower_clock(desk: Desk) -> None:
    await desk.register(token("day", 1), token("day", 2))
    desk.clock.now_ms -= 90_000
    await desk.owner.stop()
    await desk.take_over()
    (verdict,) = await desk.send(desk.scan(token("day", 1)))
    assert reason(verdict) == "ADMIT"
    times = [entry.time_ms for entry in await desk.log("p1")]
    assert times == sorted(times) == [NOON_MS, NOON_MS]


async def test_what_is_durable_is_answered_while_a_crowd_is_decided(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guests at free gates must not wait until all that came after them is decided as well."""
    codes = [token("day", number) for number in range(1, 17)]
    await desk.register(*codes)
    gate, decided, found = asyncio.Event(), list[Batch](), list[int]()
    desk.ledger.faults = [Fault(written=True, replied=True, gate=gate)]
    first = desk.group(desk.scan(codes[0]))
    first.add_done_callback(lambda _: found.append(len(decided)))
    await until(lambda: not desk.ledger.faults)
    decide = Batch.decide_groups

    def slowly(batch: Batch, groups: Sequence[Group]) -> None:
        gate.set()
        time.sleep(0.02)
        decided.append(batch)
        decide(batch, groups)

    monkeypatch.setattr(Batch, "decide_groups", slowly)
    later = [desk.group(desk.scan(code)) for code in codes[1:]]
    await asyncio.gather(first, *later)
    assert found[0] < len(later) == len(decided)


async def test_what_is_put_in_force_while_a_crowd_is_decided_holds_for_whoever_comes_later(desk: Desk) -> None:
    """I7: the publisher was told so, and closes a gate by it."""
    codes, after = [token("day", number) for number in range(1, 2_001)], token("day", 5_000)
    for start in (0, 1_000):
        await desk.register(*codes[start : start + 1_000])
    await desk.register(after)
    later = small_park.document()
    later["products"] = [product for product in later["products"] if product["id"] != "day"]
    await Control(desk.real).publish_catalogue(2, canonical_json(later))
    crowd = [desk.group(desk.scan(code, lane=SIDE)) for code in codes]
    told, shown = desk.ask(refresh=link_pb2.RefreshRequest()), list[asyncio.Future[Any]]()
    told.add_done_callback(lambda _: shown.append(desk.group(desk.scan(after, lane=SIDE))))
    await asyncio.gather(told, *crowd)
    (verdict,) = gate_pb2.ServerFrame.FromString((await shown[0]).server_frame).verdicts
    assert reason(verdict) == "WRONG_PRODUCT"


async def test_questions_without_end_keep_no_scan_waiting(desk: Desk) -> None:
    code = token("day", 1)
    await desk.register(code)
    question = control_pb2.InspectTicketsRequest(ticket_ids=[ticket_id(code)])
    answers = [desk.ask(inspect=question)]
    shown, turns = desk.group(desk.scan(code, lane=SIDE)), desk.owner.counters.turns

    async def ask() -> None:
        """Whenever the loop runs, once more."""
        while not shown.done() and len(answers) < 50_000:
            answers.append(desk.ask(inspect=question))
            await asyncio.sleep(0)

    await asyncio.gather(ask(), ask())
    assert shown.done()
    assert desk.owner.counters.turns > turns
    await asyncio.gather(*answers)


async def test_units_are_not_taken_back_from_what_was_lost_and_taken_again_meanwhile(desk: Desk) -> None:
    """I4: the batch that is open has decided on what is fenced; given back is what the new one has logged."""
    codes, owner = [token("show", number) for number in (2, 4)], desk.owner
    await desk.register(*codes)
    owner.owned[0].zone_lease(2).receive(5)
    await desk.ask(recall=link_pb2.RecallRequest(zone_number=2, wanted=1))
    held = asyncio.Event()
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    crowd = [desk.group(desk.scan(codes[0], lane=SIDE))]
    await until(lambda: not desk.ledger.faults)
    crowd.append(desk.group(desk.scan(codes[1], lane=SIDE)))
    await asyncio.sleep(0.02)
    owner.drop([0])
    await owner.own([0], "")
    told = desk.ask(recall=link_pb2.RecallRequest(zone_number=2, wanted=2))
    await asyncio.sleep(0.02)
    held.set()
    answer = await told
    await desk.take_over([0])
    assert (
        sum(total.returned_total for total in answer.recall.totals) <= desk.owner.owned[0].zone_lease(2).returned_total
    )


async def test_a_partition_that_is_taken_while_a_batch_is_open_waits_for_the_next_one(desk: Desk) -> None:
    """I1: the batch began before the partition's last entry, by the clock of the earlier owner, which is ahead."""
    codes = [token("day", number) for number in range(1, 5)]
    await desk.register(*codes)
    desk.clock.now_ms += 20_000
    await desk.send(desk.scan(codes[0]))
    desk.clock.now_ms -= 20_000
    slower, held = await desk.take_over([0]), asyncio.Event()
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    waiting = [desk.group(desk.scan(codes[1]))]
    await asyncio.sleep(0.01)
    waiting.append(desk.group(desk.scan(codes[3])))
    await asyncio.sleep(0.01)  # the next batch is open
    await slower.own([1], "")
    late = desk.scan(codes[2])
    waiting.append(desk.group(late))
    await asyncio.sleep(0.01)
    held.set()
    told = [gate_pb2.ServerFrame.FromString(answer.server_frame) for answer in await asyncio.gather(*waiting)]
    assert [reason(frame.verdicts[0]) for frame in told] == ["ADMIT", "ADMIT", "INTERNAL_ERROR"]
    assert reason((await desk.send(late))[0]) == "ADMIT"
    times = [entry.time_ms for entry in await desk.log("p1")]
    assert len(times) == 3
    assert times == sorted(times)


async def test_nobody_is_admitted_before_the_append_is_durable(desk: Desk) -> None:
    """I2: the reply is lost before the write, then after it; the answer comes only once the ledger says so."""
    code = token("day", 1)
    await desk.register(code)
    held = asyncio.Event()
    desk.ledger.faults = [LOST_BEFORE, LOST_AFTER, Fault(written=True, replied=True, gate=held)]
    answer = desk.group(desk.scan(code, lane=MAIN))
    await until(lambda: len(desk.ledger.appends) == 3)
    await asyncio.sleep(0.1)
    assert not answer.done()
    held.set()
    await answer
    batches = [item.batch_id for item in desk.ledger.appends[1:]]
    assert len(batches) == 3
    assert len(set(batches)) == 1, "the very same append was repeated"
    assert [entry.sequence for entry in await desk.log("p1")] == [1, 2]
    assert desk.owner.counters.append_retries == 2


async def test_what_was_admitted_without_an_answer_is_told_by_the_next_owner(desk: Desk) -> None:
    """I1, I2, I3: the owner dies between the write and the answer."""
    code = token("day", 1)
    await desk.register(code)
    attempt = desk.scan(code, lane=MAIN)
    desk.ledger.faults = [LOST_AFTER, Fault(written=False, replied=False, gate=asyncio.Event())]
    answer = desk.group(attempt)
    await until(lambda: not desk.ledger.faults)
    await desk.owner.stop()
    assert not answer.done()
    await desk.take_over()
    (told,) = await desk.send(attempt)
    (other,) = await desk.send(desk.scan(code))
    assert (reason(told), reason(other)) == ("ADMIT", "ALREADY_USED")


async def test_what_was_decided_and_never_written_is_as_if_it_never_was(desk: Desk) -> None:
    """I1, I2: the owner dies before the write; the next one decides, once."""
    code = token("day", 1)
    await desk.register(code)
    attempt = desk.scan(code, lane=MAIN)
    desk.ledger.faults = [Fault(written=False, replied=False, gate=asyncio.Event())]
    answer = desk.group(attempt)
    await until(lambda: not desk.ledger.faults)
    await desk.owner.stop()
    assert not answer.done()
    await desk.take_over()
    told = [reason(verdict) for verdict in await desk.send(attempt, desk.scan(code), attempt)]
    assert told == ["ADMIT", "ALREADY_USED", "ADMIT"]
    assert len((await desk.log("p1"))[-1].events) == 2


async def test_a_fenced_owner_answers_nothing_and_stops_owning(desk: Desk) -> None:
    """I1: two live owners, every ticket at both."""
    codes = [token("day", number) for number in range(1, 21)]
    await desk.register(*codes)
    zombie = desk.owner
    await desk.take_over()
    answers = [desk.group(desk.scan(code, lane=SIDE), owner=zombie) for code in codes]
    fresh = await desk.send(*(desk.scan(code, lane=SIDE) for code in codes))
    assert {reason(verdict) for verdict in fresh} == {"ADMIT"}
    await until(lambda: not zombie.owned)
    late = [answer.result() for answer in answers if answer.done()]
    verdicts = [verdict for group in late for verdict in gate_pb2.ServerFrame.FromString(group.server_frame).verdicts]
    assert all(verdict.decision == gate_pb2.DECISION_RETRY for verdict in verdicts)
    assert sorted(zombie.counters.fenced) == ["p0", "p1"]
    misrouted = await desk.group(desk.scan(codes[0]), owner=zombie)
    assert misrouted.misrouted


@pytest.mark.parametrize("question", ["look-up", "dry run", "refused change", "registration", "passage"])
async def test_a_replaced_owner_tells_nothing_of_a_ticket_even_if_it_changes_nothing(desk: Desk, question: str) -> None:
    """I3, I5: "not admitted yet", "already used", "registered" would be believed, and may be long out of date."""
    used, fresh = token("day", 1), token("day", 3)  # of one partition
    await desk.register(used, fresh)
    await desk.send(desk.scan(used))
    refund = control_pb2.TicketChange(ticket_id=ticket_id(used), to=events_pb2.LIFECYCLE_REFUNDED, request_id=b"r" * 16)
    frame = gate_pb2.ClientFrame(scans=[desk.scan(fresh)]).SerializeToString()
    report = gate_pb2.PassageReport(
        scan_id=b"s" * 16, ticket_id=ticket_id(fresh), outcome=gate_pb2.PASSAGE_OUTCOME_PASSED
    )
    await desk.real.take("p1", "a later owner")
    match question:
        case "look-up":
            answer = desk.ask(inspect=control_pb2.InspectTicketsRequest(ticket_ids=[ticket_id(fresh)]))
        case "dry run":
            answer = desk.ask(dry_run=link_pb2.ScanGroup(client_frame=frame, gate_numbers=GATES))
        case "refused change":
            answer = desk.ask(change=control_pb2.ChangeTicketsRequest(changes=[refund]))
        case "registration":
            issued = control_pb2.IssuedTicket(token=fresh)
            answer = desk.ask(register=control_pb2.RegisterTicketsRequest(tickets=[issued]))
        case _:
            answer = desk.group(passages=[report])
    await until(lambda: bool(desk.owner.counters.fenced))
    await asyncio.sleep(0.05)
    assert not answer.done()
    assert desk.owner.counters.fenced == ["p1"]


@pytest.mark.parametrize(("after_ms", "assumed"), [(1_999, False), (2_000, True), (2_001, True)])
async def test_a_passage_that_nobody_reports_counts_as_passed_when_its_time_is_over(
    desk: Desk, after_ms: int, assumed: bool
) -> None:
    code = token("day", 1)
    await desk.register(code)
    entry = desk.scan(code, lane=MAIN)
    await desk.send(entry)
    desk.clock.now_ms += after_ms
    await asyncio.sleep(0.25)  # two ticks of the owner
    receipt = await desk.passage(entry.scan_id, ticket_id(code), gate_pb2.PASSAGE_OUTCOME_NOT_PASSED)
    expected = gate_pb2.PASSAGE_OUTCOME_ASSUMED if assumed else gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
    assert receipt.recorded == expected
    recorded = [event.passage_recorded for entry in await desk.log("p1") for event in elementary(entry)][-1]
    assert recorded.outcome == expected
    assert recorded.persons_given_back == (0 if assumed else 1)


async def test_passages_that_are_due_are_asked_for_once_however_long_the_ledger_stands_still(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound on every queue: each tick put the same work into the inbox again."""
    monkeypatch.setattr("cluster.owner.TICK_S", 0.001)
    code, held = token("day", 1), asyncio.Event()
    await desk.register(code)
    entry = desk.scan(code, lane=MAIN)
    await desk.send(entry)
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    waiting = [desk.group(desk.scan(code))]
    await asyncio.sleep(0.15)  # it is being appended; the first tick of the owner is over as well
    waiting.append(desk.group(desk.scan(code)))
    await asyncio.sleep(0.01)  # it is in the next batch, which is too old for what comes now
    desk.clock.now_ms += 2_500
    await asyncio.sleep(0.1)
    assert len(desk.owner._inbox) == 1
    held.set()
    await asyncio.gather(*waiting)
    await until(lambda: entry.scan_id in desk.owner.owned[1].settled)
    desk.clock.now_ms += 1
    later = desk.scan(token("day", 3), lane=MAIN)
    await desk.send(later)
    desk.clock.now_ms += 2_000
    await until(lambda: later.scan_id in desk.owner.owned[1].settled)


async def test_a_crowd_beyond_the_bound_is_told_to_come_again_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7"""
    monkeypatch.setattr("cluster.owner.MAX_SCANS_WAITING", 3)
    code = token("day", 1)
    await desk.register(code)
    held = asyncio.Event()
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    first = desk.group(desk.scan(code))
    await asyncio.sleep(0.05)
    waiting = desk.group(*(desk.scan(code) for _ in range(4)))
    shed = gate_pb2.ServerFrame.FromString((await desk.group(desk.scan(code))).server_frame).verdicts[0]
    assert (reason(shed), shed.decision) == ("BACKPRESSURE", gate_pb2.DECISION_RETRY)
    held.set()
    await first
    assert len(gate_pb2.ServerFrame.FromString((await waiting).server_frame).verdicts) == 4


async def test_an_owner_without_a_catalogue_admits_nobody_and_blames_nobody(valkey_url: str) -> None:
    """I7"""
    desk = Desk(valkey_url)
    desk.real = Ledger(valkey_url)
    await desk.take_over()
    (verdict,) = await desk.send(desk.scan(token("day", 1)))
    assert (reason(verdict), verdict.decision) == ("BACKPRESSURE", gate_pb2.DECISION_RETRY)
    await desk.stop()


async def test_a_crowds_passages_that_nobody_reported_are_settled_in_pieces_and_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds after a full frame from every gate they are all due at once, and others are at the gates by then."""
    monkeypatch.setattr("cluster.owner.SCANS_A_PIECE", 5)
    monkeypatch.setattr("cluster.owner.MAX_SCANS_A_TURN", 20)
    codes = [token("day", number) for number in range(1, 101)]
    await desk.register(*codes)
    await asyncio.gather(*(desk.send(desk.scan(code, lane=MAIN)) for code in codes))
    before = {name: len(await desk.log(name)) for name in ("p0", "p1")}
    desk.clock.now_ms += 2_001
    entries: dict[str, list[events_pb2.LogEntry]] = {}
    settled: dict[str, list[int]] = {"p0": [], "p1": []}
    async with asyncio.timeout(10):
        while sum(map(len, settled.values())) < len(codes):
            await asyncio.sleep(0.05)
            entries = {name: (await desk.log(name))[before[name] :] for name in before}
            settled = {
                name: [event.passage_recorded.ticket_id for entry in some for event in elementary(entry)]
                for name, some in entries.items()
            }
    assert sorted(settled["p0"] + settled["p1"]) == sorted(ticket_id(code) for code in codes)
    assert min(map(len, entries.values())) >= 3
