"""Refunds and reschedules: the owner decides first, money follows, and no crash in between is half a refund."""

import asyncio
from collections.abc import Sequence

import pytest

from parkgate.sales.v1 import sales_pb2 as pb
from sales.errors import RequestReusedError
from sales.identity import LOCAL, Caller, Role
from sales.usecases.quote_refunds import quote_refunds
from sales.usecases.reconcile import reconcile
from sales.usecases.refund_tickets import refund_tickets
from sales.usecases.reschedule_ticket import reschedule_ticket
from sales.usecases.settle_voids import sweep_voids
from sales.usecases.shifts import close_shift, open_shift
from tests.sales.conftest import CRASH, VISIT, Desk, line, new_id, publish
from ticketcore.errors import ConflictError, NotFoundError, NotPermittedError

DAY_QUOTA = f"product=1;date={VISIT}"


def ask(tickets: Sequence[pb.Ticket]) -> pb.RefundTicketsRequest:
    return pb.RefundTicketsRequest(request_id=new_id(), ticket_ids=[ticket.ticket_id for ticket in tickets])


def move(ticket: pb.Ticket, date: str = "2026-12-11", slot: int = 0) -> pb.RescheduleTicketRequest:
    return pb.RescheduleTicketRequest(request_id=new_id(), ticket_id=ticket.ticket_id, visit_date=date, slot=slot)


async def settle_all(desk: Desk) -> None:
    """What a restarted service does until nothing is left."""
    for _ in range(5):
        desk.wait(minutes=1)
        await sweep_voids(desk.sales)
        await desk.relay()


async def check_books(desk: Desk) -> None:
    """Invariants that hold whenever nothing is under way."""
    assert all(
        total == 0
        for _, total in await desk.rows("SELECT transaction_id, sum(amount_minor) FROM sales.posting_lines GROUP BY 1")
    )
    owed = await desk.value(
        "SELECT coalesce(-sum(amount_minor), 0) FROM sales.posting_lines WHERE account = 'deferred_revenue'"
    )
    alive = await desk.value(
        "SELECT coalesce(sum(price_minor), 0) FROM sales.ticket_facts "
        "WHERE lifecycle NOT IN ('refunded', 'rescheduled')"
    )
    lines = await desk.value(
        "SELECT sum(CASE kind WHEN 'fee' THEN -amount_minor ELSE amount_minor END) FROM sales.finance_lines"
    )
    assert owed == alive == lines
    assert await desk.value("SELECT count(*) FROM sales.outbox") == 0
    live = {row[0] for row in await desk.rows("SELECT ticket_id FROM sales.ticket_facts WHERE lifecycle = 'active'")}
    assert live.isdisjoint(desk.cluster.voided)
    assert live | set(desk.cluster.voided) == set(desk.cluster.tokens)


async def test_a_quote_says_first_that_a_ticket_was_used(desk: Desk) -> None:
    used, fresh = await desk.sell(line(count=2))
    await desk.relay()
    assert desk.cluster.admit(used.ticket_id)
    asked = pb.QuoteRefundRequest(ticket_ids=[used.ticket_id, fresh.ticket_id])
    answer = await quote_refunds(desk.sales, LOCAL, asked)
    assert [quote.refusal for quote in answer.quotes] == ["it was used once", ""]
    assert [quote.refund_minor for quote in answer.quotes] == [0, 7900]
    assert answer.total_refund_minor == 7900
    assert not desk.cluster.voided, "a question changes nothing"


async def test_a_quote_without_the_owners_says_that_use_is_unknown(desk: Desk) -> None:
    ticket, refused = await desk.sell(line(), line("annual"))
    await publish(desk)
    desk.cluster.away = True
    answer = await quote_refunds(desk.sales, LOCAL, pb.QuoteRefundRequest(ticket_ids=[ticket.ticket_id]))
    assert (answer.quotes[0].use_unknown, answer.quotes[0].refund_minor) == (True, 7900)
    desk.wait(days=400)
    answer = await quote_refunds(desk.sales, LOCAL, pb.QuoteRefundRequest(ticket_ids=[refused.ticket_id]))
    assert (answer.quotes[0].use_unknown, answer.quotes[0].refund_minor) == (False, 0), "refused whatever its use"
    assert desk.cluster.calls["inspect"] == 1


