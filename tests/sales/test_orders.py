"""Orders from hold to issue: quotas, idempotency, crashes between any two steps."""

import asyncio

import pytest
import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.errors import RequestReusedError
from sales.identity import LOCAL, Caller, Role
from sales.tables import metadata
from sales.usecases.cancel_order import cancel_order, lapse_orders
from sales.usecases.create_order import create_order, quote_order
from sales.usecases.pay_order import pay_order
from sales.usecases.read_orders import get_order, list_orders
from sales.usecases.read_tickets import get_ticket, list_tickets
from tests.sales.conftest import CRASH, VISIT, Desk, line, new_id, publish
from ticketcore.errors import (
    ConflictError,
    InvalidInputError,
    InvalidInputsError,
    NotFoundError,
    NotPermittedError,
    SoldOutError,
    TransientError,
)
from ticketcore.token import Flags, KeyRing, verify

DAY_QUOTA = f"product=1;date={VISIT}"
SHOW = f"product=8;date={VISIT};slot=3"


def cash(order: pb.Order, request_id: bytes = b"") -> pb.PayOrderRequest:
    return pb.PayOrderRequest(
        request_id=request_id or new_id(),
        order_id=order.order_id,
        method=pb.PAYMENT_METHOD_CASH,
        tendered_minor=order.total_minor + 100,
    )


async def test_the_tables_are_those_that_the_migration_makes(desk: Desk) -> None:
    for table in metadata.tables.values():
        columns = await desk.rows(
            "SELECT column_name, is_nullable FROM information_schema.columns "
            f"WHERE table_schema = 'sales' AND table_name = '{table.name}'"
        )
        assert {name: nullable == "YES" for name, nullable in columns} == {
            column.name: bool(column.nullable) for column in table.columns
        }


async def test_a_cash_sale_holds_pins_issues_and_tells_the_cluster(desk: Desk) -> None:
    order = await desk.order(line(count=2), line("night-show", "student", 3, slot=3))
    assert (order.total_minor, order.state) == (2 * 7900 + 3 * 2800, pb.ORDER_STATE_HELD)
    answer = await pay_order(desk.sales, LOCAL, cash(order))
    assert (answer.change_minor, answer.order.state, len(answer.tickets)) == (100, pb.ORDER_STATE_ISSUED, 5)
    assert desk.cluster.tokens == {}
    await desk.relay()
    assert desk.cluster.tokens == {ticket.ticket_id: ticket.token for ticket in answer.tickets}
    assert (desk.cluster.sold(DAY_QUOTA), desk.cluster.sold(SHOW)) == (2, 3)
    assert await desk.value("SELECT count(*) FROM sales.outbox") == 0
    assert [row.kind for row in await desk.rows("SELECT kind FROM sales.finance_lines")] == ["sold"] * 5


async def test_a_ticket_says_what_the_catalogue_entitles_to(desk: Desk) -> None:
    tickets = await desk.sell(line("night-show", "senior", slot=3), line("two-day"), line("annual"), line("family"))
    ring = KeyRing({3: desk.sales.config.signing_key.public_key()})
    show, two, annual, family = (verify(ticket.token, ring) for ticket in tickets)
    assert (show.slot, show.flags, show.first_day.isoformat()) == (3, Flags.CONCESSION_PROOF, VISIT)
    assert (two.entries, two.valid_days) == (2, 2)
    assert (annual.entries, annual.valid_days, annual.flags) == (0, 366, Flags.IDENTITY)
    assert (family.party, family.ticket_id >> 48) == (4, 7)


async def test_the_same_request_gets_the_stored_answer_and_another_body_is_refused(desk: Desk) -> None:
    request = pb.CreateOrderRequest(request_id=new_id(), lines=[line()], channel="window", window_id="w1")
    first = await create_order(desk.sales, LOCAL, request)
    assert await create_order(desk.sales, LOCAL, request) == first
    pay = cash(first.order)
    paid = await pay_order(desk.sales, LOCAL, pay)
    assert await pay_order(desk.sales, LOCAL, pay) == paid
    request.channel = "web"
    with pytest.raises(RequestReusedError, match="make a new one"):
        await create_order(desk.sales, LOCAL, request)
    with pytest.raises(InvalidInputError, match="request_id: has 3 bytes"):
        await create_order(desk.sales, LOCAL, pb.CreateOrderRequest(request_id=b"abc"))


