"""Targets in front of a real Postgres: calls of sales, webhooks of the payment provider, questions to reporting.

A case here is a round trip to the database, so they get a small share of the cases. The cluster behind sales is the one
in memory of `tests/sales`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from ops.embedded import EmbeddedPostgres
from parkgate.reporting.v1 import reporting_pb2 as rpb
from parkgate.sales.v1 import sales_pb2 as pb
from reporting.config import ReportingConfig
from reporting.database import make_pool
from reporting.database import migrate as migrate_reporting
from reporting.service import ReportingServicer
from sales import http, signatures, webhook
from sales.catalogue_folder import load_folder
from sales.config import SalesConfig
from sales.context import Sales, assemble
from sales.database import migrate
from sales.identity import LOCAL
from sales.payment_event import parse_event
from sales.servicer import SalesServicer
from sales.usecases.publish_catalogue import publish_catalogue
from tests.fuzz.target import Target, require
from tests.sales.fake_cluster import FakeCluster
from ticketcore.catalogue_document import canonical_json
from ticketcore.errors import InvalidInputError, NotPermittedError

CATALOGUE = Path(__file__).parents[2] / "catalogue"
SECRET = b"a secret of these cases"
TODAY = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
"""What a call must never end with, whatever was asked."""


class CallContext:
    """A call as a servicer sees it."""

    def __init__(self) -> None:
        self.status: grpc.StatusCode = grpc.StatusCode.OK
        self.details = ""

    async def abort(self, code: grpc.StatusCode, details: str = "", _metadata: Any = ()) -> None:
        """Ends the call, as gRPC does: by an exception."""
        self.status, self.details = code, details
        raise grpc.aio.AbortError(details)

    def auth_context(self) -> dict[str, Any]:
        """Nobody asks it: the sales service is on loopback, and reporting is asked past its check."""
        return {}


GIVEN_UP = """
WITH given_up AS (
    INSERT INTO sales.orders (id, state, channel, window_id, catalogue_version, currency, total_minor, ticket_count,
        lines, hold_lapse_time, create_time)
    VALUES (99999999, 'canceled', 'web', 'w1', 1, 'EUR', 11800, 2, '[]', now(), now())
    RETURNING id
)
INSERT INTO sales.payments (id, order_id, method, state, amount_minor, tendered_minor, currency, window_id, create_time,
    next_ask_time)
