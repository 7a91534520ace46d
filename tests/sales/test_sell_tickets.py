"""Selling over the counter in one call: whole, once, whatever is lost or killed on the way."""

import asyncio

import pytest

from parkgate.sales.v1 import sales_pb2 as pb
from sales.errors import RequestReusedError
from sales.identity import LOCAL, Caller, Role
from sales.usecases.sell_tickets import sell_tickets
from tests.sales.conftest import CRASH, VISIT, Desk, line, new_id, publish
from ticketcore.errors import ConflictError, InvalidInputError, NotPermittedError, SoldOutError, TransientError

DAY_QUOTA = f"product=1;date={VISIT}"
SHOW = f"product=8;date={VISIT};slot=3"


def request(*lines: pb.OrderLine, **fields: object) -> pb.SellTicketsRequest:
    wanted = pb.SellTicketsRequest(
        request_id=new_id(), channel="window", window_id="w1", method=pb.PAYMENT_METHOD_CASH, lines=lines or [line()]
    )
    for name, value in fields.items():
        setattr(wanted, name, value)
    return wanted


async def test_one_call_sells_and_tells_the_cluster(desk: Desk) -> None:
    answer = await sell_tickets(desk.sales, LOCAL, request(line(count=2), tendered_minor=20_000))
    assert (answer.order.state, answer.change_minor, len(answer.tickets)) == (pb.ORDER_STATE_ISSUED, 4_200, 2)
    await desk.relay()
    assert desk.cluster.sold(DAY_QUOTA) == 2
    assert desk.cluster.tokens == {ticket.ticket_id: ticket.token for ticket in answer.tickets}


async def test_without_a_sum_given_the_exact_total_is_taken(desk: Desk) -> None:
    answer = await sell_tickets(desk.sales, LOCAL, request(line(count=3)))
    assert answer.change_minor == 0
    assert await desk.value("SELECT tendered_minor FROM sales.payments") == 3 * 7_900


@pytest.mark.parametrize("seam", ["create.held", "pay.pinned", "pay.signed", "pay.recorded", "pay.committed"])
async def test_a_sale_killed_at_any_step_is_resumed_by_the_same_call_and_never_doubled(desk: Desk, seam: str) -> None:
    """I4, I9"""
    wanted = request(line(count=2))
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await sell_tickets(desk.sales, LOCAL, wanted)
    answer = await sell_tickets(desk.sales, LOCAL, wanted)
    assert await sell_tickets(desk.sales, LOCAL, wanted) == answer
    await desk.relay()
    assert desk.cluster.book.counters[DAY_QUOTA].taken == desk.cluster.sold(DAY_QUOTA) == 2
    assert [row[0] for row in await desk.rows("SELECT id FROM sales.tickets ORDER BY 1")] == [
        ticket.ticket_id for ticket in answer.tickets
    ]
    assert await desk.value("SELECT count(*) FROM sales.orders") == 1


async def test_a_repeated_call_is_answered_from_the_books_while_the_cluster_is_away(desk: Desk) -> None:
    wanted = request()
    answer = await sell_tickets(desk.sales, LOCAL, wanted)
    desk.cluster.away = True
    assert await sell_tickets(desk.sales, LOCAL, wanted) == answer
    with pytest.raises(TransientError):
        await sell_tickets(desk.sales, LOCAL, request())


async def test_the_same_call_by_many_at_once_sells_once(desk: Desk) -> None:
    wanted = request(line(count=3))
    answers = await asyncio.gather(*(sell_tickets(desk.sales, LOCAL, wanted) for _ in range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 3


@pytest.mark.parametrize("change", [{"channel": "web"}, {"window_id": "w2"}, {"tendered_minor": 99_999}])
async def test_another_body_under_the_same_id_is_refused(desk: Desk, change: dict[str, object]) -> None:
    wanted = request()
    await sell_tickets(desk.sales, LOCAL, wanted)
    other = request(**change)
    other.request_id = wanted.request_id
    with pytest.raises(RequestReusedError, match="make a new one"):
        await sell_tickets(desk.sales, LOCAL, other)
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 1


async def test_too_little_cash_holds_nothing(desk: Desk) -> None:
    with pytest.raises(InvalidInputError, match="tendered_minor: is 7899, the order costs 7900"):
        await sell_tickets(desk.sales, LOCAL, request(tendered_minor=7_899))
    assert desk.cluster.calls["place"] == 0


async def test_a_provider_is_not_charged_over_the_counter(desk: Desk) -> None:
    with pytest.raises(InvalidInputError, match="use CreateOrder"):
        await sell_tickets(desk.sales, LOCAL, request(method=pb.PAYMENT_METHOD_PROVIDER))


async def test_a_window_sells_as_itself_only_and_not_on_account(desk: Desk) -> None:
    with pytest.raises(NotPermittedError, match="as window 'w2' only"):
        await sell_tickets(desk.sales, Caller(Role.WINDOW, "w2"), request())
    with pytest.raises(NotPermittedError, match="agency"):
        await sell_tickets(desk.sales, Caller(Role.WINDOW, "w1"), request(method=pb.PAYMENT_METHOD_AGENCY))


async def test_a_sale_that_comes_back_after_its_hold_has_lapsed_is_refused(desk: Desk) -> None:
    wanted = request()
    desk.crash_at = "pay.pinned"
    with pytest.raises(CRASH):
        await sell_tickets(desk.sales, LOCAL, wanted)
    desk.wait(minutes=16)
    from sales.usecases.cancel_order import lapse_orders

    await lapse_orders(desk.sales)
    await desk.relay()
    with pytest.raises(ConflictError, match="lapsed"):
        await sell_tickets(desk.sales, LOCAL, wanted)
    assert desk.cluster.book.counters[DAY_QUOTA].taken == 0


async def test_many_windows_storm_a_slot_and_it_ends_exactly_full_i4(desk: Desk) -> None:
    """I4: 60 windows, 41 seats, two at a time."""
    await publish(desk, lambda document: document["schedules"][0]["slots"][2].update(quota=41))
    calls = (sell_tickets(desk.sales, LOCAL, request(line("night-show", count=2, slot=3))) for _ in range(60))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    sold = [answer for answer in answers if isinstance(answer, pb.SellTicketsResponse)]
    assert {type(answer) for answer in answers} == {pb.SellTicketsResponse, SoldOutError}
    await desk.relay()
    assert 2 * len(sold) == 40 == desk.cluster.sold(SHOW) == await desk.value("SELECT count(*) FROM sales.tickets")
    assert desk.cluster.book.counters[SHOW].taken == 40
