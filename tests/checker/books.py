"""I2 and I6 in Postgres: every fact of the ledger is a row exactly once, and sums are a recount.

`Books` holds the rows as plain values, so that they may come from Postgres or from a simulation of it. Instants are UTC
milliseconds, ids are hexadecimal, days are ISO dates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.entitlements import ADMIT, ENTRY
from tests.checker.history import History
from tests.checker.ledger import Fact, Ledger
from tests.checker.violation import Violation

MINUTE_MS = 60_000
Key = tuple[Any, ...]
Sums = Mapping[Key, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Sold:
    """A ticket as sales have it. `replaces`: the ticket that was moved to another date and became this one."""

    order: int
    product: int
    price_minor: int
    currency: str
    replaces: int | None = None


@dataclass(slots=True)
class Books:
    """What Postgres holds, as far as it says something that the ledger says too.

    scans          partition, sequence, scan_id, ticket, gate, decision, reason, kind, persons, first_admission
    passages       partition, sequence, scan_id, ticket, gate, outcome, persons_given_back
    tickets        partition, sequence, ticket, to_lifecycle, price_minor, registered
    scan_sums      partition, minute_ms, day, gate, zone, product, direction, decision, reason, kind -> scans, persons
    passage_sums   partition, minute_ms, day, gate, zone, product, kind, outcome -> passages, persons_given_back
    ticket_sums    partition, day, product, from_lifecycle, to_lifecycle, registered -> tickets, price_minor
    first          ticket -> scan_id of its first admission
    offsets        partition -> sequence up to which it was read
    postings       transaction, kind, order, ticket or None, product or None, account, currency, amount_minor
    sold           ticket -> as sales have it; None where sales were not looked at
    """

    scans: list[Key] = field(default_factory=list)
    passages: list[Key] = field(default_factory=list)
    tickets: list[Key] = field(default_factory=list)
    scan_sums: dict[Key, tuple[int, int]] = field(default_factory=dict)
    passage_sums: dict[Key, tuple[int, int]] = field(default_factory=dict)
    ticket_sums: dict[Key, tuple[int, int]] = field(default_factory=dict)
    first: dict[int, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    postings: list[Key] = field(default_factory=list)
    sold: dict[int, Sold] | None = None


def check_books(books: Books, ledger: Ledger, zone: tzinfo = UTC) -> Iterator[Violation]:
    """All violations between Postgres and the ledger up to the offsets, which must be at the ledger's end."""
    for partition, last in ledger.last.items():
        if books.offsets.get(partition, 0) != last:
            read = books.offsets.get(partition, 0)
            yield Violation("I6", f"partition {partition}", f"was read up to entry {read} of {last}")
    count = recount(ledger, zone)
    for name in ("scans", "passages", "tickets"):
        yield from _rows(name, getattr(books, name), getattr(count, name))
    for name in ("scan_sums", "passage_sums", "ticket_sums"):
        yield from _sums(name, getattr(books, name), getattr(count, name))
    for ticket in sorted(books.first.keys() ^ count.first.keys()):
        where = "Postgres" if ticket in books.first else "the ledger"
        yield Violation("I6", f"ticket {ticket}", f"its revenue is recognised in {where} only")
    for ticket in sorted(books.first.keys() & count.first.keys()):
        if books.first[ticket] != count.first[ticket]:
            by = f"by {books.first[ticket]} in Postgres, by {count.first[ticket]} in the ledger"
            yield Violation("I6", f"ticket {ticket}", f"its revenue is recognised {by}")


def _rows(name: str, found: list[Key], expected: list[Key]) -> Iterator[Violation]:
    have, want = Counter(found), Counter(expected)
    if have == want:
        return
    for row in have | want:
        if have[row] != want[row]:
            what = f"is {have[row]} times in Postgres, {want[row]} times in the ledger"
            yield Violation("I2" if have[row] < want[row] else "I6", f"{name} {row}", what)


