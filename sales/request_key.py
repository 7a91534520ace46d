"""The key of a mutating call: its id, made by the caller, and a hash of who asked what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from google.protobuf.message import Message

from sales.identity import Caller
from ticketcore.errors import InvalidInputError

ID_LENGTH = 16


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
