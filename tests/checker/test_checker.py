"""The checker, rule by rule: a story in which nothing is wrong, and that story spoiled in one place at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker import UNKNOWN, Books, History, Sold, Trimmed, check, check_sold, report
from tests.checker.small_story import (
    CONFIRMED,
    ENTRY,
    EXIT,
    HELD,
    LAPSED,
    NOT_PASSED,
    ORDER,
    PASSED,
    PINNED,
    PRODUCT,
    QUOTA,
    REENTRY,
    TICKET,
    ZONE,
    Story,
    admitted,
    booking,
    change_refused,
    changed,
    hold,
    lease,
    moved,
    passage,
    refused,
    registered,
    scan_id,
)

ALREADY_USED = gate.REASON_ALREADY_USED
USED_BEFORE = pb.CHANGE_REFUSAL_ALREADY_USED
USED = {"decision": "REJECT", "reason": "ALREADY_USED", "persons": 0, "kind": "UNSPECIFIED", "ticket": TICKET}


def good() -> Story:
    """A guest goes in, shows the code again, leaves; a unit is sold; another guest's refund is done."""
    story = Story()
    story.entry(registered())
    story.enter(1)
    story.entry(passage(1, PASSED), refused(2, ALREADY_USED))
    story.hear(1)
    story.hear(1, said="scan")
    story.go(1)
    story.hear(2, **USED)
    story.entry(admitted(3, kind=EXIT, first_admission=False))
    for state in (HELD, PINNED, CONFIRMED):
        story.entry(hold(1, state), partition="q0")
    return story


def test_a_good_day_has_no_violation() -> None:
    story = good()
    assert story.check(story.books()) == []


def test_a_scan_whose_time_is_far_off_is_refused_without_a_record() -> None:
    story = good()
    story.hear(9, **(USED | {"reason": "CLOCK_SKEW", "ticket": 0}))
    assert story.check(story.books()) == []


