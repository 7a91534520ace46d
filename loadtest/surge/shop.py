"""The shop's part of the generator, a process of its own: Locust's users are the windows, kiosks and phones of the day.

Locust has no user for gRPC; `Seller` is one. Sales are due by the plan, whether or not a window is free: their time
counts from then, and how many windows are open follows the day's curve, as staff would open them.
"""

from __future__ import annotations

# Locust patches sockets and TLS for greenlets, and must come before anything that has imported them.
import locust  # isort: skip
import locust.env  # isort: skip
from locust import LoadTestShape, User, constant, task  # isort: skip
import gevent.event  # isort: skip
import gevent.fileobject  # isort: skip
import gevent.pool  # isort: skip
import grpc.experimental.gevent  # isort: skip

import json
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import gevent
import grpc

from loadtest.surge import plan as planning
from loadtest.surge.agency import Agency
from loadtest.surge.clock import DayClock
from loadtest.surge.counter import Counter
from loadtest.surge.curve import Curve
from loadtest.surge.guests import Guests, Habit
from loadtest.surge.parts import Order, Progress, say
from loadtest.surge.plan import Plan, Way
from loadtest.surge.presale import Kind, Presale, SoldOut, blocks_of, wanted_on_the_day
from loadtest.surge.scenario import load
from loadtest.surge.till import Till
from parkgate.sales.v1 import sales_pb2 as pb
from parkgate.sales.v1.sales_pb2_grpc import SalesServiceStub
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import read_catalogue

CONNECTIONS = 4
SELLERS_AT_ONCE = 6
MOST_LEFT_OPEN = 20
"""So many rehearsals may have been broken off at one park."""
NAP_S = 0.05
TELL_S = 0.5
LEAST_OPEN = 0.4
"""Of the windows, also when it is quiet."""
STOP_S = 30
REFUND_BEFORE_S = 300.0
"""Every other of them asks so long before the turn at the gate, the others at the same instant: a race."""
ONLINE, KIOSK, WINDOW = "web", "kiosk", "window"


@dataclass(order=True, slots=True)
class Errand:
    """A sale or refund that is due."""

    at_s: float
    number: int
    guests: Guests = field(compare=False)
    refund: bool = field(compare=False, default=False)


@dataclass(slots=True)
class Sale:
    """What was measured of an errand. Times in ms, counted from when it was due."""

    at_s: float
    took_ms: float
    channel: str
    outcome: str


