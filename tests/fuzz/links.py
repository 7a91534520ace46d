"""Targets on the links between gateways and owners. Only the cluster's own certificate gets there, so what comes is
believed; but a peer that is mad, of another version or cut off in the middle must bring nobody down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cluster.gate_session import Dispatcher
from cluster.link import Connection, LinkClient
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from tests.fuzz.gates import METHODS, TICKETS
from tests.fuzz.inside import STEP_S, Days, Inside
from tests.fuzz.target import Target, require
from ticketcore.errors import UnknownOutcomeError

LENGTH = 4
FRAME_TIMEOUT_S = 0.1


class Pipe:
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def writelines(self, parts: Any) -> None:
        """Sends a frame."""
        self.sent.append(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was aborted."""
        return self.closed

    def abort(self) -> None:
        """Hangs up."""
        self.closed = True

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """A Unix socket: no certificate."""
        return default


def framed(*messages: Any) -> bytes:
    """Messages as they travel on a link."""
    parts = [message.SerializeToString() for message in messages]
    return b"".join(len(part).to_bytes(LENGTH, "big") + part for part in parts)


class Ways:
    """Routes to owners whose links are there."""

    def __init__(self, links: list[LinkClient]) -> None:
        self._links = links

    def sole(self) -> LinkClient | None:
        """The link of all partitions, if it is one."""
        return self._links[0] if len(self._links) == 1 else None

    def table(self) -> list[LinkClient]:
        """Links by partition."""
        return self._links

    def look_up_soon(self) -> None:
        """Nobody else is there."""


class OwnersLink:
    """Bytes to an owner, as from a gateway. The first byte says to which, the second in what pieces they come."""

    def __init__(self) -> None:
        self._days = Days(TICKETS)

    def case(self, data: bytes) -> str:
        """The owner answers or hangs up, and goes on living; it never says ADMIT to what was not issued (I8)."""
        inside = self._days.inside()
        owner = inside.owners[(data[0] if data else 0) % len(inside.owners)]
        pipe = Pipe()
        connection = Connection(owner.request)
        connection.framing.connection_made(pipe)  # type: ignore[arg-type]
        size = 1 + (data[1] if len(data) > 1 else 255)
        inside.drive(self._feed(inside, connection, pipe, [data[i : i + size] for i in range(2, len(data), size)]))
        for frame in pipe.sent:
            response = link_pb2.LinkResponse.FromString(frame[LENGTH:])
            for group in response.verdicts.groups:
                self._require_genuine(group)
        return "hung up" if pipe.closed else ("answered" if pipe.sent else "waits for more")

    @staticmethod
    async def _feed(inside: Inside, connection: Connection, pipe: Pipe, pieces: list[bytes]) -> None:
        for piece in pieces:
            if pipe.closed:
                break
            # As the loop calls it: what it raises is a dead callback, which `Inside` finds.
            asyncio.get_running_loop().call_soon(connection.framing.data_received, piece)
            await asyncio.sleep(0)
        await asyncio.sleep(STEP_S)

    @staticmethod
    def _require_genuine(group: link_pb2.VerdictGroup) -> None:
        for verdict in gate_pb2.ServerFrame.FromString(group.server_frame).verdicts:
            if verdict.decision == gate_pb2.DECISION_ADMIT:
                issued = {small_park.ticket_id(token) for token in TICKETS}
                require(verdict.ticket_id in issued, f"I8: ticket {verdict.ticket_id} is admitted, never issued")

    def close(self) -> None:
        """Ends the cluster."""
        self._days.close()


class GatewaysLink:
    """Bytes to a gateway, as from an owner: a whole frame and a split one wait for verdicts, a call for its answer."""

    def __init__(self) -> None:
        self._days = Days([])

    def case(self, data: bytes) -> str:
        """Whatever comes, each waiting frame is answered once, and each call once: by what the owner said, or RETRY
        (I7). Nothing dies."""
        inside = self._days.inside()
        return str(inside.drive(self._talk(data)))

    async def _talk(self, data: bytes) -> str:
        loop, pipes = asyncio.get_running_loop(), (Pipe(), Pipe())
        links = (LinkClient(), LinkClient())
        for link, pipe in zip(links, pipes, strict=True):
            link._framing.connection_made(pipe)  # type: ignore[arg-type]
        answers: list[bytes] = []
        whole = Dispatcher(Ways([links[0]]), FRAME_TIMEOUT_S)  # type: ignore[arg-type]
        split = Dispatcher(Ways([links[0], links[1]]), FRAME_TIMEOUT_S)  # type: ignore[arg-type]
        frame = gate_pb2.ClientFrame(scans=[small_park.scan(token, number) for number, token in enumerate(TICKETS[:2])])
        for dispatcher in (whole, split):
            dispatcher.send(frame.SerializeToString(), frame, [small_park.MAIN], answers.append)
        call = asyncio.create_task(_asked(links[0]))
        await asyncio.sleep(0)
        for link in links:
            loop.call_soon(link._framing.data_received, data)
        await asyncio.sleep(0.01)
        told = "broken" if links[0].broken or pipes[0].closed else ("answered" if answers else "waits")
        await asyncio.sleep(FRAME_TIMEOUT_S)
        for dispatcher in (whole, split):
            dispatcher.expire(loop.time() + FRAME_TIMEOUT_S)
        require(len(answers) == 2, f"two frames were answered {len(answers)} times")
        await call
        return told

    def close(self) -> None:
        """Ends the cluster."""
        self._days.close()