Spoil = Callable[[Story], None]
SPOILED: dict[str, tuple[str, Spoil]] = {
    "two entries on a ticket for one": (
        "I1 2 person-entries were admitted, 1 are allowed",
        lambda story: story.enter(4, first_admission=False),
    ),
    "more inside than the party": (
        "I1 2 persons are inside on a ticket for 1",
        lambda story: (story.issue(8, 3), story.enter(4, 8), story.enter(5, 8, first_admission=False)),
    ),
    "more on a day than allowed": (
        "I1 2 person-entries on one day, 1 are allowed",
        lambda story: (
            story.issue(8, 3, daily_entries=1),
            story.enter(4, 8, counts_inside=False),
            story.enter(5, 8, first_admission=False, counts_inside=False),
        ),
    ),
    "somebody leaves twice": (
        "I1 more persons left than were inside",
        lambda story: story.entry(admitted(4, kind=EXIT, first_admission=False)),
    ),
    "an earlier epoch after a later one": (
        "I1 is of epoch 1, after epoch 2: a fenced owner wrote",
        lambda story: (story.entry(epoch=2), story.entry(epoch=1)),
    ),
    "a passage of what was refused": (
        "I1 a passage was recorded of what was never admitted",
        lambda story: story.entry(passage(2, PASSED)),
    ),
    "a passage recorded twice": (
        "I1 its passage was recorded twice",
        lambda story: story.entry(passage(1, NOT_PASSED)),
    ),
    "guests go through on what was given back": (
        "I1 the guests went through, and their entry was given back",
        lambda story: (story.issue(8), story.enter(4, 8), story.entry(passage(4, NOT_PASSED, 8)), story.go(4, 8)),
    ),
    "more go through than may": (
        "I1 2 persons went through, 1 may",
        lambda story: story.go(9),
    ),
    "an admission that was heard is not there": (
        "I2 ADMIT was heard and is not in the ledger",
        lambda story: story.hear(9),
    ),
    "an admission is heard before it is durable": (
        "I2 was heard 3 ms before it was durable",
        lambda story: story.hear(1, at=999),
    ),
    "an entry is missing": (
        "I2 follows entry 4: the log has a gap or a repeat",
        lambda story: (story.numbers.update(p0=5), story.entry()),
    ),
    "a batch is there twice": (
        "I2 batch 0000000000000001 was appended before: it is there twice",
        lambda story: story.entry(batch_id=(1).to_bytes(8, "big")),
    ),
    "time falls": ("I2 time falls from 1007 to 5", lambda story: story.entry(partition="q0", time_ms=5)),
    "a scan is decided twice": ("I3 was decided twice", lambda story: story.entry(refused(1, ALREADY_USED))),
    "a scan is answered in two ways": (
        "I3 was answered in two ways",
        lambda story: story.hear(1, **USED),
    ),
    "a gate heard what is not written": (
        "I3 the ledger says {'decision': 'ADMIT', 'reason': 'UNSPECIFIED', 'persons': 1, 'kind': 'ENTRY', 'ticket': 7}",
        lambda story: story.hear(1, said="scan", persons=2),
    ),
    "more inside than the zone holds": (
        "I4 4 persons are inside, 3 may be",
        lambda story: [(story.issue(ticket), story.enter(ticket, ticket)) for ticket in (11, 12, 13, 14)],
    ),
    "more is leased than there is": (
        "I4 4 units are leased, 3 there are",
        lambda story: story.entry(moved(4), partition="q0"),
    ),
    "a partition admits beyond its lease": (
        "I4 p0 has 1 units and 2 persons inside",
        lambda story: (story.issue(8, 2, 2), story.entry(admitted(4, 8, persons=2))),
    ),
    "a partition receives what was not granted": (
        "I4 p0 received 2 units and was granted 1",
        lambda story: story.entry(lease(2)),
    ),
    "a lease is taken back by the clock": (
        "I4 1 units of p0 were taken back, it gave 0",
        lambda story: story.entry(moved(1, 1), partition="q0"),
    ),
    "more is held than there is": (
        "I4 3 units are sold and held, 2 there are",
        lambda story: story.entry(hold(2, HELD, 2), partition="q0"),
    ),
    "a lapsed hold is confirmed": (
        "I4 became CONFIRMED after LAPSED",
        lambda story: [story.entry(hold(2, state), partition="q0") for state in (HELD, LAPSED, CONFIRMED)],
    ),
    "a hold begins confirmed": (
        "I4 CONFIRMED is no beginning of it",
        lambda story: story.entry(hold(2, CONFIRMED), partition="q0"),
    ),
    "a zone is not full": (
        "I4 ended with 0 persons inside, 3 may be",
        lambda story: story.history.note("full", "nobody", 0, {"zone": ZONE}),
    ),
    "a quota is not sold out": (
        "I4 ended with 1 sold and 1 taken of 2",
        lambda story: story.history.note("full", "nobody", 0, {"quota": QUOTA}),
    ),
    "a hold that was confirmed is not there": (
        "I4 confirm was done, and the ledger knows nothing of it",
        lambda story: story.history.note(
            "hold", "window", 0, {"hold_id": scan_id(9).hex(), "step": "confirm"}, state="DONE"
        ),
    ),
    "a ticket is refunded after its use": (
        "I5 became LIFECYCLE_REFUNDED with 1 persons admitted",
        lambda story: story.entry(changed(pb.LIFECYCLE_REFUNDED)),
    ),
    "a ticket is admitted after its refund": (
        "I5 was admitted while LIFECYCLE_REFUNDED",
        lambda story: (story.issue(8), story.entry(changed(pb.LIFECYCLE_REFUNDED, 2, 8)), story.enter(4, 8)),
    ),
    "money back without the ledger": (
        "I5 was refunded, and the ledger knows nothing of it",
        lambda story: story.refund(),
    ),
    "a refund is done after it was refused": (
        "I5 request 00000000000000000000000000000005 changed it after a refusal",
        lambda story: (
            story.issue(8),
            story.enter(4, 8),
            story.entry(change_refused(USED_BEFORE, 5, 8), passage(4, NOT_PASSED, 8)),
            story.entry(changed(pb.LIFECYCLE_REFUNDED, 5, 8)),
        ),
    ),
    "a refund is refused after it was done": (
        "I5 request 00000000000000000000000000000005 was refused after it was answered",
        lambda story: story.entry(
            changed(pb.LIFECYCLE_REFUNDED, 5, 8), change_refused(pb.CHANGE_REFUSAL_NOT_ALLOWED, 5, 8)
        ),
    ),
    "a refund is refused twice by one request": (
        "I5 request 00000000000000000000000000000005 was refused after it was answered",
        lambda story: story.entry(change_refused(USED_BEFORE, 5), change_refused(USED_BEFORE, 5)),
    ),
    "a refund is refused as used, and nobody came": (
        "I5 a change was refused as used, with nobody admitted",
        lambda story: story.entry(change_refused(USED_BEFORE, 5, 8)),
    ),
    "a refund is told in two ways": (
        "I5 its refund was answered in two ways",
        lambda story: (story.refund(5, "ALREADY_USED"), story.refund(5, "NOT_ALLOWED")),
    ),
    "a refund was refused and done": (
        "I5 was refused, and the ledger did it",
        lambda story: (story.entry(changed(pb.LIFECYCLE_REFUNDED)), story.refund(state="ALREADY_USED")),
    ),
    "a guest inside has the money back": (
        "I5 the guest is inside and has the money back",
        lambda story: (story.entry(changed(pb.LIFECYCLE_REFUNDED)), story.refund()),
    ),
    "revenue is recognised twice": (
        "I6 the ledger says a first admission wrongly",
        lambda story: story.entry(admitted(4, kind=REENTRY)),
    ),
    "a first admission is undone wrongly": (
        "I6 its first admission is undone wrongly",
        lambda story: (
            story.issue(8),
            story.enter(4, 8),
            story.entry(passage(4, NOT_PASSED, 8, first_admission_undone=False)),
        ),
    ),
    "a ticket is registered twice": ("I6 is registered twice", lambda story: story.entry(registered())),
    "a refusal that nobody decided": (
        "I7 REJECT was refused, and nobody has decided that",
        lambda story: story.hear(9, **USED),
    ),
    "a fault of ours as a bad ticket": (
        "I7 a fault of ours was told as REJECT",
        lambda story: (story.entry(refused(4, gate.REASON_TIMEOUT)), story.hear(4, **(USED | {"reason": "TIMEOUT"}))),
    ),
    "an unknown outcome is shown as ADMIT": (
        "I7 an unknown outcome was shown as ADMIT",
        lambda story: setattr(list(story.history.of("scan"))[-1], "outcome", UNKNOWN),
    ),
    "an admission is shown for another ticket": (
        "I1 the admission of ticket 7 was shown for ticket 8",
        lambda story: list(story.history.of("scan"))[-1].request.update(ticket=8),
    ),
    "a forged code is admitted": (
        "I8 a forged code was admitted",
        lambda story: list(story.history.of("scan"))[-1].request.update(forged=True),
    ),
    "a ticket that nobody issued": (
        "I8 was admitted, but nobody has issued it",
        lambda story: story.entry(admitted(4, 99)),
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_day_is_named_by_its_promise(name: str) -> None:
    """I1 to I8: each rule can fail, and says so."""
    expected, spoil = SPOILED[name]
    story = good()
    spoil(story)
    assert expected in story.found()


def test_the_days_of_a_daily_limit_are_those_of_the_park() -> None:
    """I1: one entry a minute before midnight in the park, one a minute after it; in UTC it is one day."""
    midnight_ms = 1_780_329_600_000  # 2026-06-01 16:00 UTC, 2026-06-02 00:00 in Shanghai
    story = Story()
    story.history.operations[0].request["time_zone"] = "Asia/Shanghai"
    story.issue(TICKET, 3, daily_entries=1)
    story.entry(moved(2), partition="q0", time_ms=midnight_ms)
    story.entry(lease(2), admitted(1), time_ms=midnight_ms - 60_000)
    story.entry(admitted(2, kind=EXIT, first_admission=False), time_ms=midnight_ms - 30_000)
    story.entry(admitted(3, first_admission=False), time_ms=midnight_ms + 60_000)
    assert story.found() == []
    story.entry(admitted(4, kind=EXIT, first_admission=False), time_ms=midnight_ms + 90_000)
    story.entry(admitted(5, first_admission=False), time_ms=midnight_ms + 86_400_000 - 60_000)
    assert story.found() == ["I1 2 person-entries on one day, 1 are allowed"]


def test_without_an_order_of_partitions_their_own_order_and_the_end_are_checked() -> None:
    """I4: a real ledger does not say which of two partitions' entries was first."""
    story = good()
    story.entry(lease(1, 1))
    story.entry(moved(1, 1), partition="q0")
    story.entries = [replace(item, order=None) for item in reversed(story.entries)]
    assert story.found() == []
    story.entry(moved(2, 2), partition="q0")
    story.entries[-1] = replace(story.entries[-1], order=None)
    assert story.found() == ["I4 2 units of p0 were taken back, it gave 1"]


def test_an_entry_that_cannot_be_read_is_named() -> None:
    """I2"""
    story = good()
    story.entries[1] = story.entries[1].__class__("q0", 1, b"\xff\xff", 1)
    assert "I2 the entry cannot be read" in story.found()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda books: books.scans.append(books.scans[0]), "I6 is 2 times in Postgres, 1 times in the ledger"),
        (lambda books: books.scans.pop(), "I2 is 0 times in Postgres, 1 times in the ledger"),
        (lambda books: books.passages.clear(), "I2 is 0 times in Postgres, 1 times in the ledger"),
        (lambda books: books.tickets.clear(), "I2 is 0 times in Postgres, 1 times in the ledger"),
        (lambda books: books.scan_sums.popitem(), "I6 Postgres sums (0, 0), a recount (1, 1)"),
        (lambda books: books.ticket_sums.popitem(), "I6 Postgres sums (0, 0), a recount (1, 1000)"),
        (lambda books: books.first.update({5: "00"}), "I6 its revenue is recognised in Postgres only"),
        (lambda books: books.first.clear(), "I6 its revenue is recognised in the ledger only"),
        (
            lambda books: books.first.update(dict.fromkeys(books.first, "00")),
            f"I6 its revenue is recognised by 00 in Postgres, by {(1).to_bytes(16, 'big').hex()} in the ledger",
        ),
        (lambda books: books.offsets.update(p0=1), "I6 was read up to entry 1 of 4"),
        (lambda books: books.postings.extend(booking("t", "sale", 5, -4)), "I9 its postings sum to 1 EUR"),
    ],
)
def test_books_that_say_something_else_are_named(spoil: Callable[..., object], expected: str) -> None:
    """I2, I6, I9"""
    story = good()
    books = story.books()
    books.postings += booking("t0", "sale", 500, -500)
    assert story.found(books) == []
    spoil(books)
    assert expected in story.found(books)