class Shop:
    """Everything that its users share."""

    def __init__(self, order: Order, plan: Plan, till: Till, stubs: list[SalesServiceStub]) -> None:
        self.order = order
        self.plan = plan
        self.till = till
        self.stubs = stubs
        self.clock = DayClock(0, 0, 1)
        self.sales: list[Sale] = []
        self.shifts: dict[str, int] = {}
        self.free_windows: dict[str, deque[str]] = {}
        self.errors: list[str] = []
        self.stopping = False
        self.sold_ahead = 0
        self.sold_out: list[str] = []
        """What guests wanted to bring along and did not get, in words."""
        self.ramp_tickets = 0
        document = Counter(stubs[0], order.visit_date).call("GetCatalogue", pb.GetCatalogueRequest()).document
        self.catalogue: Catalogue = read_catalogue(document)
        counters = [self.counter(number) for number in range(len(stubs))]
        self.presale = Presale(Agency(counters, self.catalogue, till), self.catalogue)
        self.due: dict[str, deque[Errand]] = {WINDOW: deque(), KIOSK: deque(), ONLINE: deque()}
        self.refundable: dict[int, tuple[int, str]] = {}
        """Of the parties that will ask their money back: a ticket, and whose till they paid into."""

    def counter(self, number: int) -> Counter:
        """Calls over one of the connections."""
        return Counter(self.stubs[number % len(self.stubs)], self.order.visit_date)

    def sells(self, product: str, channel: str) -> bool:
        """Whether the catalogue lets a product be sold there."""
        channels = self.catalogue.products[product].channels
        return not channels or channel in channels

    # Before the day

    def sell_ahead(self) -> None:
        """Sells what guests bring along, and the ramp's tickets, in blocks; then deals them out."""
        piles = self._buy(self.plan.presale())
        for guests in self.plan.guests:
            if guests.buys_s is None:
                self._deal(guests, piles)
        self.sold_out = sorted(map(self._named, self.presale.sold_out))
        ramp = self.plan.scenario.ramp
        if ramp is not None and ramp.tickets:
            with self.presale.held(wanted_on_the_day(self.plan, self.catalogue)) as enough:
                wanted = {(ramp.product, ramp.concession, 0): ramp.tickets} if enough else {}
                for pile in self._buy(wanted).values():
                    self.ramp_tickets += len(pile)
                    self.till.hand_over(None, list(pile))
        self.sold_ahead = self.till.tickets_sold

    def _buy(self, wanted: Mapping[Kind, int]) -> dict[Kind, deque[pb.Ticket]]:
        blocks = [(kind, size) for kind, count in wanted.items() for size in blocks_of(count)]
        piles: dict[Kind, deque[pb.Ticket]] = {kind: deque() for kind in wanted}
        pool = gevent.pool.Pool(SELLERS_AT_ONCE)
        jobs = [pool.spawn(self.presale.buy, kind, size) for kind, size in blocks]
        for (kind, _), job in zip(blocks, jobs, strict=True):
            piles[kind].extend(job.get())
        return piles

    def _named(self, kind: Kind) -> str:
        product, concession, slot = kind
        named = f"{self.catalogue.products[product].name} ({concession})"
        return f"{named}, slot {slot}" if slot else named

    def _deal(self, guests: Guests, piles: Mapping[Kind, deque[pb.Ticket]]) -> None:
        lines = guests.kind.tickets
        if any(len(piles[line.product, line.concession, line.slot]) < line.count for line in lines):
            self.till.outcomes["SOLD_OUT"] += 1
            return
        held = [piles[line.product, line.concession, line.slot].popleft() for line in lines for _ in range(line.count)]
        self.give(guests, held)

    def give(self, guests: Guests, tickets: list[pb.Ticket], cash_window: str = "") -> None:
        """Puts tickets into a party's hands. `cash_window`: whose till they paid into."""
        if guests.habit is Habit.REFUND_IN_QUEUE:
            self.refundable[guests.number] = (tickets[0].ticket_id, cash_window)
        self.till.hand_over(guests.number, tickets)

    # The day

    def plan_errands(self) -> None:
        """When which party buys where, and who asks the money back when."""
        open_ = self.plan.scenario.windows
        channels = {WINDOW: open_.windows, KIOSK: open_.kiosks, ONLINE: open_.web}
        errands: dict[str, list[Errand]] = {channel: [] for channel in channels}
        for guests, turns in zip(self.plan.guests, self.plan.turns, strict=True):
            able = [name for name in channels if channels[name] and self._sells_all(guests, name)]
            if guests.buys_s is not None and able:
                weights = [channels[name] for name in able]
                errands[_drawn(able, weights, guests.number)].append(Errand(guests.buys_s, guests.number, guests))
            if guests.habit is Habit.REFUND_IN_QUEUE:
                turn_s = next((turn.at_s for turn in turns if turn.way is Way.ENTRY and turn.ticket == 0), None)
                if turn_s is not None:
                    asks_s = turn_s - guests.number % 2 * REFUND_BEFORE_S
                    errands[WINDOW].append(Errand(asks_s, guests.number, guests, refund=True))
        self.due = {channel: deque(sorted(found)) for channel, found in errands.items()}

    def _sells_all(self, guests: Guests, channel: str) -> bool:
        return all(self.sells(line.product, channel) for line in guests.kind.tickets)

    @property
    def idle(self) -> bool:
        """Whether nothing is due any more."""
        return not any(self.due.values())

    def open_tills(self) -> None:
        """Every window and kiosk opens its shift."""
        open_ = self.plan.scenario.windows
        for channel, count in ((WINDOW, open_.windows), (KIOSK, open_.kiosks)):
            names = [self._open_till(f"surge-{channel}-{number + 1}") for number in range(count)]
            self.free_windows[channel] = deque(names)

    def _open_till(self, name: str) -> str:
        """Opens a shift at a window of this name. A rehearsal that was broken off at the same park left its shifts
        open, with cash that is not ours to count: then at another window."""
        for number in range(1, MOST_LEFT_OPEN + 1):
            window = name if number == 1 else f"{name}-{number}"
            try:
                self.shifts[window] = self.counter(0).open_shift(window)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION or number == MOST_LEFT_OPEN:
                    raise
            else:
                return window
        raise AssertionError("the last window was opened, or told why not")

    def close_tills(self) -> list[tuple[str, int, int]]:
        """Every window counts its cash: its name, what it counted, and what the shift says must be there."""
        return [
            (name, self.till.cash_minor[name], shift.expected_minor)
            for name, shift_id in self.shifts.items()
            for shift in [self.counter(0).close_shift(shift_id, self.till.cash_minor[name])]
        ]