async def test_the_same_payment_asked_at_once_by_many_issues_once(desk: Desk) -> None:
    order = await desk.order(line(count=3))
    pay = cash(order)
    answers = await asyncio.gather(*(pay_order(desk.sales, LOCAL, pay) for _ in range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 3


async def test_many_windows_at_once_sell_a_quota_exactly_full_and_never_more_i4(desk: Desk) -> None:
    """I4: 40 orders of 1 to 3 seats for 30 seats."""
    await publish(desk, lambda document: document["schedules"][0]["slots"][2].update(quota=30))

    async def guest(number: int) -> int:
        try:
            order = await desk.order(line("night-show", count=1 + number % 3, slot=3))
        except SoldOutError:
            return 0
        return len((await desk.cash(order)).tickets)

    sold = sum(await asyncio.gather(*(guest(number) for number in range(40))))
    while True:  # what is left is too little for some of them, never for a single guest
        try:
            sold += len(await desk.sell(line("night-show", slot=3)))
        except SoldOutError:
            break
    with pytest.raises(SoldOutError, match="Night show on the lake on 2026-12-10, slot 3 has 0 places left"):
        await desk.sell(line("night-show", slot=3))
    await desk.relay()
    assert sold == 30 == desk.cluster.sold(SHOW) == await desk.value("SELECT count(*) FROM sales.tickets")


@pytest.mark.parametrize("seam", ["create.held"])
async def test_an_order_killed_after_its_hold_finds_the_same_hold_again(desk: Desk, seam: str) -> None:
    request = pb.CreateOrderRequest(request_id=new_id(), lines=[line()], channel="window", window_id="w1")
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await create_order(desk.sales, LOCAL, request)
    await create_order(desk.sales, LOCAL, request)
    assert desk.cluster.book.counters[DAY_QUOTA].held == 1


@pytest.mark.parametrize("seam", ["pay.pinned", "pay.signed", "pay.recorded", "pay.committed"])
async def test_an_issue_killed_at_any_step_is_whole_or_not_at_all(desk: Desk, seam: str) -> None:
    order = await desk.order(line(count=2))
    pay = cash(order)
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await pay_order(desk.sales, LOCAL, pay)
    done = seam == "pay.committed"
    assert await desk.value("SELECT count(*) FROM sales.tickets") == (2 if done else 0)
    assert await desk.value("SELECT count(*) FROM sales.postings") == (2 if done else 0)
    answer = await pay_order(desk.sales, LOCAL, pay)
    await desk.relay()
    assert sorted(desk.cluster.tokens) == [ticket.ticket_id for ticket in answer.tickets]
    assert desk.cluster.sold(DAY_QUOTA) == 2


async def test_a_payment_that_never_came_back_after_its_pin_gives_the_units_back(desk: Desk) -> None:
    order = await desk.order()
    desk.crash_at = "pay.pinned"
    with pytest.raises(CRASH):
        await desk.cash(order)
    desk.wait(minutes=16)
    assert await lapse_orders(desk.sales) == 1
    await desk.relay()
    assert desk.cluster.book.counters[DAY_QUOTA].taken == 0
    with pytest.raises(ConflictError, match="its hold has lapsed"):
        await desk.cash(order)


@pytest.mark.parametrize(("seconds", "paid"), [(899, True), (900, False), (901, False)])
@pytest.mark.parametrize("product", ["day", "evening"])
async def test_a_hold_lapses_by_the_clock_until_payment_pins_it(
    desk: Desk, product: str, seconds: int, paid: bool
) -> None:
    """With a quota the cluster's clock decides, without one ours."""
    order = await desk.order(line(product))
    desk.wait(seconds=seconds)
    if paid:
        assert (await desk.cash(order)).tickets
    else:
        with pytest.raises(ConflictError, match="lapsed"):
            await desk.cash(order)


async def test_the_outbox_asks_again_until_the_cluster_acknowledges(desk: Desk) -> None:
    await desk.relay()
    tickets = await desk.sell()
    desk.cluster.deaf = True
    await desk.relay()
    assert await desk.value("SELECT count(*) FROM sales.outbox WHERE attempts = 1") == 2
    await desk.relay()
    assert desk.cluster.calls["confirm"] == 1, "not before its back-off is over"
    desk.cluster.deaf = False
    desk.wait(seconds=1)
    await desk.relay()
    assert await desk.value("SELECT count(*) FROM sales.outbox") == 0
    assert set(desk.cluster.tokens) == {tickets[0].ticket_id}


async def test_an_order_with_a_quota_is_not_made_while_the_cluster_is_away(desk: Desk) -> None:
    desk.cluster.away = True
    with pytest.raises(TransientError):
        await desk.order()
    assert (await desk.order(line("evening"))).state == pb.ORDER_STATE_HELD


async def test_a_cancelled_order_gives_its_units_back_and_cannot_be_paid(desk: Desk) -> None:
    order = await desk.order()
    request = pb.CancelOrderRequest(request_id=new_id(), order_id=order.order_id)
    answer = await cancel_order(desk.sales, LOCAL, request)
    assert answer.order.state == pb.ORDER_STATE_CANCELED
    assert await cancel_order(desk.sales, LOCAL, request) == answer
    await desk.relay()
    assert desk.cluster.book.counters[DAY_QUOTA].taken == 0
    with pytest.raises(ConflictError, match="cancelled"):
        await desk.cash(order)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (line("dya"), "lines[0].product_id: 'dya' does not exist; known are annual, day"),
        (line(concession="pensioner"), "lines[0].concession: 'pensioner' does not exist"),
        (line(count=0), "lines[0].count: is 0, expected 1 to 1000"),
        (line(date="2026-11-30"), "lines[0].visit_date: 2026-11-30 is not within 2026-12-01 to"),
        (line(date="tomorrow"), "lines[0].visit_date: is 'tomorrow', expected a date such as '2026-12-24'"),
        (line(slot=1), "lines[0].slot: 'day' has no slots, expected 0"),
        (line("night-show"), "lines[0].slot: 0 does not exist for 'night-show'; known are 1, 2, 3"),
        (line(concession="group", count=9), "'group' is sold to 10 persons or more, and these are 9"),
    ],
)
async def test_a_line_that_cannot_be_sold_says_what_where_and_how_to_mend_it(
    desk: Desk, bad: pb.OrderLine, words: str
) -> None:
    with pytest.raises(InvalidInputsError) as caught:
        await quote_order(desk.sales, LOCAL, pb.QuoteOrderRequest(lines=[bad], channel="window"))
    assert words in str(caught.value)