@pytest.mark.parametrize(
    ("trim", "said"),
    [
        (Trimmed("p0", 3, 3, 3), []),
        (Trimmed("p0", 3, 4, 9), []),
        (Trimmed("p0", 3, 2, 3), ["I2 its log is trimmed up to entry 3, and its snapshot holds up to entry 2"]),
        (Trimmed("p0", 3, 0, 3), ["I2 its log is trimmed up to entry 3, and its snapshot holds up to entry 0"]),
        (Trimmed("p0", 3, 3, 2), ["I6 its log is trimmed up to entry 3, and was read up to entry 2"]),
        (Trimmed("p0", 4, 4), []),
        (Trimmed("p0", 5, 5), ["I6 its log is trimmed up to entry 5, and was read up to entry 4"]),
        (Trimmed("p9", 1, 1), ["I6 its log is trimmed up to entry 1, and was read up to entry 0"]),
    ],
)
def test_what_is_trimmed_is_in_the_snapshot_and_was_read(trim: Trimmed, said: list[str]) -> None:
    """I2, I6: at that instant; or, where only that is known, by the offset of the books, which is 4."""
    story = good()
    books = story.books()
    assert books.offsets["p0"] == 4
    assert [f"{item.promise} {item.what}" for item in check(story.history, story.entries, books, [trim])] == said


