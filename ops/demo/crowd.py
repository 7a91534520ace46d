"""Volume: some hundred guests, sold in bulk by all windows at once and streamed by many gates at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from ops.demo import images
from ops.demo.gates import LEAVING, PLAIN, Asked, Device
from ops.demo.scene import Held, Scene
from ops.demo.screen import Bar
from ops.demo.steps import ADMIT
from ops.demo.turnstiles import outcome
from ops.window import Pay
from parkgate.gate.v1 import gate_pb2
from parkgate.sales.v1 import sales_pb2

FRAME = 50
"""Scans that a lane controller puts in a frame."""
LEAVE_SHARE = 0.3
SINGLE_GATES = ("main-1", "main-2", "main-4", "lake-1")
PROOFS = frozenset({"CONCESSION_PROOF_REQUIRED", "ID_REQUIRED"})
MIX = (
    ("day", "adult", 30),
    ("day", "child", 22),
    ("day", "student", 8),
    ("day", "group", 20),
    ("evening", "adult", 12),
    ("two-day", "senior", 6),
    ("family", "adult", 6),
)
"""What a window sells for each hundred or so of its guests: product, concession, tickets."""
MIX_TICKETS = sum(count for _, _, count in MIX)
METHODS = {"w1": Pay.CASH, "w2": Pay.CASH, "w3": Pay.PROVIDER, "k1": Pay.PROVIDER}


@dataclass(frozen=True, slots=True)
class Sold:
    """What a crowd was sold."""

    names: tuple[str, ...]
    persons: int
    orders: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Streamed:
    """What became of a crowd at the gates."""

    scans: int
    persons: int
    seconds: float
    wrong: tuple[str, ...]


async def sell(scene: Scene, tickets: int, bar: Bar) -> Sold:
    """All windows sell at once, an order a line of the mix."""
    began = time.monotonic()
    scale = max(tickets / (MIX_TICKETS * len(METHODS)), 0.01)
    parts = await asyncio.gather(*(_sell_at(scene, window, scale, bar) for window in METHODS))
    names = tuple(name for part in parts for name, _ in part)
    persons = sum(count for part in parts for _, count in part)
    return Sold(names, persons, len(MIX) * len(METHODS), time.monotonic() - began)


async def _sell_at(scene: Scene, window: str, scale: float, bar: Bar) -> list[tuple[str, int]]:
    made: list[tuple[str, int]] = []
    for product, concession, share in MIX:
        line = sales_pb2.OrderLine(
            product_id=product,
            concession=concession,
            count=max(round(share * scale), 10 if concession == "group" else 1),
            visit_date=scene.date(),
        )
        sale = await scene.sell(window, [line], METHODS[window])
        for ticket in sale.tickets:
            name = f"crowd-{window}-{product}-{concession}-{ticket.ticket_id & 0xFFFFFF}"
            scene.keep(name, ticket, METHODS[window])
            made.append((name, ticket.persons))
        bar.advance(len(sale.tickets))
    return made


async def read_codes(scene: Scene, names: Sequence[str], bar: Bar) -> dict[str, str]:
    """Reads all images, in threads: the decoder is C++ and lets others run."""

    def read(held: Held) -> str:
        return images.read(held.image)

    codes: dict[str, str] = {}
    for start in range(0, len(names), FRAME):
        part = names[start : start + FRAME]
        texts = await asyncio.gather(*(asyncio.to_thread(read, scene.tickets[name]) for name in part))
        codes.update(zip(part, texts, strict=True))
        bar.advance(len(part))
    return codes


async def enter(scene: Scene, codes: dict[str, str], seed: int, bar: Bar) -> Streamed:
    """Half of the crowd comes one by one at turnstiles, half in frames at lane controllers, all at the same time."""
    order = sorted(codes)
    random.Random(seed).shuffle(order)  # noqa: S311 - an order of guests
    half = len(order) // 2
    singles, coalesced = order[:half], order[half:]
    lanes = [
        _one_by_one(scene.turnstiles[gate], gate, [codes[name] for name in singles[index :: len(SINGLE_GATES)]], bar)
        for index, gate in enumerate(SINGLE_GATES)
    ]
    controllers = scene.controllers
    lanes += [
        _in_frames(device, [codes[name] for name in coalesced[index :: len(controllers)]], PLAIN, bar)
        for index, device in enumerate(controllers)
    ]
    return await _stream(scene, lanes)


async def leave(scene: Scene, codes: dict[str, str], seed: int, bar: Bar) -> Streamed:
    """Some leave again; a family leaves as a whole."""
    chosen = random.Random(seed + 1).sample(sorted(codes), leaving(len(codes)))  # noqa: S311
    controllers = scene.controllers
    lanes = [
        _in_frames(device, [codes[name] for name in chosen[index :: len(controllers)]], LEAVING, bar)
        for index, device in enumerate(controllers)
    ]
    return await _stream(scene, lanes)


def leaving(tickets: int) -> int:
    """How many of so many tickets leave again."""
    return int(tickets * LEAVE_SHARE)


async def _stream(scene: Scene, lanes: Sequence[Awaitable[list[gate_pb2.Verdict]]]) -> Streamed:
    began = time.monotonic()
    parts = await asyncio.gather(*lanes)
    for device in scene.devices:
        await device.settle()
    verdicts: list[gate_pb2.Verdict] = [verdict for part in parts for verdict in part]
    wrong = tuple(outcome(one) for one in verdicts if outcome(one) != ADMIT and outcome(one) not in PROOFS)
    persons = sum(one.persons_admitted for one in verdicts)
    return Streamed(len(verdicts), persons, time.monotonic() - began, wrong)


async def _one_by_one(device: Device, gate: str, codes: Sequence[str], bar: Bar) -> list[gate_pb2.Verdict]:
    heard = []
    for code in codes:
        verdict = await device.check(device.make(gate, code))
        heard.append(verdict)
        if outcome(verdict) in PROOFS:
            heard.append(await device.check(device.make(gate, code, Asked(proof=True))))
        bar.advance()
    return heard


async def _in_frames(device: Device, codes: Sequence[str], asked: Asked, bar: Bar) -> list[gate_pb2.Verdict]:
    """A frame a time over all lanes; those who must show a proof come again in the next one."""
    heard: list[gate_pb2.Verdict] = []
    for start in range(0, len(codes), FRAME):
        part = codes[start : start + FRAME]
        scans = [device.make(_lane(device, index), code, asked) for index, code in enumerate(part)]
        verdicts = await device.check_frame(scans)
        again = [code for code, verdict in zip(part, verdicts, strict=True) if outcome(verdict) in PROOFS]
        proven = [device.make(_lane(device, index), code, Asked(proof=True)) for index, code in enumerate(again)]
        heard += verdicts + await device.check_frame(proven)
        bar.advance(len(part))
    return heard


def _lane(device: Device, index: int) -> str:
    return device.gates[index % len(device.gates)]