async def test_too_little_cash_is_refused_and_changes_nothing(desk: Desk) -> None:
    order = await desk.order()
    request = cash(order)
    request.tendered_minor = order.total_minor - 1
    with pytest.raises(InvalidInputError, match="the order costs 7900"):
        await pay_order(desk.sales, LOCAL, request)
    assert desk.cluster.calls["pin"] == 0


async def test_a_window_sells_and_reads_as_itself_only(desk: Desk) -> None:
    other = Caller(Role.WINDOW, "w2")
    with pytest.raises(NotPermittedError, match="as window 'w2' only"):
        await create_order(
            desk.sales, other, pb.CreateOrderRequest(request_id=new_id(), channel="window", window_id="w1")
        )
    order = await desk.order()
    with pytest.raises(NotPermittedError):
        await pay_order(desk.sales, other, cash(order))
    with pytest.raises(NotFoundError):
        await get_order(desk.sales, other, pb.GetOrderRequest(order_id=order.order_id))
    assert not (await list_orders(desk.sales, other, pb.ListOrdersRequest())).orders


async def test_pages_of_orders_and_tickets_join_without_gap_or_repeat(desk: Desk) -> None:
    made = [(await desk.order(line("evening"))).order_id for _ in range(5)]
    seen: list[int] = []
    token = ""
    while True:
        page = await list_orders(desk.sales, LOCAL, pb.ListOrdersRequest(page_size=2, page_token=token))
        seen += [order.order_id for order in page.orders]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    tickets = await desk.sell(line("evening", count=5))
    first = await list_tickets(
        desk.sales, LOCAL, pb.ListTicketsRequest(order_id=tickets[0].order_id, page_size=3, include_qr_png=True)
    )
    rest = await list_tickets(
        desk.sales,
        LOCAL,
        pb.ListTicketsRequest(order_id=tickets[0].order_id, page_size=3, page_token=first.next_page_token),
    )
    assert [ticket.ticket_id for ticket in (*first.tickets, *rest.tickets)] == [t.ticket_id for t in tickets]
    assert all(ticket.qr_png.startswith(b"\x89PNG") for ticket in first.tickets)
    one = await get_ticket(desk.sales, LOCAL, pb.GetTicketRequest(ticket_id=tickets[0].ticket_id))
    assert one.ticket == tickets[0]


async def test_a_large_order_is_issued_whole(desk: Desk) -> None:
    lines = [line("evening", count=1000), line("evening", "child", count=500)]
    answer = await desk.cash(await desk.order(*lines))
    assert not answer.tickets, "too many for one answer: ListTickets has them"
    await desk.relay()
    assert len(desk.cluster.tokens) == 1500 == await desk.value("SELECT count(DISTINCT id) FROM sales.tickets")


async def test_postings_of_every_transaction_sum_to_zero(desk: Desk) -> None:
    """I9: the database itself refuses what does not balance, and any change of what was booked."""
    await desk.sell(line(count=2), line("evening"))
    sums = await desk.rows("SELECT transaction_id, sum(amount_minor) FROM sales.posting_lines GROUP BY 1")
    assert [total for _, total in sums] == [0]
    insert = (
        "INSERT INTO sales.postings SELECT transaction_id, 99, account, 1, currency, NULL, NULL, sold_time, paid_time "
        "FROM sales.postings LIMIT 1"
    )
    for statement in (insert, "UPDATE sales.postings SET amount_minor = 1", "DELETE FROM sales.transactions"):
        with pytest.raises(sa.exc.DBAPIError, match=r"sum to zero|append-only"):
            await desk.rows(statement)