async def _asked(link: LinkClient) -> str:
    try:
        await link.call(link_pb2.LinkRequest(status=control_pb2.GetStatusRequest()), FRAME_TIMEOUT_S / 2)
    except UnknownOutcomeError:
        return "unknown"
    return "answered"


def _requests() -> list[link_pb2.LinkRequest]:
    scans = link_pb2.LinkRequest()
    for number, token in enumerate(TICKETS[:4]):
        frame = gate_pb2.ClientFrame(scans=[small_park.scan(token, number)])
        scans.scans.groups.add(group_id=number, client_frame=frame.SerializeToString(), gate_numbers=[11, 12])
    dry = link_pb2.LinkRequest(call_id=5)
    dry.dry_run.client_frame, dry.dry_run.gate_numbers[:] = scans.scans.groups[0].client_frame, [small_park.MAIN]
    capacity = link_pb2.CapacityRequest(zone_number=2, partition="p0", received_total=1, returned_total=1, wanted=2)
    bodies: dict[str, Any] = {
        "register": METHODS["RegisterTickets"][0],
        "change": METHODS["ChangeTickets"][0],
        "inspect": METHODS["InspectTickets"][0],
        "place_hold": METHODS["PlaceHold"][0],
        "pin_hold": METHODS["PinHold"][0],
        "confirm_hold": METHODS["ConfirmHold"][0],
        "release_hold": METHODS["ReleaseHold"][0],
        "change_holds": METHODS["ChangeHolds"][0],
        "return_units": METHODS["ReturnUnits"][0],
        "get_quotas": METHODS["GetQuotas"][0],
        "recall": link_pb2.RecallRequest(zone_number=2, wanted=3, granted_totals={"p0": 2, "p1": 1}),
        "capacity": capacity,
        "occupancy": METHODS["GetOccupancy"][0],
        "refresh": link_pb2.RefreshRequest(),
        "status": METHODS["GetStatus"][0],
    }
    return [scans, dry, *(link_pb2.LinkRequest(call_id=7, **{name: body}) for name, body in bodies.items())]


def _responses() -> list[link_pb2.LinkResponse]:
    answered = link_pb2.LinkResponse()
    frame = gate_pb2.ServerFrame(verdicts=[gate_pb2.Verdict(scan_id=bytes(16), decision=gate_pb2.DECISION_REJECT)] * 2)
    for group_id in (1, 2, 3):
        answered.verdicts.groups.add(group_id=group_id, server_frame=frame.SerializeToString(), misrouted=group_id == 2)
    one = gate_pb2.ServerFrame(verdicts=frame.verdicts[:1])
    short = link_pb2.LinkResponse()
    short.verdicts.groups.add(group_id=2, server_frame=one.SerializeToString())
    return [answered, short, link_pb2.LinkResponse(call_id=3, status=control_pb2.GetStatusResponse(gateway="g"))]


def owner_link_target() -> Target:
    """At the owner."""
    link = OwnersLink()
    seeds = [bytes((number % 3, 255)) + framed(request) for request in _requests() for number in range(3)]
    seeds.append(b"\0\x05" + framed(*_requests()))
    return Target("owner-link", "link frames at an owner", link.case, seeds, link.close)


def gateway_link_target() -> Target:
    """At the gateway."""
    link = GatewaysLink()
    seeds = [framed(response) for response in _responses()] + [framed(*_responses())]
    return Target("gateway-link", "link frames at a gateway", link.case, seeds, link.close)


MAKERS: dict[str, Callable[[], Target]] = {"owner-link": owner_link_target, "gateway-link": gateway_link_target}
