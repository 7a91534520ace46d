"""Bundles: sold at one price, shared to the cent, refunded all or none through any crash."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.sales.v1 import sales_pb2 as pb
from sales.identity import LOCAL
from sales.usecases.quote_refunds import quote_refunds
from sales.usecases.refund_tickets import refund_tickets
from sales.usecases.reschedule_ticket import reschedule_ticket
from sales.usecases.settle_voids import sweep_voids
from tests.sales.conftest import CRASH, VISIT, Desk, line
from tests.sales.test_price_differences import move
from tests.sales.test_refunds import ask, check_books, settle_all
from ticketcore.errors import ConflictError

REFUNDED, USED = pb.REFUND_OUTCOME_REFUNDED, pb.REFUND_OUTCOME_ALREADY_USED
SHOW = f"product=8;date={VISIT};slot=3"


def evening(count: int = 1) -> pb.OrderLine:
    return line("lake-evening", count=count, slot=3)


async def sold(desk: Desk, count: int = 1) -> list[pb.Ticket]:
    tickets = await desk.sell(evening(count))
    await desk.relay()
    return tickets


def outcomes(answer: pb.RefundTicketsResponse) -> list[int]:
    return [result.outcome for result in answer.results]


async def test_a_bundle_is_priced_once_and_issued_as_its_products_tickets(desk: Desk) -> None:
    """I9: 69.90 over 45.00 and 35.00."""
    order = await desk.order(evening(2), line())
    assert order.total_minor == 2 * 6_990 + 7_900
    tickets = (await desk.cash(order)).tickets
    assert [(t.product_id, t.price_minor, t.bundle_id, t.bundle_number, t.slot) for t in tickets] == [
        ("evening", 3_932, "lake-evening", 1, 0),
        ("evening", 3_932, "lake-evening", 2, 0),
        ("night-show", 3_058, "lake-evening", 1, 3),
        ("night-show", 3_058, "lake-evening", 2, 3),
        ("day", 7_900, "", 0, 0),
    ]
    owed = await desk.rows(
        "SELECT product_number, -sum(amount_minor) FROM sales.posting_lines "
        "WHERE account = 'deferred_revenue' GROUP BY 1"
    )
    assert dict(owed) == {2: 7_864, 8: 6_116, 1: 7_900}  # type: ignore[arg-type]
    await desk.relay()
    assert desk.cluster.sold(SHOW) == 2
    await check_books(desk)


async def test_a_bundle_is_refunded_as_a_whole_with_the_fee_of_the_whole(desk: Desk) -> None:
    tickets = await sold(desk)
    desk.wait(days=8)  # one day before the visit: a quarter stays
    answer = await refund_tickets(desk.sales, LOCAL, ask(tickets))
    assert outcomes(answer) == [REFUNDED, REFUNDED]
    assert answer.total_refund_minor == 6_990 - 1_748, "25 % of 69.90, half up: of the whole, not ticket by ticket"
    assert sum(result.quote.fee_minor for result in answer.results) == 1_748
    await settle_all(desk)
    await check_books(desk)
    assert desk.cluster.sold(SHOW) == 0
    assert set(desk.cluster.voided) == {ticket.ticket_id for ticket in tickets}


async def test_a_part_of_a_bundle_alone_is_neither_quoted_nor_refunded_nor_moved(desk: Desk) -> None:
    tickets = await sold(desk, count=2)
    for part in ([tickets[0]], [tickets[0], tickets[3]]):
        asked = pb.QuoteRefundRequest(ticket_ids=[ticket.ticket_id for ticket in part])
        quotes = (await quote_refunds(desk.sales, LOCAL, asked)).quotes
        assert {quote.refusal for quote in quotes} == {
            "it is one of the 2 tickets of 'lake-evening': refund all of them together"
        }
        assert set(outcomes(await refund_tickets(desk.sales, LOCAL, ask(part)))) == {pb.REFUND_OUTCOME_NOT_ALLOWED}
    with pytest.raises(ConflictError, match="it is part of 'lake-evening'"):
        await reschedule_ticket(desk.sales, LOCAL, move(tickets[0], "2026-12-11", 0))
    assert not desk.cluster.voided
    assert not desk.cluster.blocked


async def test_with_one_ticket_used_none_is_refunded_and_the_other_still_admits_i5(desk: Desk) -> None:
    """I5"""
    used, other = await sold(desk)
    assert desk.cluster.admit(used.ticket_id)
    asked = pb.QuoteRefundRequest(ticket_ids=[used.ticket_id, other.ticket_id])
    quoted = await quote_refunds(desk.sales, LOCAL, asked)
    assert [quote.refusal for quote in quoted.quotes] == ["a ticket of its bundle was used"] * 2
    assert quoted.total_refund_minor == 0
    answer = await refund_tickets(desk.sales, LOCAL, ask([used, other]))
    assert (outcomes(answer), answer.total_refund_minor) == ([USED, USED], 0)
    assert desk.cluster.admit(other.ticket_id), "it was blocked for a moment, and let free again"
    await settle_all(desk)
    await check_books(desk)


async def test_other_bundles_and_tickets_of_the_call_are_refunded_beside_a_used_one(desk: Desk) -> None:
    tickets = await sold(desk, count=2)
    alone = (await desk.sell(line()))[0]
    assert desk.cluster.admit(tickets[0].ticket_id)
    answer = await refund_tickets(desk.sales, LOCAL, ask([*tickets, alone]))
    assert outcomes(answer) == [USED, REFUNDED, USED, REFUNDED, REFUNDED]
    await settle_all(desk)
    await check_books(desk)


@pytest.mark.parametrize(
    ("seam", "use_one"),
    [
        *(
            (seam, use_one)
            for seam in ("refund.requested", "bundle.blocked", "bundle.decided", "void.asked", "void.booked")
            for use_one in (False, True)
        ),
        ("bundle.freed", True),
    ],
)
async def test_a_bundles_refund_killed_at_any_step_ends_all_or_none(desk: Desk, seam: str, use_one: bool) -> None:
    """I5, I9"""
    tickets = await sold(desk)
    if use_one:
        assert desk.cluster.admit(tickets[1].ticket_id)
    request = ask(tickets)
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await refund_tickets(desk.sales, LOCAL, request)
    await settle_all(desk)
    answer = await refund_tickets(desk.sales, LOCAL, request)
    assert outcomes(answer) == ([USED] * 2 if use_one else [REFUNDED] * 2)
    assert desk.cluster.admit(tickets[0].ticket_id) is use_one
    await check_books(desk)


async def test_a_bundle_is_settled_in_one_way_when_a_guest_turns_back_between_two_who_settle_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5, I9: the desk hears that a ticket is used, and stalls; it is given back, and the sweep voids the whole; then
    the desk goes on, and books first what it has heard."""
    tickets = await sold(desk)
    assert desk.cluster.admit(tickets[1].ticket_id)
    change, swept, desk_done = desk.cluster.change_tickets, asyncio.Event(), asyncio.Event()
    asks = ContextVar("asks", default="desk")
    sweeping: list[asyncio.Future[int]] = []
    by_sweep = 0

    async def change_tickets(changes: Sequence[control.TicketChange]) -> Sequence[control.ChangeResult]:
        nonlocal by_sweep
        results = await change(changes)
        if asks.get() == "sweep":
            by_sweep += 1
            if by_sweep == 2:  # it has done what it decided
                swept.set()
                await desk_done.wait()
        elif not sweeping:  # the desk has blocked them
            desk.cluster.used.clear()
            desk.wait(minutes=1)
            token = asks.set("sweep")
            sweeping.append(asyncio.ensure_future(sweep_voids(desk.sales)))
            asks.reset(token)
            await asyncio.wait_for(swept.wait(), 20)
        return results

    monkeypatch.setattr(desk.cluster, "change_tickets", change_tickets)
    answer = await refund_tickets(desk.sales, LOCAL, ask(tickets))
    desk_done.set()
    await sweeping[0]
    await settle_all(desk)
    assert by_sweep >= 2
    voided = len(desk.cluster.voided)
    assert await desk.value("SELECT count(*) FROM sales.voids WHERE state = 'done'") == voided
    assert outcomes(answer) == ([REFUNDED] * 2 if voided else [USED] * 2)
    await check_books(desk)