def test_columns_mean_what_as_many_single_events_in_their_place_would() -> None:
    single, columns = Story(), Story()
    for story in (single, columns):
        for ticket in (11, 12):
            story.issue(ticket)
        story.entry(moved(2), partition="q0")
    alike, settled = admitted(1, 0).scan_decided, passage(1, PASSED, 0).passage_recorded
    for event in (alike, settled):
        event.ClearField("scan_id")
        event.ClearField("gate_number")
    ids, tickets, gates = scan_id(1) + scan_id(2), [11, 12], [21, 22]
    single.entry(lease(2), admitted(1, 11, scan_time_ms=5), admitted(2, 12, gate_number=22, scan_time_ms=6))
    single.entry(passage(1, PASSED, 11), passage(2, PASSED, 12, gate_number=22))
    run = pb.ScansAdmitted(alike=alike, scan_ids=ids, ticket_ids=tickets, gate_numbers=gates, scan_times_ms=[5, 6])
    columns.entry(lease(2), pb.Event(scans_admitted=run))
    run_of_passages = pb.PassagesRecorded(alike=settled, scan_ids=ids, ticket_ids=tickets, gate_numbers=gates)
    columns.entry(pb.Event(passages_recorded=run_of_passages))
    assert columns.books() == single.books()
    assert columns.found() == single.found() == []


