"""Everything that the day's guests meet: windows with open tills, gates with open streams, tickets as image files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ops.books import Takings
from ops.demo import gates, images
from ops.demo.gates import Device, Heard
from ops.demo.lossy import LossyLine
from ops.devices import gate_folder, window_folder
from ops.errors import OpsError
from ops.settings import Settings
from ops.window import Pay, Sale, Window, money, open_window
from parkgate.sales.v1 import sales_pb2
from ticketcore.catalogue import Catalogue

WINDOWS = {"w1": "window", "w2": "window", "w3": "window", "k1": "kiosk"}
"""Windows and the channel that each sells in."""
TURNSTILES = ("main-1", "main-2", "main-4", "lake-1", "water-1", "water-2", "wheel-1", "arena-1", "arena-2")
CUT_TURNSTILE = "main-3"
"""The one behind the line that is cut."""
LANE_CONTROLLERS = (("main-1", "main-2", "main-3", "main-4"), ("lake-1", "lake-2"))
FLOAT_MINOR = 20_000


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket in a guest's hand: its image. The id is for the window that refunds it; no gate gets it."""

    image: Path
    ticket_id: int = 0
    price_minor: int = 0
    paid_cash: bool = False


@dataclass(slots=True)
class Scene:
    """The park on this day."""

    settings: Settings
    catalogue: Catalogue
    folder: Path
    windows: dict[str, Window] = field(default_factory=dict)
    shifts: dict[str, int] = field(default_factory=dict)
    turnstiles: dict[str, Device] = field(default_factory=dict)
    controllers: list[Device] = field(default_factory=list)
    line: LossyLine = field(init=False)
    tickets: dict[str, Held] = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    takings: Takings = field(default_factory=Takings)

    def __post_init__(self) -> None:
        self.line = LossyLine(self.settings.gate_port)

    def date(self, days: int = 0) -> str:
        """A civil day of the park, counted from today."""
        return (datetime.now(self.catalogue.venue.time_zone).date() + timedelta(days=days)).isoformat()

    def money(self, minor: int) -> str:
        """An amount with its currency."""
        return f"{self.amount(minor)} {self.catalogue.venue.currency}"

    def amount(self, minor: int) -> str:
        """An amount, where the currency is plain."""
        return money(minor, self.catalogue.venue.currency_digits)

    async def sell(self, window: str, lines: Sequence[sales_pb2.OrderLine], how: Pay) -> Sale:
        """Sells, and notes what was taken."""
        sale = await self.windows[window].sell(lines, how)
        self.takings.tickets_sold += len(sale.tickets)
        self.takings.sold_minor += sale.order.total_minor
        if how is Pay.CASH:
            self.takings.cash_minor[window] += sale.order.total_minor
        return sale

    def keep(self, name: str, ticket: sales_pb2.Ticket, how: Pay) -> Held:
        """Puts a ticket's image into the guest's hand."""
        image = images.write(self.folder, f"{name}.png", ticket.qr_png)
        self.tickets[name] = Held(image, ticket.ticket_id, ticket.price_minor, how is Pay.CASH)
        return self.tickets[name]

    def image(self, name: str) -> Path:
        """Where a guest's image is, or shall be."""
        return self.folder / f"{name}.png"

    def held(self, name: str) -> Held:
        """A guest's ticket. Raises: OpsError when there is none, because an earlier story went wrong."""
        if name not in self.tickets:
            raise OpsError(f"there is no ticket {name!r}: nobody has bought it")
        return self.tickets[name]

    def code(self, name: str) -> str:
        """What a reader reads in a guest's image."""
        return images.read(self.held(name).image)

    @property
    def devices(self) -> list[Device]:
        """All of them."""
        return [*self.turnstiles.values(), *self.controllers]


@asynccontextmanager
async def opened(settings: Settings, catalogue: Catalogue, folder: Path) -> AsyncIterator[Scene]:
    """The windows open their tills and the gates their streams; at the end they close again."""
    scene = Scene(settings, catalogue, folder)
    async with AsyncExitStack() as stack:
        for window, channel in WINDOWS.items():
            files = window_folder(settings.data_dir, window)
            scene.windows[window] = await stack.enter_async_context(
                open_window(files, settings.sales_port, window, channel)
            )
            shift = await scene.windows[window].open_shift(f"Demo at {window}", FLOAT_MINOR)
            scene.shifts[window] = shift.shift_id
        port = await scene.line.start()
        stack.push_async_callback(scene.line.stop)
        for gate in TURNSTILES:
            scene.turnstiles[gate] = await _device(stack, scene, (gate,), settings.gate_port)
        scene.turnstiles[CUT_TURNSTILE] = await _device(stack, scene, (CUT_TURNSTILE,), port)
        for lanes in LANE_CONTROLLERS:
            scene.controllers.append(await _device(stack, scene, lanes, settings.gate_port))
        yield scene


async def _device(stack: AsyncExitStack, scene: Scene, lanes: tuple[str, ...], port: int) -> Device:
    folder = gate_folder(scene.settings.data_dir, lanes)
    device = await gates.connect(folder, lanes, port, scene.catalogue, scene.heard)
    stack.push_async_callback(device.client.close)
    return device
