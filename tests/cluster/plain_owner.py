"""A partition owner without gRPC or links: requests go in by hand, over a real ledger and a clock that tests turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from cluster.control import Control
from cluster.ledger import Append, Appended, Ledger
from cluster.owner import Owner
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from ticketcore.catalogue_document import canonical_json
from ticketcore.errors import UnknownOutcomeError

GATES = [small_park.MAIN, small_park.SIDE, small_park.ARENA, small_park.RIDE]
MAIN, SIDE, ARENA, RIDE = range(4)
"""Lanes of GATES."""


@dataclass
class Clock:
    """A clock that stands still until it is turned."""

    now_ms: int = small_park.NOON_MS

    def __call__(self) -> int:
        return self.now_ms


class Answers:
    """Stands for a link's connection: keeps what the owner sends."""

    def __init__(self) -> None:
        self.groups: dict[int, asyncio.Future[link_pb2.VerdictGroup]] = {}
        self.calls: dict[int, asyncio.Future[link_pb2.LinkResponse]] = {}

    def send(self, response: link_pb2.LinkResponse) -> None:
        if response.WhichOneof("body") == "verdicts":
            for group in response.verdicts.groups:
                self.groups[group.group_id].set_result(group)
        else:
            self.calls[response.call_id].set_result(response)


@dataclass
class Fault:
    """What becomes of one append: it is written or not, and its reply comes or not."""

    written: bool
    replied: bool
    gate: asyncio.Event | None = None
    """Held until then, before anything."""


FINE = Fault(written=True, replied=True)
LOST_BEFORE = Fault(written=False, replied=False)
LOST_AFTER = Fault(written=True, replied=False)


class UnreliableLedger:
    """The real ledger, whose next appends meet the faults that were asked for."""

    def __init__(self, real: Ledger) -> None:
        self._real = real
        self.faults: list[Fault] = []
        self.appends: list[Append] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        fault = self.faults.pop(0) if self.faults else FINE
        if fault.gate is not None:
            await fault.gate.wait()
        self.appends += appends
        answers = await self._real.append(appends) if fault.written else []
        if not fault.replied:
            raise UnknownOutcomeError("the reply was lost by the test")
        return answers


@dataclass
class Desk:
    """An owner of all partitions, and what a test does to it."""

    url: str
    partitions: int = 2
    clock: Clock = field(default_factory=Clock)
    snapshot_after_events: int = 1_000_000
    owners: list[Owner] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))
    _scan_ids: Any = field(default_factory=lambda: itertools.count(1))

    async def start(self, document: dict[str, Any] | None = None) -> Desk:
        self.real = Ledger(self.url)
        control = Control(self.real)
        keys = [control_pb2.PublicKey(key_id=small_park.KEY_ID, public_key=small_park.PUBLIC_KEY)]
        await control.publish_keys(control_pb2.PublishKeysRequest(keys=keys))
        await control.publish_catalogue(1, canonical_json(document or small_park.document()))
        await self.take_over()
        return self

    async def take_over(self, indexes: Sequence[int] | None = None) -> Owner:
        """A new owner takes partitions, or all; the earlier one goes on living."""
        self.ledger = UnreliableLedger(self.real)
        config = ClusterConfig(self.url, Path("/nowhere"), self.partitions, 1, 1, None, "", self.snapshot_after_events)
        self.owner = Owner(f"owner-{len(self.owners)}", config, self.ledger, self.clock)  # type: ignore[arg-type]
        self.owners.append(self.owner)
        await self.owner.start()
        await self.owner.own(range(self.partitions) if indexes is None else indexes, "")
        return self.owner

    async def stop(self) -> None:
        for owner in self.owners:
            await owner.stop()
        await self.real.close()

    def group(self, *scans: gate_pb2.Scan, owner: Owner | None = None, **more: Any) -> asyncio.Future[Any]:
        """Sends one frame; the future is its verdict group."""
        answers, group_id = Answers(), next(self._ids)
        answers.groups[group_id] = asyncio.get_running_loop().create_future()
        frame = gate_pb2.ClientFrame(scans=scans, **more)
        request = link_pb2.LinkRequest()
        request.scans.groups.add(group_id=group_id, client_frame=frame.SerializeToString(), gate_numbers=GATES)
        (owner or self.owner).request(answers, request)  # type: ignore[arg-type]
        return answers.groups[group_id]

    async def send(self, *scans: gate_pb2.Scan, **more: Any) -> list[gate_pb2.Verdict]:
        return list((await self.frame(*scans, **more)).verdicts)

    async def frame(self, *scans: gate_pb2.Scan, **more: Any) -> gate_pb2.ServerFrame:
        async with asyncio.timeout(20):
            return gate_pb2.ServerFrame.FromString((await self.group(*scans, **more)).server_frame)

    async def passage(self, scan_id: bytes, ticket_id: int, outcome: int) -> gate_pb2.PassageReceipt:
        report = gate_pb2.PassageReport(scan_id=scan_id, ticket_id=ticket_id, outcome=outcome)  # type: ignore[arg-type]
        return (await self.frame(passages=[report])).receipts[0]

    def ask(self, **body: Any) -> asyncio.Future[link_pb2.LinkResponse]:
        answers, call_id = Answers(), next(self._ids)
        answers.calls[call_id] = asyncio.get_running_loop().create_future()
        self.owner.request(answers, link_pb2.LinkRequest(call_id=call_id, **body))  # type: ignore[arg-type]
        return answers.calls[call_id]

    async def register(self, *codes: bytes, **fields: Any) -> control_pb2.RegisterTicketsResponse:
        tickets = [control_pb2.IssuedTicket(token=code, **fields) for code in codes]
        async with asyncio.timeout(20):
            return (await self.ask(register=control_pb2.RegisterTicketsRequest(tickets=tickets))).register

    async def change(self, code: bytes, to: int, request_id: bytes) -> control_pb2.ChangeResult:
        item = control_pb2.TicketChange(ticket_id=small_park.ticket_id(code), to=to, request_id=request_id)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            answer = await self.ask(change=control_pb2.ChangeTicketsRequest(changes=[item]))
        return answer.change.results[0]

    def scan(self, code: bytes, **fields: Any) -> gate_pb2.Scan:
        """A scan now, with an id of its own."""
        values = {"number": next(self._scan_ids), "time_ms": self.clock.now_ms} | fields
        return small_park.scan(code, **values)

    async def log(self, partition: str) -> list[Any]:
        """All entries of a partition's log."""
        head = (await self.real.heads([partition]))[partition]
        return [entry async for entry in self.real.entries(partition, 0, head.sequence)]


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop run until something holds; a failure after five seconds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