async def test_a_refund_pays_by_tier_voids_the_ticket_and_returns_the_unit(desk: Desk) -> None:
    tickets = await desk.sell(line(count=2))
    await desk.relay()
    desk.wait(days=8)  # one day before the visit: 10 % stay
    quote = await quote_refunds(desk.sales, LOCAL, pb.QuoteRefundRequest(ticket_ids=[tickets[0].ticket_id]))
    assert (quote.quotes[0].fee_minor, quote.total_refund_minor) == (790, 7110)
    request = ask(tickets[:1])
    answer = await refund_tickets(desk.sales, LOCAL, request)
    assert (answer.results[0].outcome, answer.total_refund_minor) == (pb.REFUND_OUTCOME_REFUNDED, 7110)
    assert await refund_tickets(desk.sales, LOCAL, request) == answer
    await desk.relay()
    assert desk.cluster.sold(DAY_QUOTA) == 1
    assert await desk.value("SELECT state FROM sales.orders") == "partly_refunded"
    await refund_tickets(desk.sales, LOCAL, ask(tickets[1:]))
    assert await desk.value("SELECT state FROM sales.orders") == "refunded"
    await settle_all(desk)
    await check_books(desk)
    assert await desk.value("SELECT count(*) FROM sales.finance_lines WHERE kind = 'fee'") == 2


async def test_a_used_ticket_is_not_refunded_and_stays_active_i5(desk: Desk) -> None:
    tickets = await desk.sell(line(count=2))
    assert desk.cluster.admit(tickets[0].ticket_id)
    answer = await refund_tickets(desk.sales, LOCAL, ask(tickets))
    assert [result.outcome for result in answer.results] == [
        pb.REFUND_OUTCOME_ALREADY_USED,
        pb.REFUND_OUTCOME_REFUNDED,
    ]
    await settle_all(desk)
    await check_books(desk)
    assert (
        answer.total_refund_minor
        == 7900
        == -await desk.value("SELECT sum(amount_minor) FROM sales.finance_lines WHERE kind = 'refund'")
    )


async def test_one_ticket_refunded_twice_at_once_is_paid_back_once(desk: Desk) -> None:
    tickets = await desk.sell()
    answers = await asyncio.gather(*(refund_tickets(desk.sales, LOCAL, ask(tickets)) for _ in range(6)))
    outcomes = sorted(answer.results[0].outcome for answer in answers)
    assert outcomes == [pb.REFUND_OUTCOME_REFUNDED] + [pb.REFUND_OUTCOME_NOT_ALLOWED] * 5
    await settle_all(desk)
    await check_books(desk)


async def test_the_same_refund_asked_at_once_by_many_answers_all_alike(desk: Desk) -> None:
    request = ask(await desk.sell(line(count=3)))
    answers = await asyncio.gather(*(refund_tickets(desk.sales, LOCAL, request) for _ in range(6)))
    final = await refund_tickets(desk.sales, LOCAL, request)
    assert final.total_refund_minor == 3 * 7900
    assert all(answer.total_refund_minor in {0, 3 * 7900} for answer in answers)
    request.reason = pb.REFUND_REASON_WAIVED
    with pytest.raises(RequestReusedError):
        await refund_tickets(desk.sales, LOCAL, request)
    await settle_all(desk)
    await check_books(desk)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("seam", ["refund.requested", "void.asked", "void.booked"])
