"""The one table from error classes to gRPC and HTTP status. A refusal of a ticket is never here: it is a verdict."""

from __future__ import annotations

from typing import NamedTuple

from ticketcore import errors


class Status(NamedTuple):
    """Name of the gRPC status code, and the HTTP status."""

    grpc: str
    http: int


STATUS: dict[type[Exception], Status] = {
    errors.InvalidInputError: Status("INVALID_ARGUMENT", 400),
    errors.NotFoundError: Status("NOT_FOUND", 404),
    errors.ConflictError: Status("FAILED_PRECONDITION", 409),
    errors.SoldOutError: Status("RESOURCE_EXHAUSTED", 409),
    errors.NotPermittedError: Status("PERMISSION_DENIED", 403),
    errors.CallerError: Status("INVALID_ARGUMENT", 400),
    errors.UnavailableError: Status("UNAVAILABLE", 503),
    errors.UnknownOutcomeError: Status("UNAVAILABLE", 503),
    errors.FencedError: Status("UNAVAILABLE", 503),
    errors.TransientError: Status("UNAVAILABLE", 503),
    errors.DamagedDataError: Status("DATA_LOSS", 500),
}

INTERNAL = Status("INTERNAL", 500)


def status_of(error: BaseException) -> Status:
    """The status of an error: that of its nearest class in the table, else INTERNAL."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), INTERNAL)