SELECT decode(repeat('00', 16), 'hex'), id, 'provider', 'pending', 11800, 11800, 'EUR', 'w1', now(), now() FROM given_up
"""
"""An order that was given up while its money was on its way: what the signed webhooks tell of."""


class Database:
    """A Postgres of the target's own, and a loop to talk to it in."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.loop = asyncio.new_event_loop()
        self.stack.callback(self.loop.close)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="parkgate-fuzz-"))
        self.url = self.stack.enter_context(EmbeddedPostgres(Path(folder))).url
        for name in ("sales", "reporting"):  # a fault of ours is a finding; what else they say of a mad call is not
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs to its end."""
        return self.loop.run_until_complete(work)


class SalesCalls:
    """Calls of a window or service. The first byte says which."""

    def __init__(self) -> None:
        self._database = Database()
        self.parts: Sales = self._database.run(self._start())
        self.servicer = SalesServicer(self.parts)
        self.names = sorted(name for name in dir(pb) if name.endswith("Request"))
        self.webhook = webhook.handler(self.parts)

    async def _start(self) -> Sales:
        await migrate(self._database.url)
        config = SalesConfig(
            postgres_url=self._database.url,
            bind_address="127.0.0.1:0",
            tls=None,
            cluster_targets=("127.0.0.1:1",),
            cluster_tls=None,
            signing_key_id=3,
            signing_key=Ed25519PrivateKey.generate(),
            issuer_id=7,
            webhook_secret=SECRET,
        )
        parts = assemble(config, FakeCluster(lambda: datetime.now(UTC)))
        document = canonical_json(load_folder(CATALOGUE)[0])
        await publish_catalogue(parts, LOCAL, pb.PublishCatalogueRequest(request_id=bytes(16), document=document))
        async with parts.database.transaction() as connection:
            await connection.execute(sa.text(GIVEN_UP))
        return parts

    def case(self, data: bytes) -> str:
        """A call is answered or refused with a status that is not a fault of ours, and words (I8)."""
        name = self.names[(data[0] if data else 0) % len(self.names)]
        try:
            request = getattr(pb, name).FromString(data[1:])
        except DecodeError:
            return "not protobuf"
        context = CallContext()
        self._database.run(self._call(name.removesuffix("Request"), request, context))
        require(context.status not in FAULTS, f"I8: {name} ended with {context.status.name}: {context.details}")
        require(context.status is grpc.StatusCode.OK or bool(context.details), "a refusal without words")
        return context.status.name

    async def _call(self, method: str, request: Any, context: CallContext) -> None:
        with suppress(grpc.aio.AbortError):
            await getattr(self.servicer, method)(request, context)

    def signed(self, data: bytes) -> str:
        """A body that the provider has signed is settled or refused with a status, never a fault; one that was signed
        an hour ago (the first byte says so) is refused unread (I8)."""
        old, body = data[:1] == b"\1", data[1:]
        header = signatures.sign(SECRET, body, datetime.now(UTC) - timedelta(hours=old))
        request = http.Request("POST", webhook.PATH, {signatures.HEADER: header}, body)
        response = self._database.run(_answered(self.webhook, request))
        allowed = (401,) if old else (200, 400, 503)
        require(response.status in allowed, f"a webhook is answered {response.status}")
        return str(response.status)

    def close(self) -> None:
        """Ends the database."""
        self._database.run(self.parts.database.close())
        self._database.stack.close()


async def _answered(handler: http.Handler, request: http.Request) -> http.Response:
    return await handler(request)


def unsigned_webhook(data: bytes) -> str:
    """Bytes from a stranger on the webhook's port are a request of bounded size or none; its body is believed only with
    a signature, and read as an event or refused by name."""
    loop = asyncio.new_event_loop()
    try:
        request = loop.run_until_complete(_read(data))
    finally:
        loop.close()
    if request is None:
        return "400"
    require(len(request.body) <= http.MAX_BODY, "a body beyond its bound")
    try:
        signatures.check(SECRET, request.body, request.headers.get(signatures.HEADER, ""), datetime.now(UTC))
        require(False, "a stranger's webhook is taken for signed")
    except NotPermittedError:
        pass
    try:
        parse_event(request.body)
    except InvalidInputError:
        return "401, no event"
    return "401"


async def _read(data: bytes) -> http.Request | None:
    reader = asyncio.StreamReader(limit=http.MAX_HEAD)
    reader.feed_data(data)
    reader.feed_eof()
    try:
        return await http._read_request(reader)
    except asyncio.IncompleteReadError:
        return None


class ReportCalls:
    """Questions of finance, past the check of their certificate. The first byte says which."""

    QUESTIONS = ("QueryScans", "QuerySales", "QueryFinance", "QueryOccupancy", "Export")

    def __init__(self) -> None:
        self._database = Database()
        self._database.run(migrate(self._database.url))
        self._database.run(migrate_reporting(self._database.url))
        config = ReportingConfig(self._database.url, "redis://127.0.0.1:1/0", ("p0",), "Europe/Paris")
        self._pool = make_pool(self._database.url)
        self._database.run(self._pool.open())
        self.servicer = ReportingServicer(config, self._pool, None)  # type: ignore[arg-type]

    def case(self, data: bytes) -> str:
        """A question is answered or refused with a status that is not a fault of ours, and words (I8)."""
        name = self.QUESTIONS[(data[0] if data else 0) % len(self.QUESTIONS)]
        try:
            request = getattr(rpb, f"{name}Request").FromString(data[1:])
        except DecodeError:
            return "not protobuf"
        context = FinanceContext()
        self._database.run(self._call(name, request, context))
        require(context.status not in FAULTS, f"I8: {name} ended with {context.status.name}: {context.details}")
        return context.status.name

    async def _call(self, name: str, request: Any, context: CallContext) -> None:
        try:
            answer = getattr(self.servicer, name)(request, context)
            if name == "Export":
                async for _ in answer:
                    pass
            else:
                await answer
        except grpc.aio.AbortError:
            pass

    def close(self) -> None:
        """Ends the database."""
        self._database.run(self._pool.close())
        self._database.stack.close()


class FinanceContext(CallContext):
    """A call with the certificate of somebody in finance."""

    def auth_context(self) -> dict[str, Any]:
        """The certificate, made once."""
        return {"x509_pem_cert": (_certificate(),)}


def _certificate(made: list[bytes] = []) -> bytes:  # noqa: B006 - made once, and kept
    if not made:
        from ops import pki

        now = datetime.now(UTC)
        uris = pki.identities(pki.Kind.FINANCE, "ann")
        made.append(pki.issue_client(pki.create_authority(now), pki.Kind.FINANCE, "ann", uris, now)[0].certificate)
    return made[0]


def _sales_requests() -> dict[str, Any]:
    line = pb.OrderLine(product_id="day", concession="adult", count=2, visit_date=TODAY)
    bought = {"lines": [line], "channel": "window"}
    one, cash = bytes(range(16)), pb.PAYMENT_METHOD_CASH
    return {
        "CreateOrder": pb.CreateOrderRequest(request_id=one, window_id="w1", **bought),  # type: ignore[arg-type]
        "QuoteOrder": pb.QuoteOrderRequest(**bought),  # type: ignore[arg-type]
        "SellTickets": pb.SellTicketsRequest(request_id=b"s" * 16, window_id="w1", method=cash, **bought),  # type: ignore[arg-type]
        "PayOrder": pb.PayOrderRequest(request_id=b"p" * 16, order_id=1, method=cash, tendered_minor=50_000),
        "ListOrders": pb.ListOrdersRequest(page_size=3),
        "OpenShift": pb.OpenShiftRequest(request_id=b"o" * 16),
    }


def _sales_seeds(names: list[str]) -> list[bytes]:
    made = _sales_requests()
    for name in names:
        method = name.removesuffix("Request")
        made.setdefault(method, _filled(getattr(pb, name)()))
    return [bytes((names.index(f"{method}Request"),)) + item.SerializeToString() for method, item in made.items()]


def _filled(message: Any) -> Any:
    """Every field with a value of its kind, so that a mutation meets it."""
    for field in message.DESCRIPTOR.fields:
        value: Any = {"bytes": b"r" * 16, "str": TODAY, "int": 1}.get(_kind(field))
        if value is not None and not field.is_repeated:
            setattr(message, field.name, value)
        elif value is not None:
            getattr(message, field.name).append(value)
    return message


def _kind(field: Any) -> str:
    if field.type == field.TYPE_MESSAGE:
        return "message"
    return {field.TYPE_BYTES: "bytes", field.TYPE_STRING: "str"}.get(field.type, "int")


def sales_target() -> Target:
    """Calls of sales."""
    calls = SalesCalls()
    return Target(
        "sales", "calls of sales windows, on a real Postgres", calls.case, _sales_seeds(calls.names), calls.close
    )


EVENT = {
    "event_id": "e1",
    "kind": "captured",
    "payment_id": bytes(16).hex(),
    "amount_minor": 11_800,
    "currency": "EUR",
    "time_ms": 1_780_000_000_000,
}


def signed_webhook_target() -> Target:
    """Webhooks that the provider has signed."""
    calls = SalesCalls()
    bodies = [json.dumps(EVENT | {"kind": kind}).encode() for kind in ("captured", "failed")]
    seeds = [age + body for body in bodies for age in (b"\0", b"\1")]
    return Target("webhook-signed", "signed webhooks, on a real Postgres", calls.signed, seeds, calls.close)


def webhook_target() -> Target:
    """Webhooks of strangers."""
    body = json.dumps(EVENT).encode()
    head = (
        f"POST {webhook.PATH} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{signatures.HEADER}: t=1,v1={'0' * 64}\r\n\r\n"
    )
    return Target("webhook", "HTTP of strangers on the webhook's port", unsigned_webhook, [head.encode() + body])


def report_target() -> Target:
    """Questions to reporting."""
    calls = ReportCalls()
    seeds = []
    for number, name in enumerate(calls.QUESTIONS):
        message = _filled(getattr(rpb, f"{name}Request")())
        if "period" in message.DESCRIPTOR.fields_by_name:
            message.period.from_date, message.period.to_date = "2026-05-01", TODAY
        seeds.append(bytes((number,)) + message.SerializeToString())
    return Target("reporting", "questions to reporting, on a real Postgres", calls.case, seeds, calls.close)


MAKERS: dict[str, Callable[[], Target]] = {
    "webhook": webhook_target,
    "webhook-signed": signed_webhook_target,
    "sales": sales_target,
    "reporting": report_target,
}
