"""What sales needs of the cluster, and the adapter that asks it over gRPC. Foreign errors end here."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.cluster.v1.control_pb2_grpc import ControlServiceStub
from sales.batching import Batcher
from sales.config import SalesConfig
from ticketcore.errors import UnavailableError, UnknownOutcomeError

R = TypeVar("R")
CALL_TIMEOUT_S = 5.0
"""An owner that moves is back within seconds; a window waits no longer, and the relay asks again."""
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
MOST_COMMANDS = 1_000
"""What one ChangeHolds call takes."""
UNCERTAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
log = logging.getLogger(__name__)


class Cluster(Protocol):
    """The cluster's owners, as sales sees them. Each call may be repeated; each raises TransientError for an unknown
    outcome and answers refusals as values."""

    async def place_hold(self, request: control.PlaceHoldRequest) -> control.HoldResponse:
        """Takes units for an order, all or none."""

    async def pin_hold(self, hold_id: bytes) -> control.HoldResponse:
        """Keeps a hold from lapsing."""

    async def confirm_hold(self, hold_id: bytes) -> control.HoldResponse:
        """Turns a pinned hold into sold units."""

    async def release_hold(self, hold_id: bytes) -> control.HoldResponse:
        """Gives a hold back."""

    async def register_tickets(self, tickets: Sequence[control.IssuedTicket]) -> Sequence[int]:
        """Makes tickets known; answers the ids that conflict."""

    async def change_tickets(self, changes: Sequence[control.TicketChange]) -> Sequence[control.ChangeResult]:
        """Changes lifecycles, each on its own."""

    async def inspect_tickets(self, ticket_ids: Sequence[int]) -> Sequence[control.TicketState]:
        """What the owners know of tickets, in their order. Changes nothing."""

    async def return_units(self, request: control.ReturnUnitsRequest) -> None:
        """Makes sold units sellable again."""

    async def publish_catalogue(self, version: int, document: bytes) -> None:
        """Puts a catalogue in force."""


class GrpcCluster:
    """`Cluster` over the ControlService of any of several gateways: the next is asked where one is away.

    What is asked of holds while a call is in flight goes together in the next.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        self._channels = list(channels)
        self._stubs = [ControlServiceStub(channel) for channel in channels]
        self._preferred = 0
        self._holds: Batcher[control.HoldCommand, control.HoldResponse] = Batcher(self._change_holds, MOST_COMMANDS)

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close()

    async def place_hold(self, request: control.PlaceHoldRequest) -> control.HoldResponse:
        """See `Cluster`."""
        return await self._holds.ask(control.HoldCommand(place=request))

    async def pin_hold(self, hold_id: bytes) -> control.HoldResponse:
        """See `Cluster`."""
        return await self._holds.ask(control.HoldCommand(pin=control.HoldRequest(hold_id=hold_id)))

    async def confirm_hold(self, hold_id: bytes) -> control.HoldResponse:
        """See `Cluster`."""
        return await self._holds.ask(control.HoldCommand(confirm=control.HoldRequest(hold_id=hold_id)))

    async def release_hold(self, hold_id: bytes) -> control.HoldResponse:
        """See `Cluster`."""
        return await self._holds.ask(control.HoldCommand(release=control.HoldRequest(hold_id=hold_id)))

    async def _change_holds(self, commands: Sequence[control.HoldCommand]) -> Sequence[control.HoldResponse]:
        request = control.ChangeHoldsRequest(commands=commands)
        answer: control.ChangeHoldsResponse = await self._call(lambda stub: stub.ChangeHolds, request)
        if len(answer.results) != len(commands):
            raise UnknownOutcomeError(f"the cluster answered {len(answer.results)} of {len(commands)} calls on holds")
        return answer.results

    async def register_tickets(self, tickets: Sequence[control.IssuedTicket]) -> Sequence[int]:
        """See `Cluster`."""
        answer: control.RegisterTicketsResponse = await self._call(
            lambda stub: stub.RegisterTickets, control.RegisterTicketsRequest(tickets=tickets)
        )
        return list(answer.conflicting_ticket_ids)

    async def change_tickets(self, changes: Sequence[control.TicketChange]) -> Sequence[control.ChangeResult]:
        """See `Cluster`."""
        answer: control.ChangeTicketsResponse = await self._call(
            lambda stub: stub.ChangeTickets, control.ChangeTicketsRequest(changes=changes)
        )
        return list(answer.results)

    async def inspect_tickets(self, ticket_ids: Sequence[int]) -> Sequence[control.TicketState]:
        """See `Cluster`."""
        request = control.InspectTicketsRequest(ticket_ids=ticket_ids)
        answer: control.InspectTicketsResponse = await self._call(lambda stub: stub.InspectTickets, request)
        if len(answer.states) != len(ticket_ids):
            raise UnknownOutcomeError(f"the cluster answered {len(answer.states)} of {len(ticket_ids)} look-ups")
        return list(answer.states)

    async def return_units(self, request: control.ReturnUnitsRequest) -> None:
        """See `Cluster`."""
        await self._call(lambda stub: stub.ReturnUnits, request)

    async def publish_catalogue(self, version: int, document: bytes) -> None:
        """See `Cluster`."""
        request = control.PublishCatalogueRequest(catalogue_version=version, document=document)
        try:
            await self._call(lambda stub: stub.PublishCatalogue, request)
        except UnknownOutcomeError as error:
            raise UnknownOutcomeError("the ticket cluster does not answer") from error  # sales ask again by themselves

    async def _call(self, method: Callable[[Any], Callable[..., Awaitable[R]]], request: object) -> R:
        failure: grpc.aio.AioRpcError | None = None
        for _ in self._stubs:
            try:
                return await method(self._stubs[self._preferred])(request, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                failure = error
                self._preferred = (self._preferred + 1) % len(self._stubs)
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    break
        raise _ours(failure) from failure


def _ours(failure: grpc.aio.AioRpcError | None) -> UnavailableError | UnknownOutcomeError:
    if failure is None or failure.code() in UNCERTAIN:
        return UnknownOutcomeError("the ticket cluster did not answer; ask again with the same request_id")
    log.error("the cluster refused a call of sales: %s %s", failure.code(), failure.details())
    return UnavailableError(f"the ticket cluster refuses: {failure.details()}", 5_000)


def connect(config: SalesConfig) -> GrpcCluster:
    """Channels to all targets of the settings; nothing is sent yet."""
    options: list[tuple[str, Any]] = [*CHANNEL_OPTIONS]
    if config.cluster_server_name:
        options.append(("grpc.ssl_target_name_override", config.cluster_server_name))
    if config.cluster_tls is None:
        return GrpcCluster([grpc.aio.insecure_channel(target, options) for target in config.cluster_targets])
    files = config.cluster_tls
    credentials = grpc.ssl_channel_credentials(
        root_certificates=files.authority.read_bytes(),
        private_key=files.private_key.read_bytes(),
        certificate_chain=files.certificate.read_bytes(),
    )
    return GrpcCluster([grpc.aio.secure_channel(target, credentials, options) for target in config.cluster_targets])
