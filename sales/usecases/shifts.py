"""A window's shift: opened with a float, closed with the cash counted. The difference is told, never corrected away."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
from sales.requests import RequestKey, key_of, once, remember
from sales.tables import payments, shifts, voids
from sales.wire import milliseconds
from ticketcore.errors import ConflictError, InvalidInputError, NotFoundError
from ticketcore.money import MAX_MINOR

MAX_OPERATOR = 80


async def open_shift(sales: Sales, caller: Caller, request: pb.OpenShiftRequest) -> pb.OpenShiftResponse:
    """Begins a shift.

    Raises:
        ConflictError: the window has an open one.
    """
    caller.check_sells_at(request.window_id)
    if not request.window_id:
        raise InvalidInputError("window_id: is missing")
    if not 1 <= len(request.operator) <= MAX_OPERATOR:
        raise InvalidInputError(f"operator: has {len(request.operator)} characters, expected 1 to {MAX_OPERATOR}")
    _check_amount("float_minor", request.float_minor)
    key = key_of(caller, request)
    return await once(sales.books, key, pb.OpenShiftResponse(), lambda: _open(sales, key, request))


def _check_amount(name: str, minor: int) -> None:
    if not 0 <= minor <= MAX_MINOR:
        raise InvalidInputError(f"{name}: is {minor}, expected 0 to {MAX_MINOR}")


async def _open(sales: Sales, key: RequestKey, request: pb.OpenShiftRequest) -> pb.OpenShiftResponse:
    now = sales.clock()
    values = {
        "window_id": request.window_id,
        "operator": request.operator,
        "open_time": now,
        "float_minor": request.float_minor,
    }
    try:
        async with sales.database.transaction() as connection:
            row = (await connection.execute(sa.insert(shifts).values(values).returning(shifts))).one()
            response = pb.OpenShiftResponse(shift=_message(row))
            await remember(connection, key, response, now)
    except IntegrityError as error:
        raise ConflictError(f"window {request.window_id!r} has an open shift; close it first") from error
    return response


async def close_shift(sales: Sales, caller: Caller, request: pb.CloseShiftRequest) -> pb.CloseShiftResponse:
    """Ends a shift and tells the difference between the cash counted and the books.

    Raises:
        ConflictError: it is closed already.
    """
    _check_amount("counted_minor", request.counted_minor)
    key = key_of(caller, request)
    return await once(sales.books, key, pb.CloseShiftResponse(), lambda: _close(sales, caller, key, request))


async def _close(sales: Sales, caller: Caller, key: RequestKey, request: pb.CloseShiftRequest) -> pb.CloseShiftResponse:
    now = sales.clock()
    async with sales.database.transaction() as connection:
        locked = sa.select(shifts).where(shifts.c.id == min(request.shift_id, 2**63 - 1)).with_for_update()
        shift = (await connection.execute(locked)).one_or_none()
        if shift is None:
            raise NotFoundError(f"shift {request.shift_id} does not exist")
        caller.check_sells_at(shift.window_id)
        if shift.close_time is not None:
            raise ConflictError(f"shift {shift.id} is closed already")
        taken = sa.select(sa.func.coalesce(sa.func.sum(payments.c.amount_minor), 0)).where(
            payments.c.shift_id == shift.id
        )
        paid_out = sa.select(sa.func.coalesce(sa.func.sum(voids.c.cash_minor), 0)).where(voids.c.shift_id == shift.id)
        cash = int((await connection.execute(taken)).scalar_one()) - int(
            (await connection.execute(paid_out)).scalar_one()
        )
        expected = shift.float_minor + cash
        row = (
            await connection.execute(
                sa.update(shifts)
                .where(shifts.c.id == shift.id)
                .values(
                    close_time=now,
                    expected_minor=expected,
                    counted_minor=request.counted_minor,
                    difference_minor=request.counted_minor - expected,
                )
                .returning(shifts)
            )
        ).one()
        response = pb.CloseShiftResponse(shift=_message(row))
        await remember(connection, key, response, now)
    return response


def _message(row: Any) -> pb.Shift:
    return pb.Shift(
        shift_id=row.id,
        window_id=row.window_id,
        operator=row.operator,
        open_time_ms=milliseconds(row.open_time),
        close_time_ms=milliseconds(row.close_time),
        float_minor=row.float_minor,
        expected_minor=row.expected_minor or 0,
        counted_minor=row.counted_minor or 0,
        difference_minor=row.difference_minor or 0,
    )
