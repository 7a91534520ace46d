"""Tickets moved to a date of another price: paid up or paid back, in double entry, once."""

import json
from typing import Any

import pytest

from parkgate.sales.v1 import sales_pb2 as pb
from sales.identity import LOCAL, Caller, Role
from sales.usecases.pay_order import pay_order
from sales.usecases.reconcile import reconcile
from sales.usecases.refund_tickets import refund_tickets
from sales.usecases.reschedule_ticket import quote_reschedule, reschedule_ticket
from sales.usecases.shifts import close_shift, open_shift
from tests.sales.conftest import CRASH, VISIT, Desk, line, new_id, publish
from tests.sales.test_payments import begin, tell
from tests.sales.test_refunds import ask, check_books, settle_all
from ticketcore.errors import ConflictError, NotPermittedError

SATURDAY = "2026-12-12"
THURSDAY = VISIT
UP = 600


def move(ticket: pb.Ticket, date: str, agreed: int) -> pb.RescheduleTicketRequest:
    return pb.RescheduleTicketRequest(
        request_id=new_id(), ticket_id=ticket.ticket_id, visit_date=date, agreed_difference_minor=agreed
    )


async def quote(desk: Desk, ticket: pb.Ticket, date: str) -> pb.QuoteRescheduleResponse:
    request = pb.QuoteRescheduleRequest(ticket_id=ticket.ticket_id, visit_date=date)
    return await quote_reschedule(desk.sales, LOCAL, request)


async def balance(desk: Desk, account: str) -> Any:
    query = f"SELECT coalesce(sum(amount_minor), 0) FROM sales.posting_lines WHERE account = '{account}'"
    return await desk.value(query)


async def sold(desk: Desk, date: str = THURSDAY) -> pb.Ticket:
    ticket = (await desk.sell(line(date=date)))[0]
    await desk.relay()
    return ticket


async def test_a_dearer_date_is_quoted_paid_into_the_till_and_owed_for_the_new_date(desk: Desk) -> None:
    """I9"""
    opening = pb.OpenShiftRequest(request_id=new_id(), window_id="w1", operator="Ana", float_minor=10_000)
    shift = (await open_shift(desk.sales, LOCAL, opening)).shift
    ticket = await sold(desk)
    assert (await quote(desk, ticket, SATURDAY)).difference_minor == UP
    request = move(ticket, SATURDAY, UP)
    answer = await reschedule_ticket(desk.sales, LOCAL, request)
    assert (answer.difference_minor, answer.ticket.price_minor) == (UP, 8_500)
    assert await reschedule_ticket(desk.sales, LOCAL, request) == answer
    closing = pb.CloseShiftRequest(request_id=new_id(), shift_id=shift.shift_id, counted_minor=18_500)
    assert (await close_shift(desk.sales, LOCAL, closing)).shift.difference_minor == 0
    assert (await balance(desk, "cash"), await balance(desk, "deferred_revenue")) == (8_500, -8_500)
    await settle_all(desk)
    await check_books(desk)
    total = (await reconcile(desk.sales, LOCAL, pb.ReconcileRequest())).totals[0]
    assert (total.sold_minor, total.difference_minor) == (7_900, UP)


async def test_a_cheaper_date_pays_back_where_it_was_paid(desk: Desk) -> None:
    _, intent = await begin(desk, line(date=SATURDAY))
    assert await tell(desk, intent, "captured") == (200, "issued")
    await desk.relay()
    ticket = pb.Ticket(ticket_id=await desk.value("SELECT id FROM sales.tickets"))
    answer = await reschedule_ticket(desk.sales, LOCAL, move(ticket, THURSDAY, -UP))
    assert (answer.outcome, answer.ticket.price_minor) == (pb.RESCHEDULE_OUTCOME_DONE, 7_900)
    assert await balance(desk, "provider_receivable") == 7_900
    bodies = [
        json.loads(row[0]) for row in await desk.rows("SELECT payload FROM sales.outbox WHERE kind = 'money_back'")
    ]
    assert [body["amount_minor"] for body in bodies] == [UP]
    refunded = await refund_tickets(desk.sales, LOCAL, ask([answer.ticket]))
    assert refunded.total_refund_minor == 7_900, "together never more than was captured"
    assert await balance(desk, "provider_receivable") == 0


