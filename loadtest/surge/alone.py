"""How many scans a second one process of the gates' part sends against an echo: `parkgate surge generator`.

The same streams, TLS and steps as in a rehearsal's ramp, with nothing behind the echo. Where it ends is the generator's
limit or the echo's, and it says whose: a rehearsal at higher rates needs more processes, whatever system it meets.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import uvloop

from loadtest.surge import merge
from loadtest.surge.gates import Gates, devices, running, welcome
from loadtest.surge.lines import Lines, credentials
from loadtest.surge.parts import Certificate, Order
from loadtest.surge.plan import Plan
from loadtest.surge.ramp import Step, climb
from loadtest.surge.report.verdict import GENERATOR_CPU, LATE_MS, MACHINE_FULL
from loadtest.surge.scenario import Ramp, Scenario, load
from loadtest.surge.screen import Screen
from loadtest.surge.shots import Ordered, RampShots
from loadtest.surge.stream import STREAMS_A_CONNECTION
from ops import pki
from ops.embedded.base import dying_with_parent, own_module
from ops.errors import OpsError

GATES = ("main-1", "main-2", "main-3", "main-4")
TOKEN_BYTES = 81
FIRST_PER_S, FACTOR, STEPS = 2_000.0, 1.25, 11
"""From 2,000 scans a second to 18,600."""
PAUSE_S = 0.3
SPARE = 1.3
"""Guests come by chance, and a step may have more of them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How it is measured: so many turnstiles, each with a stream; steps of so many seconds; so many echoes."""

    turnstiles: int
    seconds: float
    echoes: int
    first_per_s: float = FIRST_PER_S
    steps: int = STEPS


@dataclass(frozen=True, slots=True)
class Sent:
    """One step. `echo_cpu`: of the busiest echo, a share of a core."""

    step: Step
    echo_cpu: float

    @property
    def kept(self) -> bool:
        """Whether the generator kept its plan, and heard every answer in time."""
        return self.step.held and self.step.late_p99_ms <= LATE_MS

    @property
    def limit(self) -> str:
        """Who had nothing left."""
        if self.echo_cpu >= GENERATOR_CPU and self.step.cpu < GENERATOR_CPU:
            return "the echo"
        if self.step.cpu < GENERATOR_CPU and self.step.busy >= MACHINE_FULL:
            return "the machine, which all share"
        return "the generator"


def scenario_of(wanted: Wanted) -> Scenario:
    """Turnstiles of one entrance and nobody who comes: a ramp alone."""
    entrance = {"name": "Entrance", "gates": GATES, "lanes": 1, "turnstiles": wanted.turnstiles}
    ramp = {
        "product": "day",
        "first_per_s": wanted.first_per_s,
        "factor": FACTOR,
        "steps": wanted.steps,
        "seconds": wanted.seconds,
    }
    return load("quiet-weekday", {"entrances": [entrance], "ramp": ramp})


def measure(wanted: Wanted, screen: Screen) -> list[Sent]:
    """All steps, told as they are made. Raises: OpsError."""
    with TemporaryDirectory(prefix="parkgate-generator-") as folder:
        files = certificates(Path(folder))
        with echoes(Path(folder), wanted.echoes) as (pids, addresses):
            gc.freeze()
            gc.disable()  # as in a rehearsal
            try:
                return uvloop.run(_measure(wanted, (addresses, pids), files, screen))
            except TimeoutError as error:
                raise OpsError(str(error)) from error
            finally:
                gc.enable()


def certificates(folder: Path, gates: Sequence[str] = GATES) -> Certificate:
    """A park's authority, the echo's server certificate, and a device's that speaks for these gates."""
    now = datetime.now(UTC)
    authority = pki.create_authority(now)
    server = pki.issue_server(authority, "gateway", ["localhost"], now)
    device, _ = pki.issue_client(authority, pki.Kind.GATE, "alone", pki.identities(pki.Kind.GATE, "alone", gates), now)
    for name, pair in (("server", server), ("device", device)):
        (folder / f"{name}.pem").write_bytes(pair.certificate)
        (folder / f"{name}.key").write_bytes(pair.key)
    (folder / "ca.pem").write_bytes(authority.certificate)
    return Certificate(*(str(folder / name) for name in ("ca.pem", "device.pem", "device.key")))