def _drawn(names: list[str], weights: list[int], number: int) -> str:
    """The same party buys at the same place in every run."""
    place = number * 2_654_435_761 % sum(weights)
    for name, weight in zip(names, weights, strict=True):
        place -= weight
        if place < 0:
            return name
    return names[-1]


class Seller(User):
    """A gRPC user of Locust: one window, kiosk or phone."""

    abstract = True
    wait_time = constant(0)
    channel: ClassVar[str]
    shop: ClassVar[Shop]

    def on_start(self) -> None:
        """A window that is free is taken over with its open shift."""
        windows = self.shop.free_windows.get(self.channel)
        self.window_id = windows.popleft() if windows else ""
        self.desk = self.shop.counter(id(self) >> 6)

    def on_stop(self) -> None:
        """Somebody else may have it."""
        if self.window_id:
            self.shop.free_windows[self.channel].append(self.window_id)

    @task
    def serve(self) -> None:
        """The next errand, once it is due."""
        due = self.shop.due[self.channel]
        if not due or self.shop.stopping or self.shop.clock.wall(due[0].at_s) > time.monotonic():
            gevent.sleep(NAP_S)
            return
        errand = due.popleft()
        try:
            outcome = self._refund(errand) if errand.refund else self._sell(errand)
            self._note(errand, outcome, None)
        except SoldOut:
            self._note(errand, "SOLD_OUT", None)
        except (grpc.RpcError, TimeoutError) as error:
            self._note(errand, "FAILED", error)

    def _sell(self, errand: Errand) -> str:
        lines = self.desk.lines(errand.guests.kind.tickets)
        if self.channel == WINDOW:
            sold = self.desk.sell(lines, self.channel, pb.PAYMENT_METHOD_CASH, self.window_id)
            order, tickets = sold.order, list(sold.tickets)
        else:
            order, tickets = self.desk.buy_online(lines, self.channel)
        till = self.window_id if self.channel == WINDOW else ""
        self.shop.till.take(order, tickets, till)
        self.shop.give(errand.guests, tickets, till)
        return "SOLD"

    def _refund(self, errand: Errand) -> str:
        if errand.guests.number not in self.shop.refundable:
            return "NO_TICKET"
        ticket_id, till = self.shop.refundable[errand.guests.number]
        return self.shop.till.give_back(self.desk.refund(ticket_id), till)

    def _note(self, errand: Errand, outcome: str, error: Exception | None) -> None:
        took_ms = (time.monotonic() - self.shop.clock.wall(errand.at_s)) * 1e3
        self.shop.sales.append(Sale(errand.at_s, took_ms, "refund" if errand.refund else self.channel, outcome))
        if not errand.refund:
            self.shop.till.outcomes[outcome] += 1
        if error is not None:
            self.shop.errors.append(str(error)[:400])
        self.environment.events.request.fire(
            request_type="gRPC",
            name="RefundTickets" if errand.refund else f"sale at the {self.channel}",
            response_time=took_ms,
            response_length=0,
            exception=error,
            context={},
        )


class WindowSeller(Seller):
    """A ticket window: cash, one call."""

    channel = WINDOW


class KioskSeller(Seller):
    """A kiosk: ordered, then paid by card."""

    channel = KIOSK


class WebSeller(Seller):
    """A phone in the web shop: the same calls as a kiosk, on the web's channel."""

    channel = ONLINE


class DayShape(LoadTestShape):
    """As many sellers as the day's curve asks for; all are gone when nothing is due any more."""

    shop: ClassVar[Shop]
    abstract = True

    def tick(self) -> tuple[int, float] | None:
        """How many users now, and how fast to get there; None: it is over."""
        shop = self.shop
        if shop.stopping or shop.idle:
            return None
        open_ = shop.plan.scenario.windows
        curve = Curve(shop.plan.scenario.curve)
        busy = max(curve.intensity(shop.clock.day(time.monotonic()) + planning.LEAD_S / 2), LEAST_OPEN)
        most = open_.windows + open_.kiosks + open_.web
        return max(round(most * busy), 3), 200.0