async def test_a_guest_is_never_charged_another_difference_than_the_one_agreed(desk: Desk) -> None:
    ticket = await sold(desk)
    for agreed in (0, UP - 1, UP + 1, -UP):
        with pytest.raises(ConflictError, match=f"is {agreed}, and moving ticket .* costs 600; ask the guest again"):
            await reschedule_ticket(desk.sales, LOCAL, move(ticket, SATURDAY, agreed))
    assert await desk.value("SELECT lifecycle FROM sales.tickets") == "active"
    assert desk.cluster.calls["change"] == 0


async def test_paying_up_through_the_provider_is_refused_with_what_to_do(desk: Desk) -> None:
    _, intent = await begin(desk, line())
    await tell(desk, intent, "captured")
    ticket = pb.Ticket(ticket_id=await desk.value("SELECT id FROM sales.tickets"))
    assert "refund the ticket and buy another" in (await quote(desk, ticket, SATURDAY)).refusal
    with pytest.raises(ConflictError, match="refund the ticket and buy another"):
        await reschedule_ticket(desk.sales, LOCAL, move(ticket, SATURDAY, UP))


async def test_only_a_service_changes_what_an_agency_owes(desk: Desk) -> None:
    order = await desk.order(line())
    paying = pb.PayOrderRequest(request_id=new_id(), order_id=order.order_id, method=pb.PAYMENT_METHOD_AGENCY)
    ticket = (await pay_order(desk.sales, LOCAL, paying)).tickets[0]
    with pytest.raises(NotPermittedError, match="change what an agency owes"):
        await reschedule_ticket(desk.sales, Caller(Role.WINDOW, "w1"), move(ticket, SATURDAY, UP))
    await reschedule_ticket(desk.sales, LOCAL, move(ticket, SATURDAY, UP))
    assert await balance(desk, "agency_receivable") == 8_500


async def test_a_used_ticket_is_neither_moved_nor_charged(desk: Desk) -> None:
    """I5: the cash that the cashier took is not in the books, and goes back."""
    ticket = await sold(desk)
    assert desk.cluster.admit(ticket.ticket_id)
    quoted = await quote(desk, ticket, SATURDAY)
    assert (quoted.refusal, quoted.difference_minor) == ("it was used once", 0)
    answer = await reschedule_ticket(desk.sales, LOCAL, move(ticket, SATURDAY, UP))
    assert (answer.outcome, answer.difference_minor) == (pb.RESCHEDULE_OUTCOME_ALREADY_USED, 0)
    assert await balance(desk, "cash") == 7_900


async def test_a_quote_without_the_owners_says_that_use_is_unknown(desk: Desk) -> None:
    ticket = await sold(desk)
    desk.cluster.away = True
    quoted = await quote(desk, ticket, SATURDAY)
    assert (quoted.difference_minor, quoted.use_unknown) == (UP, True)


@pytest.mark.parametrize("seam", ["move.requested", "move.held", "move.asked", "move.booked"])
async def test_a_difference_is_booked_once_wherever_the_move_is_killed(desk: Desk, seam: str) -> None:
    """I9"""
    ticket = await sold(desk)
    request = move(ticket, SATURDAY, UP)
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await reschedule_ticket(desk.sales, LOCAL, request)
    await settle_all(desk)
    answer = await reschedule_ticket(desk.sales, LOCAL, request)
    assert answer.difference_minor == UP
    assert await balance(desk, "cash") == 8_500
    await check_books(desk)


async def test_by_the_rule_keep_a_dearer_date_is_refused_and_a_cheaper_one_keeps_the_price(desk: Desk) -> None:
    await publish(desk, lambda document: document["products"][0].pop("price_difference"))
    dear, cheap = await sold(desk, SATURDAY), await sold(desk)
    assert "costs more" in (await quote(desk, cheap, SATURDAY)).refusal
    answer = await reschedule_ticket(desk.sales, LOCAL, move(dear, THURSDAY, 0))
    assert (answer.ticket.price_minor, answer.difference_minor) == (8_500, 0)
    await settle_all(desk)
    await check_books(desk)