def test_a_ticket_that_was_handed_out_is_in_the_books_of_sales() -> None:
    """I6"""
    story = Story()
    story.issue(8)
    story.issue(9)
    assert [str(item) for item in check_sold(story.history, Books(sold=sold_tickets(TICKET, 8, 10)))] == [
        "I6 (reports equal a recount of the ledger): ticket 9: was handed out, and sales' books do not have it"
    ]
    assert list(check_sold(story.history, Books(sold=sold_tickets(TICKET, 8, 9)))) == []
    assert list(check_sold(story.history, Books())) == []


def sold_tickets(*tickets: int) -> dict[int, Sold]:
    return dict.fromkeys(tickets, Sold(ORDER, PRODUCT, 1_000, "EUR"))


def test_a_history_comes_back_from_its_lines_as_it_was() -> None:
    history = good().history
    assert list(History.load(history.dump())) == list(history)


@pytest.mark.parametrize("line", ["{", "{}", '{"kind": "nap", "process": "a", "invoked": 1, "request": {}}'])
def test_a_line_that_is_no_operation_is_named_by_its_number(line: str) -> None:
    good_line = good().history.dump().splitlines()[0]
    with pytest.raises(ValueError, match="line 2 of the history"):
        History.load(f"{good_line}\n{line}\n")


def test_the_report_lists_violations_by_promise_and_says_how_many_more_there_are() -> None:
    story = good()
    story.hear(9)
    story.enter(4, kind=ENTRY, first_admission=False)
    text = report(story.check(), limit=1)
    assert text.startswith("  1. I1 (one entitlement admits once): ticket 7 in zone 2: 2 person-entries were admitted")
    assert "... and" in text
    assert report([]) == "  no violation"