def user_classes(shop: Shop) -> list[type[Seller]]:
    """The kinds of sellers that this day has, weighted by their number."""
    open_ = shop.plan.scenario.windows
    chosen: list[type[Seller]] = []
    for kind, count in ((WindowSeller, open_.windows), (KioskSeller, open_.kiosks), (WebSeller, open_.web)):
        if count:
            kind.weight, kind.shop = count, shop
            chosen.append(kind)
    return chosen


def run_day(shop: Shop) -> locust.env.Environment:
    """Lets Locust run the day."""
    DayShape.shop = shop
    shape = type("Day", (DayShape,), {"abstract": False})()
    environment = locust.env.Environment(
        user_classes=list[type[User]](user_classes(shop)), shape_class=shape, stop_timeout=STOP_S
    )
    runner = environment.create_local_runner()
    runner.start_shape()
    assert runner.shape_greenlet is not None
    runner.shape_greenlet.join()
    runner.quit()
    return environment


def commands(shop: Shop, sell: gevent.event.Event, go: gevent.event.AsyncResult) -> None:
    """Does what the conductor says: sell, go, stop."""
    stdin = gevent.fileobject.FileObject(sys.stdin.buffer, "rb")
    for line in stdin:
        match line.split():
            case [b"sell"]:
                sell.set()
            case [b"go", start]:
                go.set(float(start))
            case [b"stop"]:
                shop.stopping = True
                go.set(0.0)


def tell(shop: Shop) -> None:
    """Says twice a second how the sale goes."""
    while True:
        gevent.sleep(TELL_S)
        waiting = sum(
            shop.clock.wall(errand.at_s) <= time.monotonic() for errands in shop.due.values() for errand in errands
        )
        say(Progress("shop", values={"sold": shop.till.tickets_sold, "waiting": waiting}))


def result(shop: Shop, environment: locust.env.Environment | None, tills: list[tuple[str, int, int]]) -> dict[str, Any]:
    """Everything that the conductor wants to know."""
    till = shop.till
    total = environment.stats.total if environment else None
    return {
        "tickets_sold": till.tickets_sold,
        "ramp_tickets": shop.ramp_tickets,
        "tickets_sold_on_day": till.tickets_sold - shop.sold_ahead,
        "sold_minor": till.sold_minor,
        "tickets_refunded": till.tickets_refunded,
        "refunded_minor": till.refunded_minor,
        "fee_minor": till.fee_minor,
        "outcomes": dict(till.outcomes),
        "refunded": till.refunded,
        "not_refunded": till.not_refunded,
        "tills": tills,
        "sales": [[round(one.at_s, 1), round(one.took_ms, 2), one.channel, one.outcome] for one in shop.sales],
        "errors": shop.errors,
        "locust": {"requests": total.num_requests, "failures": total.num_failures} if total else {},
        "cpu_s": time.process_time(),
    }


def work(order: Order) -> None:
    """The shop's whole day."""
    grpc.experimental.gevent.init_gevent()
    plan = planning.make(load(order.scenario, order.changes))
    files = (order.certificate.ca, order.certificate.key, order.certificate.certificate)
    secret = grpc.ssl_channel_credentials(*(Path(name).read_bytes() for name in files))
    channels = [
        grpc.secure_channel(
            order.addresses[n % len(order.addresses)], secret, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        for n in range(CONNECTIONS)
    ]
    with open(order.sold, "w", encoding="utf-8") as sold:
        shop = Shop(order, plan, Till(sold), [SalesServiceStub(channel) for channel in channels])
        sell, go = gevent.event.Event(), gevent.event.AsyncResult()
        gevent.spawn(commands, shop, sell, go).link_exception(lambda _: os._exit(1))  # deaf is worse than gone
        gevent.spawn(tell, shop)
        sell.wait()
        began = time.monotonic()
        shop.sell_ahead()
        shop.open_tills()
        shop.plan_errands()
        values = {"sold": shop.till.tickets_sold, "seconds": time.monotonic() - began}
        say(Progress("ready", ", ".join(shop.sold_out), values))
        shop.clock = DayClock(go.get(), plan.starts_s, plan.scenario.speed)
        environment = None if shop.stopping else run_day(shop)
        Path(order.result).write_text(json.dumps(result(shop, environment, shop.close_tills())))
    say(Progress("done", str(datetime.now())))  # noqa: DTZ005


def main() -> int:
    """Reads its order from standard input."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        order = Order.read(pipe.readline())
    try:
        work(order)
    except grpc.RpcError as error:
        say(Progress("failed", f"{error.code().name}: {error.details()}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
