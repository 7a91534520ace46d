"""Processes by pid *and* start time, so that a recycled pid is never taken for ours and never signalled."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError

POLL_S = 0.02
"""How often a wait looks again. Short against every wait here, long against the cost of one look (some 20 µs)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for all time: the kernel gives out a pid again, but not with the same start tick of the same boot."""

    pid: int
    started: str


def identity(pid: int) -> Identity | None:
    """The identity of a live process; `None` for one that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Fields after the command's closing bracket, which is the only one that may hold spaces: state is 3rd, start 22nd.
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Identity(pid, f"{_boot_id()}:{fields[19].decode()}")


def own_identity() -> Identity:
    """This process."""
    own = identity(os.getpid())
    if own is None:
        raise OpsError("/proc does not show this process.", "Mount /proc; Parkgate needs it to know its processes.")
    return own


def is_alive(who: Identity) -> bool:
    """Whether that very process still runs."""
    return identity(who.pid) == who


def send(who: Identity, number: signal.Signals) -> bool:
    """Signals that very process through a pidfd: no other can take its pid in between. False when it is gone."""
    try:
        fd = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(who):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)
        return True
    finally:
        os.close(fd)


def wait_gone(who: Identity, timeout_s: float) -> bool:
    """Waits for a process that need not be a child of ours. False when it outlives the time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(who):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(who: Identity, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Sends each signal in turn and waits as long as it says, until the process is gone. False when it outlives all."""
    return any(not send(who, number) or wait_gone(who, timeout_s) for number, timeout_s in steps)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
