"""The system under test: a stack of its own, started by the `parkgate` command as a park would, with its tickets."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc

from ops.embedded.base import own_module
from parkgate.cluster.v1 import control_pb2, control_pb2_grpc
from ticketcore.token import SIGNATURE_LENGTH, TOKEN_LENGTH, Claims, encode_claims, ticket_id_of

GATES = ["main-1", "main-2", "main-3", "main-4", "lake-1", "lake-2"]
DAY_TICKET = 1
BENCH_ISSUER = 9
REGISTER_AT_ONCE = 5_000
SINGLE_ACTORS = 2
"""Capacity owner and reporting. These, partition owners and gateways tell their metrics on a port of their own each."""
HUGE = "9000000"
SMALL_QUOTA = 201
"""Odd: orders of two leave one place, and one order more would be too many."""


@dataclass(frozen=True, slots=True)
class Files:
    """A client's PEM files."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Stack:
    """A running system."""

    data_dir: Path
    gate_port: int
    sales_port: int
    metrics_ports: Sequence[int]
    environment: dict[str, str]

    def parkgate(self, *arguments: str) -> str:
        """Runs the command against this stack; answers what it said.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        command = own_module("ops.cli", *arguments)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"parkgate {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def enroll(self, kind: str, name: str, *more: str) -> Files:
        """A client certificate."""
        folder = self.data_dir / "clients" / name
        self.parkgate("enroll", kind, name, *more, "--out", str(folder))
        return Files(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


@contextmanager
def running(folder: Path, base_port: int, **more: str) -> Iterator[Stack]:
    """The stack, on ports from `base_port` on; down and removed afterwards. `more`: further variables of its
    environment, settings among them."""
    shutil.rmtree(folder, ignore_errors=True)
    catalogue = folder.parent / "bench-catalogue"
    _write_catalogue(catalogue)
    names = (
        "GATE",
        "SALES",
        "REPORTING",
        "SUPERVISOR_METRICS",
        "SALES_METRICS",
        "REPORTING_METRICS",
        "CLUSTER_METRICS",
    )
    environment = dict(os.environ) | {
        f"PARKGATE_{name}_PORT": str(base_port + number) for number, name in enumerate(names)
    }
    environment |= {"PARKGATE_DATA_DIR": str(folder), "PARKGATE_CATALOGUE_DIR": str(catalogue)} | more
    actors = SINGLE_ACTORS + int(more.get("PARKGATE_OWNERS", 1)) + int(more.get("PARKGATE_GATEWAYS", 1))
    first = base_port + names.index("CLUSTER_METRICS")
    metrics = range(first, first + actors)
    stack = Stack(folder, base_port, base_port + names.index("SALES"), metrics, environment)
    stack.parkgate("up", "--detach")
    try:
        yield stack
    finally:
        stack.parkgate("down")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(catalogue, ignore_errors=True)


def _write_catalogue(folder: Path) -> None:
    """The shipped park with room for every scan of the benchmark: leases are still asked for and spent."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(__file__).parents[2] / "catalogue", folder)
    park = folder / "park.toml"
    text = park.read_text()
    if "capacity = 20000" not in text:
        raise RuntimeError("the shipped catalogue has changed: the park's capacity is not 20000")
    park.write_text(text.replace("capacity = 20000", f"capacity = {HUGE}"))
    _write_slots(folder / "slots.toml")


def _write_slots(path: Path) -> None:
    """One hot slot that never sells out within a run, and a small one that must end exactly full."""
    text = path.read_text()
    first, last = "quota = 1200", "quota = 800"
    if text.count(first) != 2 or text.count(last) != 1:
        raise RuntimeError("the shipped catalogue has changed: the night show's quotas are not 1200, 1200 and 800")
    path.write_text(text.replace(first, f"quota = {SMALL_QUOTA}", 1).replace(last, f"quota = {HUGE}"))


def write_tokens(path: Path, count: int, time_zone: str) -> None:
    """Day tickets for today. At the gate the registered digest is what proves a token, so that the signatures may be
    any bytes: signing a million would take a minute and change nothing that is measured."""
    from zoneinfo import ZoneInfo

    today = datetime.now(ZoneInfo(time_zone)).date()
    with path.open("wb") as file:
        for sequence in range(1, count + 1):
            claims = Claims(
                0, ticket_id_of(BENCH_ISSUER, sequence), DAY_TICKET, today, valid_days=2
            )  # a run may pass midnight
            file.write(encode_claims(claims) + os.urandom(SIGNATURE_LENGTH))


def write_shown(path: Path, tokens: Path, ends: Sequence[int]) -> None:
    """The same tokens in the order in which guests show them, which is none: those up to each end among themselves.
    A park's tickets were sold over months, and neighbours of one sale do not come together."""
    data, chance, begin = tokens.read_bytes(), random.Random(1), 0
    with path.open("wb") as file:
        for end in ends:
            order = list(range(begin, end))
            chance.shuffle(order)
            file.writelines(data[number * TOKEN_LENGTH : (number + 1) * TOKEN_LENGTH] for number in order)
            begin = end


def register(stack: Stack, service: Files, tokens: Path, first: int, count: int) -> Iterator[int]:
    """Registers so many tokens of the file from `first` on, as sales do; yields how many are done."""
    credentials = grpc.ssl_channel_credentials(
        service.ca.read_bytes(), service.key.read_bytes(), service.certificate.read_bytes()
    )
    done = 0
    with grpc.secure_channel(f"localhost:{stack.gate_port}", credentials) as channel, tokens.open("rb") as file:
        stub = control_pb2_grpc.ControlServiceStub(channel)
        file.seek(first * TOKEN_LENGTH)
        while data := file.read(min(REGISTER_AT_ONCE, count - done) * TOKEN_LENGTH):
            tickets = [
                control_pb2.IssuedTicket(token=data[start : start + TOKEN_LENGTH], price_minor=7_900)
                for start in range(0, len(data), TOKEN_LENGTH)
            ]
            stub.RegisterTickets(control_pb2.RegisterTicketsRequest(tickets=tickets))
            done += len(tickets)
            yield done
