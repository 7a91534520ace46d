"""Keys, passphrases, passwords and whole tokens of a running stack are in no log, output, command line or core dump.

The stack logs at level debug, has sold and admitted, and has met errors. Each secret of the data folder is looked for
as it is, in base64 and in hexadecimal.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization

from gateclient.scans import LaneSetting, make_scan
from ops import signing_keys
from parkgate.sales.v1 import sales_pb2
from tests.system import traffic as day
from tests.system.stack import Stack
from ticketcore.token import to_qr_text

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(180)]

SHORTEST = 16
"""Bytes: less of a secret could stand anywhere by chance."""
COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("config", "show"),
    ("doctor", "--json"),
    ("enroll", "list"),
    ("report", "refusals", "--by", "reason"),
    ("refund", "1"),
    ("sell", "--product", "no-such-thing"),
)


def secrets_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every secret, by the file that holds it."""
    for path in sorted((folder / "secrets").iterdir()):
        if not path.name.startswith("."):
            yield str(path), path.read_bytes().strip()
    for path in sorted(folder.rglob("*.key")):
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        number = key.private_numbers().private_value  # type: ignore[union-attr]
        yield str(path), number.to_bytes(32, "big")
        yield str(path), b"".join(path.read_bytes().splitlines()[1:3])
    yield "the signing key", signing_keys.load_or_create(folder).private_key.private_bytes_raw()


def forms(secret: bytes) -> set[bytes]:
    """The ways in which it could be written."""
    ways = {secret, base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")}
    return {way for way in ways | {secret.hex().encode(), secret.hex().upper().encode()} if len(way) >= SHORTEST}


def written(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """All that the stack has written for people and machines to read: logs, state, outputs, command lines."""
    folders = [stack.data_dir / "logs", stack.data_dir / "ray", *(path for path in stack._outside if path.is_dir())]
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):  # a socket, or gone
                if path.is_file() and path.suffix != ".key":
                    yield str(path), path.read_bytes()
    for path in (*stack.data_dir.glob("postgres/log/*"), stack.data_dir / "run" / "state.json"):
        yield str(path), path.read_bytes()
    for arguments in COMMANDS:
        yield f"parkgate {' '.join(arguments)}", stack.output(*arguments)
    for pid in stack.pids():
        with contextlib.suppress(OSError):
            yield f"the command line of process {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()


async def _use(stack: Stack) -> list[bytes]:
    """Sells, admits, refuses and fails; answers the tokens."""
    tickets = await day.sell(stack, "day", 5, day.today(stack))
    tokens = [ticket.token for ticket in tickets]
    async with stack.sales() as sales:
        with pytest.raises(grpc.aio.AioRpcError):
            await sales.GetOrder(sales_pb2.GetOrderRequest(order_id=1 << 40))
    gate = stack.turnstile("main-1")
    await gate.start()
    for text in [*map(to_qr_text, tokens), "NO TOKEN", to_qr_text(tokens[0])[:-3]]:
        await gate.check(make_scan(text, LaneSetting(), os.urandom(16), day.now_ms()))
    await gate.close()
    return tokens


async def test_no_secret_of_a_running_stack_is_written_anywhere(stack: Stack) -> None:
    tokens = await _use(stack)
    looked_for = [*secrets_of(stack.data_dir), *((f"token {number}", token) for number, token in enumerate(tokens))]
    assert len(looked_for) > 15
    needles = {way: name for name, secret in looked_for for way in forms(secret)}
    needles |= {to_qr_text(token).encode(): f"the code of token {number}" for number, token in enumerate(tokens)}
    planted = stack.data_dir / "logs" / "planted.log"
    planted.write_bytes(b"password: " + base64.b64encode(tokens[0]))
    texts = list(written(stack))
    found = {(needles[way], where) for where, text in texts for way in needles if way in text}
    assert found == {("token 0", str(planted))}, "only what was planted, to see that it would be found"
    planted.unlink()


def test_no_process_of_a_stack_leaves_a_core_file(stack: Stack) -> None:
    names = ("supervisor", "sales", "cluster", "reporting", "owner", "gateway", "valkey")
    limits = {name: resource.prlimit(stack.process(name).pid, resource.RLIMIT_CORE) for name in names}
    assert set(limits.values()) == {(0, 0)}
