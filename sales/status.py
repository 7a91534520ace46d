"""The one table from error classes to gRPC statuses, and the words that a caller reads. No stack trace ever leaves."""

from __future__ import annotations

import logging
import uuid

import grpc

from sales.errors import RequestReusedError
from ticketcore.errors import (
    ConflictError,
    DamagedDataError,
    FencedError,
    InvalidInputError,
    NotFoundError,
    NotPermittedError,
    ParkgateError,
    SoldOutError,
    TransientError,
    UnavailableError,
    UnknownOutcomeError,
)

STATUS: dict[type[ParkgateError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    RequestReusedError: grpc.StatusCode.ALREADY_EXISTS,
    ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    SoldOutError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotPermittedError: grpc.StatusCode.PERMISSION_DENIED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnknownOutcomeError: grpc.StatusCode.UNAVAILABLE,
    FencedError: grpc.StatusCode.UNAVAILABLE,
    DamagedDataError: grpc.StatusCode.DATA_LOSS,
}

log = logging.getLogger(__name__)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status, message and trailing metadata (`retry-after-ms`) for an error.

    What is no error of ours is a fault of ours: INTERNAL, with a number under which the log has the whole story.
    """
    for kind in type(error).__mro__:
        if kind in STATUS:
            metadata = (("retry-after-ms", str(error.retry_after_ms)),) if isinstance(error, TransientError) else ()
            return STATUS[kind], str(error), metadata
    incident = uuid.uuid4().hex[:12]
    log.error("fault of ours, incident %s", incident, exc_info=error)
    return grpc.StatusCode.INTERNAL, f"a fault of ours; tell operations incident {incident}", ()
