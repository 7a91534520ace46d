"""What sales really write, before the checker of the promises: nothing of it is wrong; what is left out is found."""

from dataclasses import replace

from parkgate.events.v1 import events_pb2 as events
from parkgate.sales.v1 import sales_pb2 as pb
from sales.identity import LOCAL
from sales.usecases.refund_tickets import refund_tickets
from sales.usecases.reschedule_ticket import reschedule_ticket
from tests.checker import Books, History, StoredEntry, check_money, check_postings, read_ledger
from tests.checker.sources import POSTINGS, SOLD, sold_of
from tests.sales.conftest import Desk, line
from tests.sales.test_price_differences import SATURDAY, UP, move
from tests.sales.test_refunds import ask, settle_all

LIFECYCLE_OF = {"refund": events.LIFECYCLE_REFUNDED, "reschedule": events.LIFECYCLE_RESCHEDULED}


async def test_all_that_sales_book_is_found_right_by_the_checker(desk: Desk) -> None:
    """I9: families and groups with free places, bundles, fees, moves to a dearer date and refunds of what was moved."""
    history = History()
    day, child, *_ = await sold(desk, history, line(), line(concession="child", count=2))
    await sold(desk, history, line(concession="group", count=21))
    show = await sold(desk, history, line("lake-evening", count=2, slot=3), line())
    await desk.relay()
    moved = (await reschedule_ticket(desk.sales, LOCAL, move(day, SATURDAY, UP))).ticket
    await desk.relay()
    await refund_tickets(desk.sales, LOCAL, ask([moved, child]))
    await refund_tickets(desk.sales, LOCAL, ask(show[:4]))
    await settle_all(desk)
    assert len(desk.cluster.voided) == 7
    assert await found(desk, history) == []


async def test_what_is_left_out_of_sales_books_is_found_by_the_checker(desk: Desk) -> None:
    """I9: the database refuses to change what was booked, so it is spoiled where the checker has read it."""
    history = History()
    (ticket,) = await sold(desk, history, line())
    await desk.relay()
    await refund_tickets(desk.sales, LOCAL, ask([ticket]))
    books = await read(desk)
    ledger = read_ledger([await voided(desk)])
    for kind, said in (("sale", "0 CHF are booked as its sale"), ("refund", "[] were booked as its refund")):
        spoiled = replace(books, postings=[line for line in books.postings if line[1] != kind])
        assert [said in item.what for item in check_money(history, spoiled, ledger)] == [True]


async def sold(desk: Desk, history: History, *lines: pb.OrderLine) -> list[pb.Ticket]:
    """An order that is paid, as the window saw it."""
    tickets = await desk.sell(*lines)
    for ticket in tickets:
        asked = {"ticket": ticket.ticket_id, "price_minor": ticket.price_minor}
        history.note("issue", "sales", 0, asked)
    return tickets


async def read(desk: Desk) -> Books:
    """What sales have written."""
    return Books(sold=sold_of(await desk.rows(SOLD)), postings=[tuple(row) for row in await desk.rows(POSTINGS)])


async def voided(desk: Desk) -> StoredEntry:
    """The ledger, as far as it says which tickets were given back."""
    entry = events.LogEntry(partition="p0", sequence=1)
    for ticket, kind in await desk.rows("SELECT ticket_id, kind FROM sales.voids WHERE state = 'done'"):
        assert ticket in desk.cluster.voided
        change = entry.events.add().ticket_changed
        change.ticket_id, change.to = ticket, LIFECYCLE_OF[kind]
    return StoredEntry("p0", 1, entry.SerializeToString())


async def found(desk: Desk, history: History) -> list[str]:
    books = await read(desk)
    broken = [*check_postings(books), *check_money(history, books, read_ledger([await voided(desk)]))]
    return [str(item) for item in broken]
