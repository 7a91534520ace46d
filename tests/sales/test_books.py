"""Group commit over a real Postgres: many changes a transaction, each of which succeeds or fails on its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from parkgate.sales.v1 import sales_pb2 as pb
from sales.books import Books, Change
from sales.database import Database
from sales.errors import DuplicateRequestError
from sales.request_key import RequestKey
from sales.tables import orders, outbox
from sales.writes import OrderMove
from tests.sales.conftest import CRASH, Desk, line, new_id
from ticketcore.errors import ConflictError


class Counted(Database):
    """Counts transactions."""

    count = 0

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Any]:
        self.count += 1
        async with super().pipeline() as driver:
            yield driver


@pytest.fixture
async def counted(desk: Desk) -> AsyncIterator[Counted]:
    database = Counted(desk.sales.config.postgres_url)
    yield database
    await database.close()


def order_row(desk: Desk, order_id: int) -> dict[str, Any]:
    return {
        "id": order_id,
        "state": "held",
        "channel": "window",
        "window_id": "w1",
        "catalogue_version": 1,
        "currency": "CHF",
        "total_minor": 1,
        "ticket_count": 1,
        "lines": "[]",
        "hold_id": None,
        "hold_lapse_time": desk.now,
        "create_time": desk.now,
    }


def change(desk: Desk, order_id: int, request_id: bytes = b"") -> Change:
    """Makes an order."""
    key = RequestKey(request_id or new_id(), "Test", b"hash")
    return Change(key, pb.CreateOrderResponse(), desk.now, {orders: [order_row(desk, order_id)]})


def cancel(desk: Desk, order_id: int) -> Change:
    """Moves an order on."""
    made = change(desk, order_id)
    return replace(made, rows={}, move=OrderMove(order_id, "held", "canceled", "cash"))


async def commit(books: Books, *changes: Change) -> list[Any]:
    return await asyncio.gather(*(books.commit(item) for item in changes), return_exceptions=True)


async def ids(desk: Desk) -> list[int]:
    return [row[0] for row in await desk.rows("SELECT id FROM sales.orders ORDER BY id")]


async def stored(desk: Desk) -> int:
    return int(await desk.value("SELECT count(*) FROM sales.requests WHERE method = 'Test'"))


async def test_changes_that_come_together_are_one_transaction(desk: Desk, counted: Counted) -> None:
    assert await commit(Books(counted), *(change(desk, number) for number in range(1, 41))) == [None] * 40
    assert await ids(desk) == list(range(1, 41))
    assert counted.count == 1


async def test_a_change_that_is_stored_already_is_left_out_and_the_others_are_written(
    desk: Desk, counted: Counted
) -> None:
    books, known = Books(counted), new_id()
    await commit(books, change(desk, 1, known))
    first, again, third = await commit(books, change(desk, 2), change(desk, 3, known), change(desk, 4))
    assert (first, type(again), third) == (None, DuplicateRequestError, None)
    assert await ids(desk) == [1, 2, 4]
    assert counted.count == 2


async def test_the_same_request_twice_in_one_batch_is_written_once(desk: Desk, counted: Counted) -> None:
    known = new_id()
    outcomes = await commit(Books(counted), change(desk, 1, known), change(desk, 2, known))
    assert [type(outcome) for outcome in outcomes] == [type(None), DuplicateRequestError]
    assert await ids(desk) == [1]


async def test_of_two_moves_of_one_order_in_one_batch_one_wins(desk: Desk, counted: Counted) -> None:
    books = Books(counted)
    await commit(books, change(desk, 1))
    outcomes = await commit(books, cancel(desk, 1), cancel(desk, 1))
    assert [type(outcome) for outcome in outcomes] == [type(None), ConflictError]
    assert await stored(desk) == 2, "no answer is stored for what was not done"


async def test_a_row_that_the_database_refuses_fails_its_own_change_only(desk: Desk, counted: Counted) -> None:
    books = Books(counted)
    await commit(books, change(desk, 7))
    outcomes = await commit(books, change(desk, 8), change(desk, 7), change(desk, 9))
    assert [type(outcome) for outcome in outcomes] == [type(None), psycopg.errors.UniqueViolation, type(None)]
    assert await ids(desk) == [7, 8, 9]
    assert await stored(desk) == 3
    assert counted.count == 1 + 1 + 3, "together, then each alone"


async def test_a_lost_move_in_a_batch_leaves_no_answer_and_harms_nobody(desk: Desk, counted: Counted) -> None:
    books = Books(counted)
    await commit(books, change(desk, 1), change(desk, 2))
    await commit(books, cancel(desk, 1))
    outcomes = await commit(books, cancel(desk, 1), cancel(desk, 2))
    assert [type(outcome) for outcome in outcomes] == [ConflictError, type(None)]
    assert await stored(desk) == 4
    assert await desk.value("SELECT count(*) FROM sales.orders WHERE state = 'canceled'") == 2


async def test_a_request_id_that_was_used_otherwise_moves_no_order(desk: Desk, counted: Counted) -> None:
    books, known = Books(counted), new_id()
    await commit(books, change(desk, 1, known))
    reused = replace(cancel(desk, 1), key=RequestKey(known, "Other", b"other"))
    assert [type(outcome) for outcome in await commit(books, reused)] == [DuplicateRequestError]
    assert await desk.value("SELECT state FROM sales.orders") == "held"


async def test_what_is_killed_before_the_commit_was_never_written(desk: Desk, counted: Counted) -> None:
    def die() -> None:
        raise CRASH("killed")

    outcomes = await commit(Books(counted), change(desk, 1), replace(change(desk, 2), recorded=die))
    assert [type(outcome) for outcome in outcomes] == [CRASH, CRASH]
    assert await ids(desk) == []
    assert await stored(desk) == 0


async def test_rows_of_a_refused_change_are_not_written_either(desk: Desk, counted: Counted) -> None:
    """I9: all of a change or nothing: its outbox rows go with it."""
    books = Books(counted)
    await commit(books, change(desk, 1))
    told = {"aggregate": b"a", "kind": "release_hold", "payload": b"", "create_time": desk.now, "attempts": 0}
    told |= {"next_attempt_time": desk.now, "last_error": ""}
    before = await desk.value("SELECT count(*) FROM sales.outbox")
    late = replace(cancel(desk, 1), rows={outbox: [told]})
    outcomes = await commit(books, replace(cancel(desk, 1), rows={outbox: [told]}), late)
    assert [type(outcome) for outcome in outcomes] == [type(None), ConflictError]
    assert await desk.value("SELECT count(*) FROM sales.outbox") == before + 1


async def test_cash_of_many_windows_at_once_goes_into_the_shift_of_each(desk: Desk) -> None:
    from sales.identity import LOCAL
    from sales.usecases.shifts import close_shift, open_shift

    shifts = {}
    for name in ("w1", "w2"):
        request = pb.OpenShiftRequest(request_id=new_id(), window_id=name, operator="Ana")
        shifts[name] = (await open_shift(desk.sales, LOCAL, request)).shift.shift_id
    made = [await desk.order(line("evening"), window_id=f"w{number % 3 + 1}") for number in range(9)]
    await asyncio.gather(*(desk.cash(order) for order in made))
    for name, shift_id in shifts.items():
        closing = pb.CloseShiftRequest(request_id=new_id(), shift_id=shift_id)
        assert (await close_shift(desk.sales, LOCAL, closing)).shift.expected_minor == 3 * 4500, name
    assert await desk.value("SELECT count(*) FROM sales.payments WHERE shift_id IS NULL") == 3, "w3 has no shift"


async def test_cash_that_meets_the_closing_of_its_shift_is_not_counted_into_the_closed_one(desk: Desk) -> None:
    """The payment waits for the close, and then finds no open shift; else the close would not have counted it."""
    from sales.identity import LOCAL
    from sales.usecases.shifts import open_shift

    opening = pb.OpenShiftRequest(request_id=new_id(), window_id="w1", operator="Ana")
    shift_id = (await open_shift(desk.sales, LOCAL, opening)).shift.shift_id
    order = await desk.order(line("evening"))
    close = "UPDATE sales.shifts SET close_time = now(), expected_minor = 0, counted_minor = 0, difference_minor = 0"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with await psycopg.AsyncConnection.connect(desk.sales.config.postgres_url) as closer:
        await closer.execute("SELECT FROM sales.shifts WHERE id = %s FOR UPDATE", [shift_id])
        paying = asyncio.ensure_future(desk.cash(order))
        async with asyncio.timeout(10):
            while not await desk.value(waiting):  # noqa: ASYNC110 - who waits for a lock is known to Postgres only
                await asyncio.sleep(0.01)
        await closer.execute(close)
    assert (await paying).order.state == pb.ORDER_STATE_ISSUED
    assert await desk.value("SELECT shift_id FROM sales.payments") is None


async def test_with_the_books_away_what_was_raised_first_is_told() -> None:
    """An unknown outcome must not be told as "nothing was done"."""
    from sales.requests import once
    from ticketcore.errors import UnknownOutcomeError

    database = Database("postgresql://nobody@127.0.0.1:1/none")

    async def lost() -> pb.CreateOrderResponse:
        raise UnknownOutcomeError("the commit was not answered")

    with pytest.raises(UnknownOutcomeError, match="the commit was not answered"):
        await once(Books(database), RequestKey(new_id(), "Test", b"hash"), pb.CreateOrderResponse(), lost)
    await database.close()