async def test_a_refund_killed_at_any_step_is_settled_after_a_restart_i5(desk: Desk, seam: str, used: bool) -> None:
    """I5: whichever came first at the owner, the refund or the guest, is the only one that succeeds."""
    tickets = await desk.sell()
    request = ask(tickets)
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await refund_tickets(desk.sales, LOCAL, request)
    admitted = desk.cluster.admit(tickets[0].ticket_id) if used else False
    await settle_all(desk)
    answer = await refund_tickets(desk.sales, LOCAL, request)
    refunded = answer.results[0].outcome == pb.REFUND_OUTCOME_REFUNDED
    assert refunded is not admitted
    assert await refund_tickets(desk.sales, LOCAL, request) == answer
    await check_books(desk)


@pytest.mark.parametrize("fault", ["away", "deaf"])
async def test_a_refund_without_an_answer_is_pending_and_asked_again_until_it_is_known_i5(
    desk: Desk, fault: str
) -> None:
    tickets = await desk.sell()
    request = ask(tickets)
    setattr(desk.cluster, fault, True)
    answer = await refund_tickets(desk.sales, LOCAL, request)
    assert answer.results[0].outcome == pb.REFUND_OUTCOME_PENDING
    assert answer.total_refund_minor == 0
    assert await desk.value("SELECT count(*) FROM sales.posting_lines WHERE kind = 'refund'") == 0
    setattr(desk.cluster, fault, False)
    await settle_all(desk)
    answer = await refund_tickets(desk.sales, LOCAL, request)
    assert answer.results[0].outcome == pb.REFUND_OUTCOME_REFUNDED
    await check_books(desk)


async def test_what_the_rules_refuse_is_never_asked_of_the_owner(desk: Desk) -> None:
    annual = (await desk.sell(line("annual")))[0]
    answer = await refund_tickets(desk.sales, LOCAL, ask([annual]))
    assert answer.results[0].outcome == pb.REFUND_OUTCOME_NOT_ALLOWED
    assert answer.results[0].quote.refusal == "'annual' is not refundable"
    assert desk.cluster.calls["change"] == 0
    with pytest.raises(NotFoundError, match="ticket 12 does not exist"):
        await refund_tickets(desk.sales, LOCAL, pb.RefundTicketsRequest(request_id=new_id(), ticket_ids=[12]))
    waived = pb.RefundTicketsRequest(request_id=new_id(), ticket_ids=[annual.ticket_id], reason=pb.REFUND_REASON_WAIVED)
    with pytest.raises(NotPermittedError):
        await refund_tickets(desk.sales, Caller(Role.WINDOW, "w1"), waived)
    assert (await refund_tickets(desk.sales, LOCAL, waived)).total_refund_minor == 34900


async def test_a_rescheduled_ticket_is_void_and_its_replacement_is_known(desk: Desk) -> None:
    ticket = (await desk.sell())[0]
    await desk.relay()
    request = move(ticket)
    answer = await reschedule_ticket(desk.sales, LOCAL, request)
    assert answer.outcome == pb.RESCHEDULE_OUTCOME_DONE
    new = answer.ticket
    assert (new.visit_date, new.price_minor, new.replaces_ticket_id) == ("2026-12-11", 7900, ticket.ticket_id)
    assert await reschedule_ticket(desk.sales, LOCAL, request) == answer
    await settle_all(desk)
    assert (desk.cluster.sold(DAY_QUOTA), desk.cluster.sold("product=1;date=2026-12-11")) == (0, 1)
    await check_books(desk)
    with pytest.raises(ConflictError, match="the ticket is rescheduled"):
        await reschedule_ticket(desk.sales, LOCAL, move(ticket))
    await refund_tickets(desk.sales, LOCAL, ask([new]))
    await settle_all(desk)
    await check_books(desk)
    assert await desk.value("SELECT state FROM sales.orders") == "refunded"


async def test_a_used_ticket_is_not_moved_and_its_new_place_is_given_back(desk: Desk) -> None:
    ticket = (await desk.sell(line("night-show", slot=1)))[0]
    desk.cluster.admit(ticket.ticket_id)
    answer = await reschedule_ticket(desk.sales, LOCAL, move(ticket, VISIT, 2))
    assert answer.outcome == pb.RESCHEDULE_OUTCOME_ALREADY_USED
    await settle_all(desk)
    assert desk.cluster.book.counters[f"product=8;date={VISIT};slot=2"].taken == 0
    await check_books(desk)


