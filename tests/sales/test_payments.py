"""The payment provider: signed webhooks that come twice, out of order, late, or from a forger."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from parkgate.sales.v1 import sales_pb2 as pb
from sales import http, signatures, webhook
from sales.config import SalesConfig
from sales.database import migrate
from sales.identity import LOCAL
from sales.sandbox import SandboxProvider, event_body
from sales.usecases.cancel_order import cancel_order, lapse_orders
from sales.usecases.pay_order import pay_order
from tests.sales.conftest import CRASH, VISIT, Desk, line, new_id

DAY_QUOTA = f"product=1;date={VISIT}"


async def begin(desk: Desk, *lines: pb.OrderLine) -> tuple[pb.Order, dict[str, Any]]:
    """An order that is being paid, and the intent that the provider gets."""
    order = await desk.order(*lines)
    request = pb.PayOrderRequest(request_id=new_id(), order_id=order.order_id, method=pb.PAYMENT_METHOD_PROVIDER)
    order = (await pay_order(desk.sales, LOCAL, request)).order
    assert order.state == pb.ORDER_STATE_PAYING
    payload = (await desk.rows("SELECT payload FROM sales.outbox WHERE kind = 'payment_intent' ORDER BY id DESC"))[0][0]
    return order, json.loads(payload)


async def tell(desk: Desk, intent: dict[str, Any], kind: str, **signed: Any) -> tuple[int, str]:
    body = event_body(intent, kind, 1000)
    secret = signed.get("secret", desk.sales.config.webhook_secret)
    header = signatures.sign(secret, body, desk.now + timedelta(seconds=signed.get("late_s", 0)))
    request = http.Request(
        "POST", webhook.PATH, {signatures.HEADER: signed.get("header", header)}, signed.get("body", body)
    )
    answer = await webhook.handler(desk.sales)(request)
    return answer.status, answer.body.decode()


async def state(desk: Desk, order: pb.Order) -> str:
    return str(await desk.value(f"SELECT state FROM sales.orders WHERE id = {order.order_id}"))


async def test_a_captured_payment_issues_the_order_once_however_often_it_is_told(desk: Desk) -> None:
    order, intent = await begin(desk, line(count=2))
    answers = await asyncio.gather(*(tell(desk, intent, "captured") for _ in range(5)))
    assert sorted(answers) == [(200, "ignored")] * 4 + [(200, "issued")]
    assert await tell(desk, intent, "captured") == (200, "ignored")
    assert await state(desk, order) == "issued"
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 2
    assert (
        await desk.value("SELECT sum(amount_minor) FROM sales.postings WHERE account = 'provider_receivable'") == 15800
    )


async def test_a_failed_payment_gives_the_order_up_and_the_units_back(desk: Desk) -> None:
    order, intent = await begin(desk)
    assert await tell(desk, intent, "failed") == (200, "canceled")
    assert await state(desk, order) == "canceled"


async def test_reordered_webhooks_end_with_what_the_money_says(desk: Desk) -> None:
    order, intent = await begin(desk)
    assert await tell(desk, intent, "captured") == (200, "issued")
    assert await tell(desk, intent, "failed") == (200, "ignored")
    assert await state(desk, order) == "issued"
    order, intent = await begin(desk)
    assert await tell(desk, intent, "failed") == (200, "canceled")
    assert await tell(desk, intent, "captured") == (200, "returned")
    assert await state(desk, order) == "canceled"
    assert (
        await desk.value("SELECT -sum(amount_minor) FROM sales.postings WHERE account = 'unclaimed_payments'") == 7900
    )


async def test_a_late_answer_still_issues_because_payment_had_begun(desk: Desk) -> None:
    order, intent = await begin(desk)
    desk.wait(days=3)
    assert await lapse_orders(desk.sales) == 0
    assert await tell(desk, intent, "captured") == (200, "issued")
    assert desk.cluster.book.counters[DAY_QUOTA].taken == 1
    assert await state(desk, order) == "issued"


async def test_money_for_a_cancelled_order_is_sent_back_and_never_becomes_tickets(desk: Desk) -> None:
    order, intent = await begin(desk)
    await cancel_order(desk.sales, LOCAL, pb.CancelOrderRequest(request_id=new_id(), order_id=order.order_id))
    assert await tell(desk, intent, "captured") == (200, "returned")
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 0
    assert await desk.value("SELECT count(*) FROM sales.outbox WHERE kind = 'money_back'") == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": b"another secret of 16"},
        {"header": ""},
        {"header": "t=1,v1=zz"},
        {"body": b'{"event_id": "changed after it was signed"}'},
        {"late_s": -301},
        {"late_s": 301},
    ],
)
async def test_a_forged_or_replayed_webhook_is_refused_and_changes_nothing(desk: Desk, forged: dict[str, Any]) -> None:
    order, intent = await begin(desk)
    status, _ = await tell(desk, intent, "captured", **forged)
    assert status == 401
    assert await state(desk, order) == "paying"


@pytest.mark.parametrize("late_s", [-300, 0, 300])
async def test_a_webhook_within_the_replay_window_is_heard(desk: Desk, late_s: int) -> None:
    _, intent = await begin(desk)
    assert await tell(desk, intent, "captured", late_s=late_s) == (200, "issued")


BEYOND_THE_CALENDAR = (
    b'{"event_id": "e", "kind": "failed", "payment_id": "00", "amount_minor": 1, "currency": "EUR", "time_ms": 1e30}'
)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"event_id": 1}', b"\xff", b"[" * 5000, BEYOND_THE_CALENDAR])
async def test_a_signed_body_that_is_no_event_is_told_so(desk: Desk, body: bytes) -> None:
    header = signatures.sign(desk.sales.config.webhook_secret, body, desk.now)
    request = http.Request("POST", webhook.PATH, {signatures.HEADER: header}, body)
    assert (await webhook.handler(desk.sales)(request)).status == 400


async def test_an_event_about_another_amount_is_refused(desk: Desk) -> None:
    order, intent = await begin(desk)
    assert (await tell(desk, intent | {"amount_minor": 1}, "captured"))[0] == 400
    assert await state(desk, order) == "paying"


@pytest.mark.parametrize("seam", ["settle.prepared", "settle.recorded"])
async def test_a_webhook_killed_at_any_step_is_whole_when_it_comes_again(desk: Desk, seam: str) -> None:
    _, intent = await begin(desk, line(count=2))
    desk.crash_at = seam
    with pytest.raises(CRASH):
        await tell(desk, intent, "captured")
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 0
    assert await tell(desk, intent, "captured") == (200, "issued")
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 2


async def test_the_sandbox_takes_an_intent_and_answers_by_webhook_over_http(desk: Desk) -> None:
    provider = SandboxProvider(desk.sales.config.webhook_secret, delay_s=0)
    await provider.start()
    hooks = await http.start(webhook.handler(desk.sales), "127.0.0.1:0")
    provider.webhook_url = f"http://127.0.0.1:{http.port_of(hooks)}{webhook.PATH}"
    config = replace(desk.sales.config, provider_url=provider.url)
    desk.sales = replace(desk.sales, config=config, clock=lambda: real_now(desk))
    order, _ = await begin(desk, line("evening"))
    await desk.relay()
    async with asyncio.timeout(10):
        while await state(desk, order) != "issued":  # noqa: ASYNC110 - the state is in Postgres, not in this process
            await asyncio.sleep(0.01)
    hooks.close()
    await provider.stop()
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 1


def real_now(desk: Desk) -> Any:
    from sales.context import utc_now

    desk.now = utc_now()
    return desk.now


async def test_a_stranger_cannot_make_the_endpoint_fall_over(config: SalesConfig) -> None:
    await migrate(config.postgres_url)
    seen: list[http.Request] = []

    async def handle(request: http.Request) -> http.Response:
        seen.append(request)
        return http.Response(200)

    server = await http.start(handle, "127.0.0.1:0")
    for raw in (b"\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"x" * 20000, b"\xff\xff\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port_of(server))
        writer.write(raw)
        writer.write_eof()
        try:
            assert b"400" in await reader.readline() or raw.startswith(b"x")
        except ConnectionResetError:
            assert raw.startswith(b"x")
        writer.close()
    assert not seen
    server.close()
    await server.wait_closed()
