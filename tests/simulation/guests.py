"""What people do in the simulated park: guests and their copycats at the gates, a desk that refunds, windows that sell.

Everybody is as stubborn as in a real park: who is told RETRY shows the code again, perhaps at another gate; whoever
calls the cluster repeats the same call, with the same id, until it is answered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.checker import FAIL, OK, History
from tests.cluster import small_park
from tests.simulation.park import Park
from tests.simulation.streams import Device, TurnstileDownError
from tests.simulation.till import PRICE_MINOR, Till
from ticketcore.errors import TransientError

if TYPE_CHECKING:
    from tests.simulation.catalogues import Published

QUOTA = "product=1;date=2026-06-01"
QUOTA_LIMIT = 6
REFUNDED, REFUNDED_LIMIT = "product=2;date=2026-06-01", 2
ARENA, ARENA_CAPACITY = 2, 4
ZONE_OF = {"main": 1, "main-2": 1, "side": 1, "arena": ARENA, "arena-2": ARENA, "ride": 3}
GATES_OF_ZONE = {1: ("main", "main-2", "side"), ARENA: ("arena", "arena-2"), 3: ("ride",)}
ZONES_OF = {"day": (1,), "family": (1,), "two-day": (1, ARENA), "show": (ARENA,), "rides": (3,)}
PRODUCTS = ("day", "day", "family", "two-day", "show", "show", "show", "rides")
HOLD_MS = 2_500
REPEAT_S = (0.2, 0.8)
PUBLISH_S = (0.3, 1.5)
"""From one catalogue to the next."""
CHANGED = (("rides", 3), ("two-day", ARENA))
"""Products that later catalogues change, and where."""
TRIED, FIRST_TRIED = 8, 100
"""Tickets that are tried after each, and the first of their numbers."""
MAX_REPEATS = 200
SETTLERS = {"desk": (0.0, 0.0), "sweep": (0.1, 2.5)}
"""Of a refund, at worst, and how long after it was asked for, in seconds: each asks the owner by the same id, hears its
answer, and books it."""
ADMIT, RETRY, EXIT = gate_pb2.DECISION_ADMIT, gate_pb2.DECISION_RETRY, gate_pb2.DIRECTION_EXIT
DARK = gate_pb2.Verdict(decision=RETRY)
"""What a guest makes of a turnstile that shows nothing: show the code again, here or elsewhere."""


@lru_cache(maxsize=10_000)
def signed(product: str, sequence: int) -> bytes:
    """A token; the same tickets are sold on every day that is simulated, so each is signed once."""
    return small_park.token(product, sequence)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket and what it entitles to."""

    product: str
    token: bytes

    @property
    def number(self) -> int:
        return small_park.ticket_id(self.token)


