"""Idempotency: the answer to a mutating call is stored, under its request_id, in the transaction that did it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sales.books import Books
from sales.errors import DuplicateRequestError, RequestReusedError
from sales.request_key import RequestKey, key_of
from sales.tables import requests
from ticketcore.errors import ParkgateError, TransientError

__all__ = ["RequestKey", "complete", "find", "key_of", "once", "remember"]

A = TypeVar("A", bound=Message)
_STORE = insert(requests).on_conflict_do_nothing().returning(requests.c.request_id)


async def once(books: Books, key: RequestKey, answer: A, work: Callable[[], Awaitable[A]]) -> A:
    """The answer of `work`, which stores it with what it does, or, of a call that was made before, the stored one
    (filled into `answer`).

    Nearly every call is new, so it is not looked up first: a repeated one is refused by what it did the first time (the
    answer is stored, the order has moved on, the quota is taken), and only who is refused looks. All that `work` does
    before it stores must therefore be harmless when repeated.

    Raises:
        RequestReusedError: the id was used for something else.
    """
    try:
        return await work()
    except ParkgateError:
        with suppress(TransientError):  # the books are away as well: what was raised first is what is told
            if await find(books, key, answer):
                return answer
        raise


async def find(books: Books, key: RequestKey, answer: Message) -> bool:
    """Fills `answer` with what was stored; False if nothing (final) was."""
    row = await books.request(key.request_id)
    if row is None:
        return False
    if row.body_hash != key.body_hash:
        raise RequestReusedError(f"request_id {key.request_id.hex()} was used for another request; make a new one")
    if row.answer is None:
        return False
    answer.ParseFromString(row.answer)
    return True


async def remember(connection: AsyncConnection, key: RequestKey, answer: Message | None, now: datetime) -> None:
    """Stores the answer, or with None only that the call was begun.

    Raises:
        DuplicateRequestError: it is stored already; the transaction must be rolled back.
    """
    values = {
        "request_id": key.request_id,
        "method": key.method,
        "body_hash": key.body_hash,
        "answer": None if answer is None else answer.SerializeToString(deterministic=True),
        "create_time": now,
    }
    if (await connection.execute(_STORE, values)).first() is None:
        raise DuplicateRequestError(f"request {key.request_id.hex()}")


async def complete(connection: AsyncConnection, key: RequestKey, answer: Message) -> None:
    """Stores the final answer of a call that was begun. Once stored, it stays."""
    await connection.execute(
        sa.update(requests)
        .where(requests.c.request_id == key.request_id, requests.c.answer.is_(None))
        .values(answer=answer.SerializeToString(deterministic=True))
    )