async def test_a_ticket_is_not_moved_to_a_full_slot_and_stays_good(desk: Desk) -> None:
    await publish(desk, lambda document: document["schedules"][0]["slots"][1].update(quota=1))
    ticket, _ = await desk.sell(line("night-show", slot=1), line("night-show", slot=2))
    answer = await reschedule_ticket(desk.sales, LOCAL, move(ticket, VISIT, 2))
    assert answer.outcome == pb.RESCHEDULE_OUTCOME_NOT_ALLOWED
    await settle_all(desk)
    assert desk.cluster.admit(ticket.ticket_id)
    await check_books(desk)


@pytest.mark.parametrize("seam", ["move.requested", "move.held", "move.asked", "move.booked"])
async def test_a_reschedule_killed_at_any_step_is_settled_after_a_restart(desk: Desk, seam: str) -> None:
    ticket = (await desk.sell())[0]
    request = move(ticket)
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await reschedule_ticket(desk.sales, LOCAL, request)
    await settle_all(desk)
    answer = await reschedule_ticket(desk.sales, LOCAL, request)
    assert answer.outcome == pb.RESCHEDULE_OUTCOME_DONE
    assert desk.cluster.admit(answer.ticket.ticket_id)
    assert not desk.cluster.admit(ticket.ticket_id)
    await check_books(desk)


async def test_a_shift_is_closed_with_the_difference_between_till_and_books(desk: Desk) -> None:
    opened = await open_shift(
        desk.sales, LOCAL, pb.OpenShiftRequest(request_id=new_id(), window_id="w1", operator="Kim", float_minor=20000)
    )
    with pytest.raises(ConflictError, match="has an open shift"):
        await open_shift(
            desk.sales, LOCAL, pb.OpenShiftRequest(request_id=new_id(), window_id="w1", operator="Jo", float_minor=0)
        )
    tickets = await desk.sell(line(count=2))
    await refund_tickets(desk.sales, LOCAL, ask(tickets[:1]))
    request = pb.CloseShiftRequest(request_id=new_id(), shift_id=opened.shift.shift_id, counted_minor=27850)
    closed = await close_shift(desk.sales, LOCAL, request)
    assert (closed.shift.expected_minor, closed.shift.difference_minor) == (20000 + 7900, -50)
    assert await close_shift(desk.sales, LOCAL, request) == closed


async def test_sales_own_count_foots_after_a_day_of_everything(desk: Desk) -> None:
    tickets = await desk.sell(line(count=3), line("evening", "child"), line(concession="group", count=10))
    await refund_tickets(desk.sales, LOCAL, ask([tickets[0], tickets[-1]]))
    await reschedule_ticket(desk.sales, LOCAL, move(tickets[1]))
    await settle_all(desk)
    answer = await reconcile(desk.sales, LOCAL, pb.ReconcileRequest())
    sold, refunded = (sum(getattr(t, name) for t in answer.totals) for name in ("sold_minor", "refunded_minor"))
    assert (sold, refunded) == (3 * 7900 + 2900 + 9 * 6900, 7900 + 6210)
    assert sum(total.sold_tickets for total in answer.totals) == 14
    assert sum(total.issued_tickets for total in answer.totals) == 15 == len(desk.cluster.tokens)
    assert sum(balance.balance_minor for balance in answer.balances) == 0
    assert {b.account: b.balance_minor for b in answer.balances}["cash"] == sold - refunded
    assert (answer.outbox_waiting, answer.voids_waiting) == (0, 0)
    with pytest.raises(NotPermittedError):
        await reconcile(desk.sales, Caller(Role.WINDOW, "w1"), pb.ReconcileRequest())
    await check_books(desk)
