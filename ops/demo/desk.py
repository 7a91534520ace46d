"""Steps at the windows: buying, being refused for want of places, refunds, other dates."""

from __future__ import annotations

from ops.demo.expectations import Mismatch, expect
from ops.demo.scene import Scene
from ops.demo.steps import Buy, Move, Refund, SoldOut
from ops.window import Pay
from ops.window import SoldOut as NoneLeft
from parkgate.sales.v1 import sales_pb2


async def buy(scene: Scene, step: Buy) -> list[str]:
    """Sells, and puts the images into the guest's hand."""
    how = Pay(step.pay)
    line = _line(step, scene.date(step.day))
    sale = await scene.sell(step.window, [line], how)
    for index, ticket in enumerate(sale.tickets, 1):
        scene.keep(step.name if step.count == 1 else f"{step.name}-{index}", ticket, how)
    free = sale.order.lines[0].free_count
    expect("tickets free", str(step.free), str(free))
    unit = sale.order.lines[0].unit_price_minor
    expect("price of the order", scene.money(unit * (step.count - step.free)), scene.money(sale.order.total_minor))
    count = f"{step.count} × " if step.count > 1 else ""
    gift = f", {free} free" if free else ""
    return [f"{step.window} sells {count}{step.product} {scene.amount(sale.order.total_minor)}{gift}"]


async def sold_out(scene: Scene, step: SoldOut) -> list[str]:
    """Asks for more than there is."""
    line = _line(step, scene.date())
    what = f"{step.window} asks for {step.count} × {step.product}, slot {step.slot}"
    try:
        sale = await scene.sell(step.window, [line], Pay.CASH)
    except NoneLeft as error:
        expect(what, f"{step.left} places left", "".join(error.message.split(" has ")[-1:]).rstrip("."))
        return [f"{step.count} more: sold out, {step.left} left"]
    raise Mismatch(what, f"sold out with {step.left} left", f"{len(sale.tickets)} tickets")


async def refund(scene: Scene, step: Refund) -> list[str]:
    """Asks for a refund."""
    held = scene.held(step.name)
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
    return [f"refund {scene.amount(quote.refund_minor)}, fee {scene.amount(quote.fee_minor)}"]


async def move(scene: Scene, step: Move) -> list[str]:
    """Asks for another date."""
    held, window = scene.held(step.name), scene.windows[step.window]
    answer = await window.reschedule(held.ticket_id, scene.date(step.day), step.slot)
    actual = sales_pb2.RescheduleOutcome.Name(answer.outcome).removeprefix("RESCHEDULE_OUTCOME_")
    expect(f"reschedule of {step.name}", step.expect, actual)
    if answer.outcome == sales_pb2.RESCHEDULE_OUTCOME_DONE:
        ticket = await window.ticket(answer.ticket.ticket_id)
        scene.keep(step.to, ticket, Pay.CASH if held.paid_cash else Pay.PROVIDER)
    return [f"moved to {scene.date(step.day)}"]


def _line(step: Buy | SoldOut, date: str) -> sales_pb2.OrderLine:
    return sales_pb2.OrderLine(
        product_id=step.product, concession=step.concession, count=step.count, visit_date=date, slot=step.slot
    )