def _sums(name: str, found: Sums, expected: Sums) -> Iterator[Violation]:
    for key in found.keys() | expected.keys():
        have, want = found.get(key, (0, 0)), expected.get(key, (0, 0))
        if have != want:
            yield Violation("I6", f"{name} {key}", f"Postgres sums {have}, a recount {want}")


def check_sold(history: History, books: Books) -> Iterator[Violation]:
    """I6: each ticket that a window has handed out is in sales' books."""
    if books.sold is None:
        return
    for ticket in sorted({item.request["ticket"] for item in history.of("issue")} - books.sold.keys()):
        yield Violation("I6", f"ticket {ticket}", "was handed out, and sales' books do not have it")


def recount(ledger: Ledger, zone: tzinfo) -> Books:
    """What Postgres must hold, counted from the facts."""
    books = Books(offsets=dict(ledger.last))
    for fact in ledger.facts:
        match fact.kind:
            case "scan_decided":
                _scan(books, fact, zone)
            case "passage_recorded":
                _passage(books, fact, zone)
            case "ticket_registered":
                _registered(books, fact, zone)
            case "ticket_changed":
                _changed(books, fact, zone)
    return books


def _scan(books: Books, fact: Fact, zone: tzinfo) -> None:
    scan = fact.body
    place = (scan.gate_number, scan.zone_number, scan.product_number)
    books.scans.append(
        (fact.partition, fact.sequence, scan.scan_id.hex(), scan.ticket_id, scan.gate_number, scan.decision,
         scan.reason, scan.kind, scan.persons, scan.first_admission)
    )  # fmt: skip
    key = (*_minute(fact, zone), *place, scan.direction, scan.decision, scan.reason, scan.kind)
    _add(books.scan_sums, key, scan.persons)
    if scan.first_admission and scan.decision == ADMIT and scan.kind == ENTRY:
        books.first[scan.ticket_id] = scan.scan_id.hex()


def _passage(books: Books, fact: Fact, zone: tzinfo) -> None:
    passage = fact.body
    place = (passage.gate_number, passage.zone_number, passage.product_number)
    books.passages.append(
        (fact.partition, fact.sequence, passage.scan_id.hex(), passage.ticket_id, passage.gate_number,
         passage.outcome, passage.persons_given_back)
    )  # fmt: skip
    key = (*_minute(fact, zone), *place, passage.kind, passage.outcome)
    _add(books.passage_sums, key, passage.persons_given_back)
    if passage.first_admission_undone and passage.outcome == gate.PASSAGE_OUTCOME_NOT_PASSED:
        books.first.pop(passage.ticket_id, None)


def _registered(books: Books, fact: Fact, zone: tzinfo) -> None:
    ticket = fact.body
    ticket_id, product = int.from_bytes(ticket.claims[1:9], "big"), int.from_bytes(ticket.claims[9:11], "big")
    row = (fact.partition, fact.sequence, ticket_id, ticket.lifecycle, ticket.price_minor, True)
    books.tickets.append(row)
    _add(books.ticket_sums, (fact.partition, _day(fact, zone), product, 0, ticket.lifecycle, True), ticket.price_minor)


def _changed(books: Books, fact: Fact, zone: tzinfo) -> None:
    change = fact.body
    books.tickets.append((fact.partition, fact.sequence, change.ticket_id, change.to, change.price_minor, False))
    key = (fact.partition, _day(fact, zone), change.product_number, getattr(change, "from"), change.to, False)
    _add(books.ticket_sums, key, change.price_minor)


def _minute(fact: Fact, zone: tzinfo) -> Key:
    return fact.partition, fact.time_ms // MINUTE_MS * MINUTE_MS, _day(fact, zone)


def _day(fact: Fact, zone: tzinfo) -> str:
    return datetime.fromtimestamp(fact.time_ms / 1000, zone).date().isoformat()


def _add(sums: dict[Key, tuple[int, int]], key: Key, amount: int) -> None:
    count, total = sums.get(key, (0, 0))
    sums[key] = (count + 1, total + amount)