class People:
    """All who come on one day."""

    def __init__(self, park: Park, devices: dict[str, Device], history: History, chance: random.Random) -> None:
        self.park, self.devices, self.history, self.chance = park, devices, history, chance
        self.loop, self.till = park.loop, Till()
        self.wavering: set[int] = set()
        """Tickets whose guests want their money back: half of them turn back at the turnstile."""

    def now_ms(self) -> int:
        return int(self.loop.time() * 1_000)

    def issue(self, product: str, sequence: int) -> Ticket:
        """A ticket is signed."""
        ticket, item = Ticket(product, signed(product, sequence)), small_park.CATALOGUE.products[product]
        asked = {
            "ticket": ticket.number,
            "product": product,
            "entries": item.entries,
            "party": item.persons,
            "daily_entries": item.daily_entries,
            "price_minor": PRICE_MINOR,
        }
        self.history.note("issue", "sales", self.now_ms(), asked)
        self.till.sell(ticket.number, product)
        return ticket

    # Guests

    async def visit(self, ticket: Ticket, arrive_s: float, *, forged: bool = False) -> None:
        """A guest comes, goes in, and perhaps out and in again."""
        await asyncio.sleep(arrive_s)
        zone = self.chance.choice(ZONES_OF[ticket.product])
        if not await self._enter(ticket, zone, forged) or zone == 3:
            return
        while self.chance.random() < 0.35:
            await asyncio.sleep(self.chance.uniform(0.1, 2.0))
            if await self._leave(ticket, zone) and not await self._enter(ticket, zone, forged):
                return

    async def _enter(self, ticket: Ticket, zone: int, forged: bool) -> bool:
        """Shows the code until somebody is in or refused; a guest who turns back tries again."""
        gate = self.chance.choice(GATES_OF_ZONE[zone])
        for _ in range(6):
            verdict = await self._show(ticket, gate, forged)
            if verdict.decision == ADMIT:
                if await self._pass(verdict, gate):
                    return True
            elif verdict.decision != RETRY:
                return False
            await asyncio.sleep(self.chance.uniform(0.02, 0.6))
            if self.chance.random() < 0.3:
                gate = self.chance.choice(GATES_OF_ZONE[zone])
        return False

    async def _show(self, ticket: Ticket, gate: str, forged: bool = False, **more: Any) -> gate_pb2.Verdict:
        device = self.devices[gate]
        token = ticket.token[:-1] + bytes([ticket.token[-1] ^ 1]) if forged else ticket.token
        scan_id = device.new_scan_id(self.chance)
        scan = gate_pb2.Scan(scan_id=scan_id, token=token, scan_time_ms=device.now().wall_ms, **more)
        try:
            return await device.scan(scan, ticket.number, forged=forged)
        except TurnstileDownError:
            return DARK

    async def _pass(self, verdict: gate_pb2.Verdict, gate: str) -> bool:
        """Goes through, or turns back; most turnstiles tell, in time, unless they were restarted meanwhile."""
        device, program = self.devices[gate], self.devices[gate].process
        await asyncio.sleep(self.chance.choice((0.05, 0.2, 0.6, 2.2)))
        passed = self.chance.random() < (0.5 if verdict.ticket_id in self.wavering else 0.85)
        reported = gate not in ("side", "ride") and self.chance.random() < 0.9
        known = device.process is program and device.is_up
        device.report(verdict, ZONE_OF[gate], passed=passed, reported=reported and known)
        return passed

    async def _leave(self, ticket: Ticket, zone: int) -> bool:
        gate = self.chance.choice(GATES_OF_ZONE[zone])
        for _ in range(4):
            verdict = await self._show(ticket, gate, direction=EXIT)
            if verdict.decision == ADMIT:
                self.devices[gate].report(verdict, zone, passed=True, reported=False)
                return True
            if verdict.decision != RETRY:
                return False
        return False

    async def insist(self, ticket: Ticket) -> str:
        """Wants into the arena and takes no RETRY for an answer; at the end of a day, when all is well again."""
        gate = self.chance.choice(GATES_OF_ZONE[ARENA])
        for _ in range(20):
            verdict = await self._show(ticket, gate)
            if verdict.decision == ADMIT:
                self.devices[gate].report(verdict, ARENA, passed=True, reported=True)
            if verdict.decision != RETRY:
                return gate_pb2.Reason.Name(verdict.reason)
        return "RETRY"

    # Sales

    async def register(self, ticket: Ticket, at_s: float) -> None:
        """Sales register a ticket, until it is acknowledged."""
        await asyncio.sleep(at_s)
        operation = self.history.invoke("register", "sales", self.now_ms(), ticket=ticket.number)
        issued = [control_pb2.IssuedTicket(token=ticket.token, price_minor=PRICE_MINOR)]
        await self._until_answered("RegisterTickets", lambda: control_pb2.RegisterTicketsRequest(tickets=issued))
        operation.complete(self.now_ms(), OK)

    async def refund(self, ticket: Ticket, at_s: float) -> None:
        """The desk asks for a refund: the owner says whether it may be. Then it stalls, and the sweep asks as well."""
        await asyncio.sleep(at_s)
        self.wavering.add(ticket.number)
        request_id = self.chance.randbytes(16)
        await asyncio.gather(*(self._settle_refund(settler, ticket, request_id) for settler in SETTLERS))

    async def _settle_refund(self, settler: str, ticket: Ticket, request_id: bytes) -> None:
        await asyncio.sleep(self.chance.uniform(*SETTLERS[settler]))
        operation = self.history.invoke(
            "refund", settler, self.now_ms(), ticket=ticket.number, request_id=request_id.hex()
        )
        change = control_pb2.TicketChange(
            ticket_id=ticket.number, to=events_pb2.LIFECYCLE_REFUNDED, request_id=request_id
        )
        answer = await self._until_answered("ChangeTickets", lambda: control_pb2.ChangeTicketsRequest(changes=[change]))
        if answer is not None:
            name = control_pb2.ChangeOutcome.Name(answer.results[0].outcome)
            operation.complete(self.now_ms(), OK, changed=name.removeprefix("CHANGE_OUTCOME_"))
            if answer.results[0].outcome == control_pb2.CHANGE_OUTCOME_DONE:
                self.till.refund(ticket.number, ticket.product, request_id)

    async def publish(self, catalogues: Sequence[Published], until_s: float) -> None:
        """Sales publish one catalogue after the other, each until the cluster has it, as long as there is time. Once it
        is in force, some try at once what it has changed."""
        trying: list[Any] = []
        for later in catalogues:
            await asyncio.sleep(self.chance.uniform(*PUBLISH_S))
            if self.loop.time() > until_s:
                break
            operation = self.history.invoke("publish", "sales", self.now_ms(), **later.said())
            request = control_pb2.PublishCatalogueRequest(catalogue_version=later.version, document=later.document)
            if await self._until_answered("PublishCatalogue", lambda: _copy(request)) is not None:  # noqa: B023
                operation.complete(self.now_ms(), OK)
                trying += [asyncio.create_task(self._try(later.version, number)) for number in range(TRIED)]
        await asyncio.gather(*trying)

    async def _try(self, version: int, number: int) -> None:
        product, zone = CHANGED[number % len(CHANGED)]
        await self._enter(self.issue(product, FIRST_TRIED + version * TRIED + number), zone, False)

    async def order(self, units: int, at_s: float, think_s: float) -> str:
        """A window takes a hold, pins it when the guest pays, confirms or releases it."""
        await asyncio.sleep(at_s)
        hold_id = self.chance.randbytes(16)
        line = control_pb2.LimitedLine(quota_key=QUOTA, units=units, limit=QUOTA_LIMIT)
        placed = control_pb2.PlaceHoldRequest(
            hold_id=hold_id, lines=[line], time_to_live_ms=HOLD_MS, catalogue_version=1
        )
        state = await self._hold("place", hold_id, units, "PlaceHold", placed)
        if state != "DONE":
            return state
        await asyncio.sleep(think_s)
        named = control_pb2.HoldRequest(hold_id=hold_id)
        state = await self._hold("pin", hold_id, units, "PinHold", named)
        if state != "DONE" and self.chance.random() < 0.9:
            return state
        if state == "DONE" and think_s and self.chance.random() < 0.2:
            return await self._hold("release", hold_id, units, "ReleaseHold", named)
        return await self._hold("confirm", hold_id, units, "ConfirmHold", named)

    async def sell_twice(self) -> None:
        """All of a quota is sold and refunded, the refund is told before the sale, and all is sold again."""
        line = events_pb2.QuotaLine(quota_key=REFUNDED, units=REFUNDED_LIMIT)
        returned = control_pb2.ReturnUnitsRequest(request_id=self.chance.randbytes(16), lines=[line])
        first = await self._pinned()
        await self._until_answered("ReturnUnits", lambda: _copy(returned))
        await self._hold("confirm", first.hold_id, REFUNDED_LIMIT, "ConfirmHold", first)
        second = await self._pinned()
        await self._hold("confirm", second.hold_id, REFUNDED_LIMIT, "ConfirmHold", second)

    async def _pinned(self) -> control_pb2.HoldRequest:
        """A hold on all units of the quota that is refunded; one that lapses before it is pinned is placed anew."""
        line = control_pb2.LimitedLine(quota_key=REFUNDED, units=REFUNDED_LIMIT, limit=REFUNDED_LIMIT)
        for _ in range(MAX_REPEATS):
            named = control_pb2.HoldRequest(hold_id=self.chance.randbytes(16))
            placed = control_pb2.PlaceHoldRequest(
                hold_id=named.hold_id, lines=[line], time_to_live_ms=HOLD_MS, catalogue_version=1
            )
            await self._hold("place", named.hold_id, REFUNDED_LIMIT, "PlaceHold", placed)
            if await self._hold("pin", named.hold_id, REFUNDED_LIMIT, "PinHold", named) == "DONE":
                break
        return named

    async def _hold(self, step: str, hold_id: bytes, units: int, method: str, request: Any) -> str:
        quota = request.lines[0].quota_key if step == "place" else ""
        asked = {"hold_id": hold_id.hex(), "quota": quota, "units": units, "step": step}
        operation = self.history.invoke("hold", "window", self.now_ms(), **asked)
        answer = await self._until_answered(method, lambda: _copy(request))
        if answer is None:
            return "UNKNOWN"
        state = control_pb2.HoldOutcome.Name(answer.outcome).removeprefix("HOLD_OUTCOME_")
        operation.complete(self.now_ms(), OK if state == "DONE" else FAIL, state=state)
        return state

    async def _until_answered(self, method: str, request: Callable[[], Any]) -> Any:
        """The same call until it is answered; None if it never is."""
        for _ in range(MAX_REPEATS):
            try:
                return await self.park.control(method, request())
            except (TransientError, TimeoutError):
                await asyncio.sleep(self.chance.uniform(*REPEAT_S))
        return None


def _copy(request: Any) -> Any:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy
