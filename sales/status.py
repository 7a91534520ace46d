"""What a caller reads when something is wrong: the status of `ticketcore.status`, and words. Never a stack trace."""

from __future__ import annotations

import logging
import uuid

import grpc

from sales.errors import RequestReusedError
from ticketcore import status
from ticketcore.errors import ParkgateError, TransientError

log = logging.getLogger(__name__)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status, message and trailing metadata (`retry-after-ms`) for an error.

    What is no error of ours is a fault of ours: INTERNAL, with a number under which the log has the whole story.
    """
    if isinstance(error, ParkgateError):
        metadata = (("retry-after-ms", str(error.retry_after_ms)),) if isinstance(error, TransientError) else ()
        return _code(error), str(error), metadata
    incident = uuid.uuid4().hex[:12]
    log.error("fault of ours, incident %s", incident, exc_info=error)
    return grpc.StatusCode.INTERNAL, f"a fault of ours; tell operations incident {incident}", ()


def _code(error: ParkgateError) -> grpc.StatusCode:
    """The core's table, and the one finer word that gRPC has: an id that is used for something else exists already."""
    if isinstance(error, RequestReusedError):
        return grpc.StatusCode.ALREADY_EXISTS
    return grpc.StatusCode[status.status_of(error).grpc]
