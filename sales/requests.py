"""Idempotency: the answer to a mutating call is stored, under its request_id, in the transaction that did it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sales.database import Database
from sales.errors import DuplicateRequestError, RequestReusedError
from sales.identity import Caller
from sales.tables import requests
from ticketcore.errors import ConflictError, InvalidInputError

ID_LENGTH = 16
A = TypeVar("A", bound=Message)
_FIND = sa.select(requests.c.body_hash, requests.c.answer).where(requests.c.request_id == sa.bindparam("id"))
_STORE = insert(requests).on_conflict_do_nothing().returning(requests.c.request_id)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A mutating call: its id, and a hash of who asked what."""

    request_id: bytes
    method: str
    body_hash: bytes

    def derive(self, purpose: str) -> bytes:
        """An id of 16 bytes that belongs to this call: the same on every retry, so that what it names is made once."""
        material = self.request_id + self.body_hash + purpose.encode()
        return hashlib.blake2b(material, digest_size=ID_LENGTH, person=b"parkgate-sales").digest()


def key_of(caller: Caller, request: Message) -> RequestKey:
    """The key of a call.

    Raises:
        InvalidInputError: the request_id has not 16 bytes.
    """
    request_id: bytes = request.request_id  # type: ignore[attr-defined]
    if len(request_id) != ID_LENGTH:
        raise InvalidInputError(
            f"request_id: has {len(request_id)} bytes, expected {ID_LENGTH} random ones, made and kept before sending"
        )
    method = type(request).__name__
    material = f"{method}|{caller}|".encode() + request.SerializeToString(deterministic=True)
    return RequestKey(request_id, method, hashlib.blake2b(material, digest_size=32).digest())


async def once(database: Database, key: RequestKey, answer: A, work: Callable[[], Awaitable[A]]) -> A:
    """The stored answer of a call (filled into `answer`), or that of `work`, which stores it with `remember`.

    Where the same call runs twice at once, the loser finds the state changed, or the answer stored: it gives that.

    Raises:
        RequestReusedError: the id was used for something else.
    """
    if await find(database, key, answer):
        return answer
    try:
        return await work()
    except (DuplicateRequestError, ConflictError):
        if await find(database, key, answer):
            return answer
        raise


async def find(database: Database, key: RequestKey, answer: Message) -> bool:
    """Fills `answer` with what was stored; False if nothing (final) was."""
    async with database.reading() as connection:
        row = (await connection.execute(_FIND, {"id": key.request_id})).one_or_none()
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