@contextmanager
def echoes(folder: Path, count: int) -> Iterator[tuple[list[int], list[str]]]:
    """So many, each a process of its own: their pids and addresses."""
    files = [str(folder / name) for name in ("ca.pem", "server.pem", "server.key")]
    command = [*dying_with_parent(signal.SIGKILL), *own_module("loadtest.surge.echo", *files)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        ports = [one.stdout.readline().strip() for one in started if one.stdout is not None]
        if not all(ports):
            raise OpsError("An echo did not start.")
        yield [one.pid for one in started], [f"localhost:{port}" for port in ports]
    finally:
        for one in started:
            one.kill()
            one.communicate()


async def _measure(
    wanted: Wanted, at: tuple[Sequence[str], Sequence[int]], files: Certificate, screen: Screen
) -> list[Sent]:
    addresses, pids = at
    scenario = scenario_of(wanted)
    order = Order("", {}, list(addresses), files, "", "", "", [(1, True)])
    gates = Gates(Plan(scenario, [], []), order)
    secret = credentials(Path(files.ca), Path(files.certificate), Path(files.key))
    lines = Lines(addresses, secret, -(-scenario.devices // STREAMS_A_CONNECTION))
    gates.streams = devices(gates, lines)
    streams = [stream for group in gates.streams for stream in group]
    with running(*(stream.run() for stream in streams)):
        began = time.monotonic()
        await welcome(gates)
        screen.line(f"{len(streams):,} turnstiles", "TLS streams", f"connected in {time.monotonic() - began:.1f} s")
        sent: list[Sent] = []
        assert scenario.ramp is not None
        ramp, shots, processes = scenario.ramp, RampShots(gates), [psutil.Process(pid) for pid in pids]

        async def held(per_s: float) -> bool:
            sent.append(await _step(gates, shots, (per_s, ramp), processes))
            screen.line(*said(sent[-1]), good=sent[-1].kept)
            return sent[-1].kept

        await climb(ramp, held)
    await lines.close()
    return sent


async def _step(gates: Gates, shots: RampShots, what: tuple[float, Ramp], echoes: Sequence[psutil.Process]) -> Sent:
    per_s, ramp = what
    gates.ramp_tokens += [os.urandom(TOKEN_BYTES) for _ in range(int(per_s * ramp.seconds * SPARE) - shots.left)]
    before, began = [_spent(one) for one in echoes], time.monotonic()
    measured = await shots.fire(Ordered(per_s, ramp.seconds, began + PAUSE_S))
    spent = max(_spent(one) - earlier for one, earlier in zip(echoes, before, strict=True))
    return Sent(merge.step(per_s, [measured.columns()]), spent / (time.monotonic() - began - PAUSE_S))


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def said(sent: Sent) -> tuple[str, ...]:
    """A step in a line."""
    step = sent.step
    return (
        f"{step.sent / max(step.seconds, 1e-9):,.0f} scans a second",
        f"99 of 100 sent {step.late_p99_ms:.1f} ms late, answered within {step.p99_ms:.1f} ms",
        f"generator {step.cpu:.0%} of a core, echo {sent.echo_cpu:.0%}, machine {step.busy:.0%}",
    )


def verdict(sent: Sequence[Sent]) -> str:
    """What one process sends, and who ended it."""
    best = max((one for one in sent if one.kept), key=lambda one: one.step.per_s, default=None)
    above = [one for one in sent if not one.kept and (best is None or one.step.per_s > best.step.per_s)]
    ended = (
        f"Then {min(above, key=lambda one: one.step.per_s).limit} was the limit." if above else "More was not tried."
    )
    if best is None:
        return f"No step was kept. {ended}"
    step = best.step
    return (
        f"One process sent {round(step.sent / step.seconds, -2):,.0f} scans a second over TLS, one a frame, with "
        f"{step.cpu * 100:.0f} % of a core, 99 of 100 at most {step.late_p99_ms:.1f} ms late. {ended}"
    )


def run(wanted: Wanted) -> None:
    """The whole measurement on the screen."""
    screen = Screen()
    echoes = "a bare echo" if wanted.echoes == 1 else f"{wanted.echoes} bare echoes"
    screen.section(f"One process of the generator against {echoes} of a gateway")
    screen.panel("Verdict", [verdict(measure(wanted, screen))])
