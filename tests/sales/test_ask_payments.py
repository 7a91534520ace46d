"""A provider that stays silent is asked, and its answer, however late, decides."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from sales import http, provider, signatures
from sales.config import SalesConfig
from sales.sandbox import SandboxProvider, event_body
from sales.usecases.ask_payments import ask_payments, wait
from sales.usecases.cancel_order import lapse_orders
from tests.sales.conftest import VISIT, Desk
from tests.sales.test_payments import begin, real_now, state, tell
from ticketcore.errors import InvalidInputError, NotPermittedError, UnavailableError

DAY_QUOTA = f"product=1;date={VISIT}"
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def silent(desk: Desk) -> AsyncIterator[SandboxProvider]:
    """A sandbox that sends no webhook; the desk goes by the real clock, by which the sandbox signs its answers."""
    real_now(desk)
    sandbox = SandboxProvider(desk.sales.config.webhook_secret, silent=True, delay_s=0.0)
    await sandbox.start()
    desk.sales = replace(desk.sales, config=replace(desk.sales.config, provider_url=sandbox.url))
    yield sandbox
    await sandbox.stop()


async def decide(sandbox: SandboxProvider) -> None:
    """Waits for the sandbox's tasks to end."""
    for task in list(sandbox._tasks):
        await task


@pytest.mark.parametrize(("kind", "ends"), [("captured", "issued"), ("failed", "canceled")])
async def test_a_payment_without_a_word_is_asked_for_and_the_answer_decides(
    desk: Desk, silent: SandboxProvider, kind: str, ends: str
) -> None:
    silent.decide = lambda _: kind
    order, _ = await begin(desk)
    await desk.relay()
    await decide(silent)
    for seconds, asked in ((59, 0), (1, 1)):
        assert await state(desk, order) == "paying"
        desk.wait(seconds=seconds)
        assert await ask_payments(desk.sales) == asked
    assert await state(desk, order) == ends
    desk.wait(days=1)
    assert await ask_payments(desk.sales) == 0, "what is settled is not asked for again"


async def test_while_the_provider_knows_nothing_the_hold_stays_pinned_and_it_is_asked_ever_less_often(
    desk: Desk, silent: SandboxProvider
) -> None:
    """I4: no clock decides what became of a guest's money."""
    order, intent = await begin(desk)
    for minutes in (1, 2, 4, 8):
        desk.wait(minutes=minutes)
        assert (await ask_payments(desk.sales), await ask_payments(desk.sales)) == (1, 0)
    desk.wait(minutes=9.9)
    assert await lapse_orders(desk.sales) == 0
    assert (await state(desk, order), desk.cluster.book.counters[DAY_QUOTA].pinned) == ("paying", 1)
    silent.intents[intent["payment_id"]] = intent
    silent.events[intent["payment_id"]] = event_body(intent, "captured", 1)
    assert await ask_payments(desk.sales) == 0
    desk.wait(minutes=0.1)
    assert await ask_payments(desk.sales) == 1
    assert await state(desk, order) == "paying", "signed a quarter of an hour before the desk's clock: not believed"


async def test_an_answer_and_the_webhook_together_act_once(desk: Desk, silent: SandboxProvider) -> None:
    order, intent = await begin(desk)
    await desk.relay()
    await decide(silent)
    desk.wait(minutes=1)
    assert await ask_payments(desk.sales) == 1
    assert await tell(desk, intent, "captured") == (200, "ignored")
    assert await desk.value("SELECT count(*) FROM sales.tickets") == 1
    assert await desk.value("SELECT count(*) FROM sales.payment_events") == 1
    assert await state(desk, order) == "issued"


async def test_a_provider_that_is_away_is_asked_again_later(desk: Desk, silent: SandboxProvider) -> None:
    order, _ = await begin(desk)
    await desk.relay()
    await decide(silent)
    url = silent.url
    desk.sales = replace(desk.sales, config=replace(desk.sales.config, provider_url="http://127.0.0.1:1"))
    desk.wait(minutes=1)
    assert await ask_payments(desk.sales) == 1
    assert await state(desk, order) == "paying"
    desk.sales = replace(desk.sales, config=replace(desk.sales.config, provider_url=url))
    desk.wait(minutes=2)
    await ask_payments(desk.sales)
    assert await state(desk, order) == "issued"


async def test_an_answer_about_another_amount_is_not_booked(desk: Desk, silent: SandboxProvider) -> None:
    order, intent = await begin(desk)
    silent.events[intent["payment_id"]] = event_body(intent | {"amount_minor": 1}, "captured", 1)
    desk.wait(minutes=1)
    assert await ask_payments(desk.sales) == 1
    assert await state(desk, order) == "paying"


@pytest.mark.parametrize(
    ("status", "secret", "of", "error"),
    [
        (200, b"another secret of 16", "same", NotPermittedError),
        (200, b"a secret of these tests", "other", InvalidInputError),
        (500, b"a secret of these tests", "same", UnavailableError),
    ],
)
async def test_an_answer_that_is_forged_of_another_payment_or_none_is_refused(
    config: SalesConfig, status: int, secret: bytes, of: str, error: type[Exception]
) -> None:
    from sales.context import utc_now

    payment_id = bytes(16)
    told = {"payment_id": (payment_id if of == "same" else b"x" * 16).hex(), "amount_minor": 1, "currency": "CHF"}
    body = event_body(told, "captured", 1)

    async def handle(request: http.Request) -> http.Response:
        return http.Response(status, body, {signatures.HEADER: signatures.sign(secret, body, utc_now())})

    server = await http.start(handle, "127.0.0.1:0")
    asked = replace(config, provider_url=f"http://127.0.0.1:{http.port_of(server)}")
    with pytest.raises(error):
        await provider.ask(asked, payment_id, utc_now())
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"],
)
async def test_a_broken_answer_is_no_answer(answer: bytes) -> None:
    import asyncio

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with pytest.raises(UnavailableError):
        await http.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"", {})
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(("asked", "minutes"), [(0, 1), (1, 2), (3, 8), (4, 10), (200, 10)])
def test_the_wait_doubles_up_to_ten_minutes(asked: int, minutes: int) -> None:
    assert wait(MINUTE, asked) == minutes * MINUTE


def test_asking_sooner_than_a_second_is_refused_in_the_settings(config: SalesConfig) -> None:
    with pytest.raises(InvalidInputError, match="ask_payment_after_ms: expected at least 1000"):
        replace(config, ask_payment_after_ms=999)
    assert replace(config, ask_payment_after_ms=1_000).ask_payment_after_ms == 1_000
