"""Errors of sales beyond `ticketcore.errors`; each is one of those, told apart for its gRPC status."""

from __future__ import annotations

from ticketcore.errors import ConflictError, ParkgateError


class RequestReusedError(ConflictError):
    """The request_id was used for another call or body."""


class DuplicateRequestError(ParkgateError):
    """The same call was stored by somebody else meanwhile. Never leaves sales: the stored answer is given."""
