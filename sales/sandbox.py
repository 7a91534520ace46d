"""A payment provider to play with: takes intents, and answers some time later by a signed webhook, until it is heard.

It never touches money or sales' books. `decide` says what becomes of an intent: "captured" or "failed". A `silent` one
sends no webhook, and tells what it decided only when it is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sales import http, signatures
from sales.context import utc_now
from ticketcore.errors import NotPermittedError, UnavailableError

RETRY_S = 0.5
ATTEMPTS = 240
"""Two minutes of retries: longer than a restart of sales."""
log = logging.getLogger(__name__)


def always_capture(_intent: dict[str, Any]) -> str:
    """Every guest pays."""
    return "captured"


@dataclass
class SandboxProvider:
    """The provider. `start` it, then give sales its `url`; `webhook_url` is sales' endpoint."""

    secret: bytes = field(repr=False)
    webhook_url: str = ""
    delay_s: float = 0.05
    silent: bool = False
    decide: Callable[[dict[str, Any]], str] = always_capture
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, bytes] = field(default_factory=dict)
    """What became of intents, by payment, as it is told."""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, address: str = "127.0.0.1:0") -> None:
        """Listens."""
        self._server = await http.start(self._handle, address)

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the sandbox provider is not started")
        return f"http://127.0.0.1:{http.port_of(self._server)}"

    async def stop(self) -> None:
        """Stops listening and answering."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _handle(self, request: http.Request) -> http.Response:
        if request.method == "GET" and request.path.startswith("/pay/"):
            return http.Response(200, b"Sandbox: the payment is taken by itself.\n")
        try:
            signatures.check(self.secret, request.body, request.headers.get(signatures.HEADER, ""), utc_now())
            body = json.loads(request.body)
        except NotPermittedError as error:
            return http.Response(401, str(error).encode())
        except ValueError:
            return http.Response(400)
        if request.path == "/intents":
            return self._take(body)
        if request.path == "/payments/ask":
            return self._tell(body["payment_id"])
        if request.path == "/refunds":
            self.refunds[body["refund_id"]] = body
            return http.Response(202)
        return http.Response(404)

    def _tell(self, payment_id: str) -> http.Response:
        """200: decided; 202: not yet; 404: never heard of."""
        event = self.events.get(payment_id)
        if event is None:
            return http.Response(202 if payment_id in self.intents else 404)
        return http.Response(200, event, {signatures.HEADER: signatures.sign(self.secret, event, utc_now())})

    def _take(self, intent: dict[str, Any]) -> http.Response:
        if intent["payment_id"] not in self.intents:
            self.intents[intent["payment_id"]] = intent
            task = asyncio.get_running_loop().create_task(self._answer(intent))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return http.Response(202)

    async def _answer(self, intent: dict[str, Any]) -> None:
        await asyncio.sleep(self.delay_s)
        body = event_body(intent, self.decide(intent), int(utc_now().timestamp() * 1000))
        self.events[intent["payment_id"]] = body
        for _ in range(0 if self.silent else ATTEMPTS):
            header = signatures.sign(self.secret, body, utc_now())
            try:
                if (await http.post(self.webhook_url, body, {signatures.HEADER: header})).status == 200:
                    return
            except UnavailableError as error:
                log.debug("webhook: %s", error)
            await asyncio.sleep(RETRY_S)
        log.log(
            logging.DEBUG if self.silent else logging.ERROR, "sales never heard of payment %s", intent["payment_id"]
        )


def event_body(intent: dict[str, Any], kind: str, time_ms: int) -> bytes:
    """The webhook's body for what became of an intent; its event id is the same however often it is sent."""
    event = {
        "event_id": f"{intent['payment_id']}-{kind}",
        "kind": kind,
        "payment_id": intent["payment_id"],
        "amount_minor": intent["amount_minor"],
        "currency": intent["currency"],
        "time_ms": time_ms,
    }
    return json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
