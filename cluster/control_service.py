"""The control service of a gateway: what sales, operations and reporting ask, passed on to the owners it concerns."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from cluster.backlog import Backlog
from cluster.config import QUOTA_PARTITION, ClusterConfig
from cluster.control import Control
from cluster.gate_service import Context, GateService, abort
from cluster.identity import Revoked, identity_of
from cluster.ledger import Ledger
from cluster.link import LinkClient
from cluster.partition import partition_of
from cluster.routes import Routes
from parkgate.cluster.v1 import control_pb2, control_pb2_grpc, link_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.catalogue import Zone
from ticketcore.errors import (
    ConflictError,
    InvalidInputError,
    NotPermittedError,
    ParkgateError,
    TransientError,
    UnavailableError,
)

CALL_TIMEOUT_S = 5.0
FIND_TIMEOUT_S = 2.0
MAX_TICKETS = 10_000
MAX_LINES = 64
MAX_HOLD_COMMANDS = 1_000
"""Commands of a ChangeHolds call: one entry of the log holds them all, and stays below a megabyte."""
ID_LENGTH = 16

Request = TypeVar("Request")
Response = TypeVar("Response")
Method = Callable[["ControlService", Request, Context], Awaitable[Response]]


def guarded(method: Method[Request, Response]) -> Method[Request, Response]:
    """Lets services in and nobody else, and maps errors to their status."""

    @functools.wraps(method)
    async def call(self: ControlService, request: Request, context: Context) -> Response:
        try:
            identity = identity_of(context.auth_context())
            self.revoked.check(identity)
            if not identity.of("service"):
                raise NotPermittedError(f"{identity.label} is no service: control calls need a service's certificate")
            return await method(self, request, context)
        except ParkgateError as error:
            await abort(context, error)

    return call


class ControlService(control_pb2_grpc.ControlServiceServicer):
    """Serves `parkgate.cluster.v1.ControlService`."""

    def __init__(
        self, config: ClusterConfig, ledger: Ledger, control: Control, routes: Routes, gates: GateService
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._control = control
        self._routes = routes
        self._gates = gates
        self.revoked = Revoked(None)
        self.backlog: Backlog | None = None

    # Tickets

    @guarded
    async def RegisterTickets(self, request: control_pb2.RegisterTicketsRequest, context: Context) -> Any:
        """Splits by owner; each part is idempotent, so that the whole may be repeated. Where an owner is away the call
        fails once all others have theirs: sales register tickets of many orders together."""
        _check_count("tickets", len(request.tickets))
        parts, away = await self._find_owners(request.tickets, lambda item: int.from_bytes(item.token[1:9], "big"))
        calls = [
            link_pb2.LinkRequest(register=control_pb2.RegisterTicketsRequest(tickets=[item for _, item in items]))
            for _, items in parts
        ]
        total = control_pb2.RegisterTicketsResponse()
        for answer in await self._ask_all([link for link, _ in parts], calls):
            total.registered += answer.register.registered
            total.already_registered += answer.register.already_registered
            total.conflicting_ticket_ids.extend(answer.register.conflicting_ticket_ids)
        if away is not None:
            raise away
        return total

    @guarded
    async def ChangeTickets(self, request: control_pb2.ChangeTicketsRequest, context: Context) -> Any:
        """Splits by owner; answers in the order of the request."""
        _check_count("changes", len(request.changes))
        for change in request.changes:
            _check_id("request_id", change.request_id)
        parts = await self._by_owner(request.changes, lambda item: item.ticket_id)
        calls = [
            link_pb2.LinkRequest(change=control_pb2.ChangeTicketsRequest(changes=[item for _, item in items]))
            for _, items in parts
        ]
        answers = await self._ask_all([link for link, _ in parts], calls)
        results = _in_order([items for _, items in parts], [answer.change.results for answer in answers])
        return control_pb2.ChangeTicketsResponse(results=results)

    @guarded
    async def InspectTickets(self, request: control_pb2.InspectTicketsRequest, context: Context) -> Any:
        """Splits by owner; answers in the order of the request."""
        _check_count("ticket ids", len(request.ticket_ids))
        parts = await self._by_owner(request.ticket_ids, lambda item: item)
        calls = [
            link_pb2.LinkRequest(inspect=control_pb2.InspectTicketsRequest(ticket_ids=[item for _, item in items]))
            for _, items in parts
        ]
        answers = await self._ask_all([link for link, _ in parts], calls)
        states = _in_order([items for _, items in parts], [answer.inspect.states for answer in answers])
        return control_pb2.InspectTicketsResponse(states=states)

    async def _by_owner(
        self, items: Sequence[Any], ticket_id: Callable[[Any], int]
    ) -> list[tuple[LinkClient, list[tuple[int, Any]]]]:
        """Items with their position in the request, by the link to their owner."""
        parts, away = await self._find_owners(items, ticket_id)
        if away is not None:
            raise away
        return parts

    async def _find_owners(
        self, items: Sequence[Any], ticket_id: Callable[[Any], int]
    ) -> tuple[list[tuple[LinkClient, list[tuple[int, Any]]]], UnavailableError | None]:
        """As `_by_owner`, of the owners that were found in time; and why others were not."""
        names = self._config.partition_names
        parts: dict[LinkClient, list[tuple[int, Any]]] = {}
        away: UnavailableError | None = None
        for position, item in enumerate(items):
            name = names[partition_of(ticket_id(item), len(names))]
            link = self._routes.link(name)
            if link is None:
                try:
                    link = await self._routes.wait(name, FIND_TIMEOUT_S if away is None else 0.0)
                except UnavailableError as error:
                    away = error
                    continue
            parts.setdefault(link, []).append((position, item))
        return list(parts.items()), away

    async def _ask_all(
        self, links: Sequence[LinkClient], calls: Sequence[link_pb2.LinkRequest]
    ) -> list[link_pb2.LinkResponse]:
        asked = [self._ask(link, call) for link, call in zip(links, calls, strict=True)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, link_pb2.LinkResponse)]

    # Quotas

    @guarded
    async def PlaceHold(self, request: control_pb2.PlaceHoldRequest, context: Context) -> Any:
        """Takes units, all lines or none."""
        _check_place(request)
        return (await self._ask_quota(link_pb2.LinkRequest(place_hold=request))).hold

    @guarded
    async def PinHold(self, request: control_pb2.HoldRequest, context: Context) -> Any:
        """Keeps a hold from lapsing."""
        _check_id("hold_id", request.hold_id)
        return (await self._ask_quota(link_pb2.LinkRequest(pin_hold=request))).hold

    @guarded
    async def ConfirmHold(self, request: control_pb2.HoldRequest, context: Context) -> Any:
        """Turns held units into sold ones."""
        _check_id("hold_id", request.hold_id)
        return (await self._ask_quota(link_pb2.LinkRequest(confirm_hold=request))).hold

    @guarded
    async def ReleaseHold(self, request: control_pb2.HoldRequest, context: Context) -> Any:
        """Gives held units back."""
        _check_id("hold_id", request.hold_id)
        return (await self._ask_quota(link_pb2.LinkRequest(release_hold=request))).hold

    @guarded
    async def ChangeHolds(self, request: control_pb2.ChangeHoldsRequest, context: Context) -> Any:
        """Many calls on holds, in their order."""
        if not 1 <= len(request.commands) <= MAX_HOLD_COMMANDS:
            raise InvalidInputError(f"a call holds 1 to {MAX_HOLD_COMMANDS} commands, this one {len(request.commands)}")
        for command in request.commands:
            _check_command(command)
        return (await self._ask_quota(link_pb2.LinkRequest(change_holds=request))).change_holds

    @guarded
    async def ReturnUnits(self, request: control_pb2.ReturnUnitsRequest, context: Context) -> Any:
        """Makes sold units sellable again."""
        _check_id("request_id", request.request_id)
        _check_lines([line.quota_key for line in request.lines], [line.units for line in request.lines])
        return (await self._ask_quota(link_pb2.LinkRequest(return_units=request))).return_units

    @guarded
    async def GetQuotas(self, request: control_pb2.GetQuotasRequest, context: Context) -> Any:
        """Where quotas stand."""
        return (await self._ask_quota(link_pb2.LinkRequest(get_quotas=request))).get_quotas

    async def _ask_quota(self, call: link_pb2.LinkRequest) -> link_pb2.LinkResponse:
        return await self._ask(await self._routes.wait(QUOTA_PARTITION, FIND_TIMEOUT_S), call)

    async def _ask(self, link: LinkClient, call: link_pb2.LinkRequest) -> link_pb2.LinkResponse:
        """Asks an owner, and looks for another if it is silent: it may have a successor, and its connection stays open.
        Of a caller that is not as patient as we are, the end is a cancellation."""
        try:
            return await link.call(call, CALL_TIMEOUT_S)
        except (TransientError, asyncio.CancelledError):
            self._routes.look_up_soon()
            raise

    # Occupancy and status

    @guarded
    async def GetOccupancy(self, request: control_pb2.GetOccupancyRequest, context: Context) -> Any:
        """Who is inside, summed over owners, with capacity and leases from the capacity owner."""
        response = (await self._ask_quota(link_pb2.LinkRequest(occupancy=request))).occupancy
        zones = {zone.zone_number: zone for zone in response.zones}
        for answer in await self._ask_owners(link_pb2.LinkRequest(occupancy=request)):
            for counted in answer.occupancy.zones:
                if counted.zone_number in zones:
                    zones[counted.zone_number].inside += counted.inside
        return response

    @guarded
    async def GetStatus(self, request: control_pb2.GetStatusRequest, context: Context) -> Any:
        """Where every partition stands."""
        response = control_pb2.GetStatusResponse(
            gateway=self._gates.name, catalogue_version=self._control.catalogue_version, streams=self._gates.streams
        )
        answers = await self._ask_all_owners(link_pb2.LinkRequest(status=request))
        partitions = [partition for answer in answers for partition in answer.status.partitions]
        partitions += [
            control_pb2.PartitionStatus(
                partition=name, owner=head.owner, epoch=head.epoch, sequence=head.sequence, damage=head.damage
            )
            for name, head in self._routes.damaged.items()
        ]
        for partition in sorted(partitions, key=lambda item: item.partition):
            partition.reported_sequence = await self._ledger.reported_sequence(partition.partition)
            response.partitions.append(partition)
        if self.backlog is not None:
            await self.backlog.look()
            response.unreported_bytes = self.backlog.now.log_bytes
            response.unreported_limit_bytes = self.backlog.limit_bytes
        return response

    async def _ask_owners(self, call: link_pb2.LinkRequest) -> list[link_pb2.LinkResponse]:
        return await self._ask_owners_of(self._config.partition_names, call)

    async def _ask_all_owners(self, call: link_pb2.LinkRequest) -> list[link_pb2.LinkResponse]:
        """The quota owner as well. What is damaged has no owner who could be asked, and decides nothing; all others go
        on, and so must what is put in force for them."""
        return await self._ask_owners_of([*self._config.partition_names, QUOTA_PARTITION], call)

    async def _ask_owners_of(self, names: Sequence[str], call: link_pb2.LinkRequest) -> list[link_pb2.LinkResponse]:
        if self._routes.damaged:
            await self._routes.look_up()  # it may have been mended
        links = list(dict.fromkeys([link for name in names if (link := await self._owner_of(name)) is not None]))
        calls = []
        for _ in links:
            copy = link_pb2.LinkRequest()
            copy.CopyFrom(call)
            calls.append(copy)
        return await self._ask_all(links, calls)

    async def _owner_of(self, name: str) -> LinkClient | None:
        """None if the partition is damaged."""
        try:
            return await self._routes.wait(name, FIND_TIMEOUT_S)
        except UnavailableError:
            if name in self._routes.damaged:
                return None
            raise

    # What is in force

    @guarded
    async def PublishCatalogue(self, request: control_pb2.PublishCatalogueRequest, context: Context) -> Any:
        """Stores the catalogue, then has every owner read it before it answers."""
        await self._check_empty(self._control.newly_limited(request.document))
        version = await self._control.publish_catalogue(request.catalogue_version, request.document)
        await self._refresh_all()
        return control_pb2.PublishCatalogueResponse(catalogue_version=version)

    async def _check_empty(self, zones: Sequence[Zone]) -> None:
        """Who is inside a zone without a capacity holds no unit of it: a capacity would not count them.

        Raises:
            ConflictError: somebody is inside one of these.
        """
        if not zones:
            return
        answers = await self._ask_owners(link_pb2.LinkRequest(occupancy=control_pb2.GetOccupancyRequest()))
        for zone in zones:
            counted = (one for answer in answers for one in answer.occupancy.zones if one.zone_number == zone.number)
            inside = sum(one.inside for one in counted)
            if inside:
                raise ConflictError(
                    f"{inside} persons are inside {zone.name}, which has had no capacity: one of {zone.capacity} would "
                    "not count them. Publish it while nobody is inside"
                )

    @guarded
    async def PublishKeys(self, request: control_pb2.PublishKeysRequest, context: Context) -> Any:
        """Stores the ring, then has every owner read it before it answers."""
        await self._control.publish_keys(request)
        await self._refresh_all()
        return control_pb2.PublishKeysResponse()

    @guarded
    async def SetModes(self, request: control_pb2.SetModesRequest, context: Context) -> Any:
        """Stores the modes, then has every owner read them before it answers."""
        catalogue = self._control.catalogue
        for change in request.changes:
            if change.gate_id and (catalogue is None or change.gate_id not in catalogue.gates):
                raise InvalidInputError(f"gate {change.gate_id!r} is not in the catalogue")
            if change.mode not in gate_pb2.GateMode.values():
                raise InvalidInputError(f"mode {change.mode} is none of parkgate.gate.v1.GateMode")
        await self._control.set_modes(request)
        await self._refresh_all()
        return control_pb2.SetModesResponse()

    async def _refresh_all(self) -> None:
        """Owners as they are now: one that was replaced and does not know it would answer for its successor. Who takes
        over after this reads for itself what is in force."""
        if await self._control.refresh():
            self._gates.announce()
        await self._routes.look_up()
        await self._ask_all_owners(link_pb2.LinkRequest(refresh=link_pb2.RefreshRequest()))


def _in_order(positions: Iterable[Sequence[tuple[int, Any]]], answers: Iterable[Sequence[Any]]) -> list[Any]:
    placed: dict[int, Any] = {}
    for items, part in zip(positions, answers, strict=True):
        placed.update((position, answer) for (position, _), answer in zip(items, part, strict=True))
    return [placed[position] for position in sorted(placed)]


def _check_count(what: str, count: int) -> None:
    if not 1 <= count <= MAX_TICKETS:
        raise InvalidInputError(f"a call holds 1 to {MAX_TICKETS} {what}, this one {count}")


def _check_id(what: str, value: bytes) -> None:
    if len(value) != ID_LENGTH:
        raise InvalidInputError(f"{what} has {len(value)} bytes, must have {ID_LENGTH}")


def _check_lines(keys: Sequence[str], units: Sequence[int]) -> None:
    if not 1 <= len(keys) <= MAX_LINES or len(set(keys)) != len(keys) or not all(keys) or not all(units):
        raise InvalidInputError(f"quota lines must be 1 to {MAX_LINES}, each of another key, each of at least one unit")


def _check_place(request: control_pb2.PlaceHoldRequest) -> None:
    _check_id("hold_id", request.hold_id)
    _check_lines([line.quota_key for line in request.lines], [line.units for line in request.lines])


def _check_command(command: control_pb2.HoldCommand) -> None:
    match command.WhichOneof("command"):
        case "place":
            _check_place(command.place)
        case None:
            raise InvalidInputError("a command of the call is empty: expected place, pin, confirm or release")
        case kind:
            _check_id("hold_id", getattr(command, kind).hold_id)