async def test_while_the_cluster_is_away_a_bundle_is_pending_and_settled_later_whole(desk: Desk) -> None:
    tickets = await sold(desk)
    desk.cluster.deaf = True
    answer = await refund_tickets(desk.sales, LOCAL, ask(tickets))
    assert set(outcomes(answer)) == {pb.REFUND_OUTCOME_PENDING}
    desk.cluster.deaf = False
    await settle_all(desk)
    assert await desk.value("SELECT count(*) FROM sales.voids WHERE state = 'done'") == 2
    await check_books(desk)


async def test_a_bundle_that_a_sweep_claims_in_part_is_settled_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sales.usecases import settle_voids

    tickets = await sold(desk)
    desk.crash_at = "refund.requested"
    with pytest.raises(CRASH):
        await refund_tickets(desk.sales, LOCAL, ask(tickets))
    monkeypatch.setattr(settle_voids, "SWEPT", 1)
    desk.wait(minutes=1)
    assert await sweep_voids(desk.sales) == 1
    assert await desk.value("SELECT count(*) FROM sales.voids WHERE state = 'done'") == 2


async def test_a_scan_and_a_refund_that_race_never_both_succeed_for_any_ticket_of_a_bundle(desk: Desk) -> None:
    """I5"""
    for _ in range(10):
        tickets = await sold(desk)
        refund = asyncio.ensure_future(refund_tickets(desk.sales, LOCAL, ask(tickets)))
        admitted = []
        while not refund.done():
            admitted += [ticket.ticket_id for ticket in tickets[:1] if desk.cluster.admit(ticket.ticket_id)]
            await asyncio.sleep(0.001)
        assert outcomes(await refund) == ([USED] * 2 if admitted else [REFUNDED] * 2)
    await settle_all(desk)
    await check_books(desk)
