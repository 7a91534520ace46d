"""Plays stories: does each step with the real parts, and compares what came of it with what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ops.demo import images
from ops.demo.gates import Asked, decision_of, kind_of, reason_of
from ops.demo.scene import CUT_TURNSTILE, Held, Scene
from ops.demo.steps import (
    ADMIT,
    Buy,
    Cut,
    Forge,
    LostReply,
    Move,
    Race,
    Refund,
    Scan,
    SoldOut,
    Step,
    Story,
    Together,
)
from ops.errors import OpsError
from ops.window import Pay
from ops.window import SoldOut as NoneLeft
from parkgate.gate.v1 import gate_pb2
from parkgate.sales.v1 import sales_pb2
from ticketcore.errors import ParkgateError


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was played. `failure` is empty when every expectation was met."""

    title: str
    detail: str
    checks: int
    failure: str = ""


class Mismatch(Exception):
    """Something else came of a step than must."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"{what}: expected {expected}, got {actual}")


async def tell(scene: Scene, story: Story) -> Told:
    """Plays one story. It ends at its first mismatch: what follows would rest on it."""
    said: list[str] = []
    try:
        for step in story.steps:
            said += await perform(scene, step)
    except (Mismatch, OpsError, ParkgateError) as error:
        return Told(story.title, " · ".join(said), len(said), f"{story.title}: {error}")
    return Told(story.title, shorten(said), len(said))


def shorten(said: Sequence[str]) -> str:
    """Repeats of the same are counted: `wheel-1 ADMIT ×10`."""
    lines: list[tuple[str, int]] = []
    for text in said:
        if lines and lines[-1][0] == text:
            lines[-1] = (text, lines[-1][1] + 1)
        else:
            lines.append((text, 1))
    return " · ".join(f"{text} ×{count}" if count > 1 else text for text, count in lines)


async def perform(scene: Scene, step: Step) -> list[str]:
    """Does one step; answers what happened, in a few words each. Raises: Mismatch."""
    match step:
        case Buy():
            return await _buy(scene, step)
        case SoldOut():
            return await _sold_out(scene, step)
        case Forge(name, of):
            held = scene.tickets[of]
            scene.tickets[name] = Held(images.forge(held.image, scene.folder / f"{name}.png"))
            return []
        case Cut(name, of, characters):
            held = scene.tickets[of]
            scene.tickets[name] = Held(images.cut(held.image, scene.folder / f"{name}.png", characters))
            return []
        case Scan():
            return await _scan(scene, step)
        case Together():
            return await _together(scene, step)
        case Race():
            return await _race(scene, step)
        case LostReply():
            return await _lost_reply(scene, step)
        case Refund():
            return await _refund(scene, step)
        case Move():
            return await _move(scene, step)


async def _buy(scene: Scene, step: Buy) -> list[str]:
    how = Pay(step.pay)
    line = sales_pb2.OrderLine(
        product_id=step.product,
        concession=step.concession,
        count=step.count,
        visit_date=scene.date(step.day),
        slot=step.slot,
    )
    sale = await scene.sell(step.window, [line], how)
    for index, ticket in enumerate(sale.tickets, 1):
        scene.keep(step.name if step.count == 1 else f"{step.name}-{index}", ticket, how)
    free = sale.order.lines[0].free_count
    expect("tickets free", str(step.free), str(free))
    unit = sale.order.lines[0].unit_price_minor
    expect("price of the order", scene.money(unit * (step.count - step.free)), scene.money(sale.order.total_minor))
    count = f"{step.count} × " if step.count > 1 else ""
    gift = f", {free} free" if free else ""
    return [f"{step.window} sells {count}{step.product} {scene.money(sale.order.total_minor)}{gift}"]


async def _sold_out(scene: Scene, step: SoldOut) -> list[str]:
    line = sales_pb2.OrderLine(
        product_id=step.product,
        concession=step.concession,
        count=step.count,
        visit_date=scene.date(),
        slot=step.slot,
    )
    what = f"{step.window} asks for {step.count} × {step.product}, slot {step.slot}"
    try:
        sale = await scene.sell(step.window, [line], Pay.CASH)
    except NoneLeft as error:
        expect(what, f"{step.left} places left", "".join(error.message.split(" has ")[-1:]).rstrip("."))
        return [f"{step.count} more: sold out, {step.left} left"]
    raise Mismatch(what, f"sold out with {step.left} left", f"{len(sale.tickets)} tickets")


async def _scan(scene: Scene, step: Scan) -> list[str]:
    device = scene.turnstiles[step.gate]
    asked = Asked(step.persons, step.leaving, step.proof)
    scan = device.make(step.gate, scene.code(step.name), asked)
    verdict = await device.check(scan, passed=step.passed)
    await device.settle()
    what = f"{step.name} at {step.gate}"
    expect(what, step.expect, outcome(verdict))
    for part, wanted, actual in _details(scene, step, verdict):
        if wanted is not None:
            expect(f"{what}, {part}", str(wanted), str(actual))
    return [_said(step, verdict)]


def _details(scene: Scene, step: Scan, verdict: gate_pb2.Verdict) -> list[tuple[str, object, object]]:
    first = scene.catalogue.gate_by_number.get(verdict.first_use.gate_number)
    return [
        ("kind", step.kind, kind_of(verdict)),
        ("persons admitted", step.admitted, verdict.persons_admitted),
        ("persons to come", step.to_come, verdict.persons_remaining),
        ("entries left", step.entries_left, verdict.entries_remaining),
        ("first used at", step.first_gate, first.id if first else "nowhere"),
    ]


def _said(step: Scan, verdict: gate_pb2.Verdict) -> str:
    text = f"{step.gate} {outcome(verdict)}"
    if verdict.decision != gate_pb2.DECISION_ADMIT:
        return text + (f" (first {step.first_gate})" if step.first_gate else "")
    if step.kind in {"EXIT", "REENTRY"}:
        text = f"{step.gate} {'out' if step.leaving else 'in again'}"
    if step.admitted not in {None, 1} or step.to_come is not None:
        text += f" {verdict.persons_admitted}, {verdict.persons_remaining} to come"
    return text + ("" if step.passed else ", given back")


async def _together(scene: Scene, step: Together) -> list[str]:
    device = scene.turnstiles[step.gate]
    scans = [device.make(step.gate, scene.code(name), Asked(leaving=step.leaving)) for name in step.names]
    verdicts = await device.check_frame(scans)
    await device.settle()
    for name, verdict in zip(step.names, verdicts, strict=True):
        expect(f"{name} at {step.gate}", step.expect, outcome(verdict))
    return [f"{step.gate} {len(scans)} × {'out' if step.leaving else step.expect} in one frame"]


async def _race(scene: Scene, step: Race) -> list[str]:
    """All read the code first, so that the scans leave together."""
    devices = [scene.turnstiles[gate] for gate in step.gates]
    scans = [device.make(gate, scene.code(step.name)) for device, gate in zip(devices, step.gates, strict=True)]
    pairs = zip(devices, scans, strict=True)
    verdicts = await asyncio.gather(*(device.check(scan) for device, scan in pairs))
    for device in devices:
        await device.settle()
    heard = {gate: outcome(verdict) for gate, verdict in zip(step.gates, verdicts, strict=True)}
    said = ", ".join(f"{gate} {text}" for gate, text in heard.items())
    wanted = [ADMIT, *("ALREADY_USED" for _ in step.gates[1:])]
    expect(f"{step.name} at {len(step.gates)} gates at once", str(sorted(wanted)), str(sorted(heard.values())))
    winner = next(gate for gate, text in heard.items() if text == ADMIT)
    for gate, verdict in zip(step.gates, verdicts, strict=True):
        if gate != winner:
            first = scene.catalogue.gate_by_number[verdict.first_use.gate_number].id
            expect(f"first use that {gate} heard of", winner, first)
    return [said]


async def _lost_reply(scene: Scene, step: LostReply) -> list[str]:
    device = scene.turnstiles[CUT_TURNSTILE]
    scan = device.make(CUT_TURNSTILE, scene.code(step.name))
    cuts, sent = scene.line.cuts, device.client.session.stats.scans_sent
    scene.line.lose_next_reply()
    verdict = await device.check(scan)
    expect("times the line was cut", "1", str(scene.line.cuts - cuts))
    expect(f"{step.name} at {CUT_TURNSTILE} after the retry", step.expect, outcome(verdict))
    times = device.client.session.stats.scans_sent - sent
    if times < 2:
        raise Mismatch("times the same scan_id was sent", "2 or more", str(times))
    again = await device.client.check(scan)
    if again != verdict:
        raise Mismatch("the same scan_id once more", "the same answer", outcome(again))
    await device.settle()
    return [f"{CUT_TURNSTILE} line cut, same scan_id sent {times + 1} ×: {outcome(verdict)} each time"]


async def _refund(scene: Scene, step: Refund) -> list[str]:
    held = scene.tickets[step.name]
    answer = await scene.windows[step.window].refund([held.ticket_id])
    result = answer.results[0]
    actual = sales_pb2.RefundOutcome.Name(result.outcome).removeprefix("REFUND_OUTCOME_")
    expect(f"refund of {step.name}", step.expect, actual)
    if result.outcome != sales_pb2.REFUND_OUTCOME_REFUNDED:
        return [f"refund {actual}"]
    quote = result.quote
    expect("price = fee + refund", str(held.price_minor), str(quote.fee_minor + quote.refund_minor))
    scene.takings.tickets_refunded += 1
    scene.takings.refunded_minor += quote.refund_minor
    scene.takings.cash_minor[step.window] -= quote.refund_minor if held.paid_cash else 0
    return [f"refund {scene.money(quote.refund_minor)}, fee {scene.money(quote.fee_minor)}"]


async def _move(scene: Scene, step: Move) -> list[str]:
    held, window = scene.tickets[step.name], scene.windows[step.window]
    answer = await window.reschedule(held.ticket_id, scene.date(step.day), step.slot)
    actual = sales_pb2.RescheduleOutcome.Name(answer.outcome).removeprefix("RESCHEDULE_OUTCOME_")
    expect(f"reschedule of {step.name}", step.expect, actual)
    if answer.outcome == sales_pb2.RESCHEDULE_OUTCOME_DONE:
        ticket = await window.ticket(answer.ticket.ticket_id)
        scene.keep(step.to, ticket, Pay.CASH if held.paid_cash else Pay.PROVIDER)
    return [f"moved to {scene.date(step.day)}"]


def outcome(verdict: gate_pb2.Verdict) -> str:
    """ADMIT, or the reason why not."""
    return reason_of(verdict) or decision_of(verdict)


def expect(what: str, expected: str, actual: str) -> None:
    """Raises: Mismatch."""
    if expected != actual:
        raise Mismatch(what, expected, actual)
