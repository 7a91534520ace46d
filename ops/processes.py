"""Processes by pid *and* start time, so that a recycled pid is never taken for ours and never signalled."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError

POLL_S = 0.02
"""How often a wait looks again. Short against every wait here, long against the cost of one look (some 20 µs)."""

REMAINS_S = 4.0
"""A killed process is gone at once; one that hangs in the kernel is nobody's to wait for."""


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


def children(pid: int) -> list[Identity]:
    """The live direct children of a process. One small read a thread; walking all of /proc takes milliseconds."""
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [identity(int(child)) for child in listing.read_text(encoding="ascii").split()]
    return [who for who in found if who is not None]


def descendants(pid: int) -> list[Identity]:
    """The live processes below a process, nearest first."""
    found = children(pid)
    for who in found:
        found += children(who.pid)
    return found


def program(who: Identity) -> str:
    """The file name of the program that a process runs; empty when it is gone."""
    try:
        return Path(os.fsdecode(Path(f"/proc/{who.pid}/cmdline").read_bytes().split(b"\0")[0])).name
    except (FileNotFoundError, ProcessLookupError):
        return ""


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


async def first_ended(processes: Mapping[str, Identity]) -> str:
    """Waits until one of these has ended, and returns its name. The kernel tells it at once; nothing is polled."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()
    with contextlib.ExitStack() as watches:
        for name, who in processes.items():
            try:
                fd = os.pidfd_open(who.pid)
            except ProcessLookupError:
                return name
            watches.callback(os.close, fd)
            if not is_alive(who):
                return name
            loop.add_reader(fd, _tell, ended, name)
            watches.callback(loop.remove_reader, fd)
        return await ended


def _tell(ended: asyncio.Future[str], name: str) -> None:
    if not ended.done():
        ended.set_result(name)


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


def working_in(temp: str, driver: int | None = None) -> list[Identity]:
    """Ray's processes whose session is in that folder, but not this one. `driver`: only of the Ray that it started.

    By the files that they have open, too: Ray's agents and workers overwrite their command line and environment when
    they rename themselves.
    """
    ended_by = rb"" if driver is None else rb"[^/\0 ]*_%d(?![0-9])" % driver  # session_<date>_<pid of the driver>
    needle = re.compile(re.escape(os.fsencode(temp)) + rb"/session_" + ended_by)
    others = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid())
    found = [identity(int(entry.name)) for entry in others if _mentions(entry, needle)]
    return [who for who in found if who is not None]


def _mentions(entry: Path, needle: re.Pattern[bytes]) -> bool:
    try:
        if needle.search((entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()):
            return True
        names = os.listdir(entry / "fd")
    except OSError:
        return False  # gone, or another user's
    for name in names:
        with contextlib.suppress(OSError):
            if needle.match(os.fsencode(os.readlink(entry / "fd" / name))):
                return True
    return False


def end_all_in(temp: str, driver: int | None = None) -> None:
    """Kills what is left of a Ray. Its driver is gone, so nothing of it is of use to anybody, and a gateway of it would
    hold the gate port against the next one for as long as it were given to end."""
    deadline = time.monotonic() + REMAINS_S
    while (left := working_in(temp, driver)) and time.monotonic() < deadline:
        for who in left:
            send(who, signal.SIGKILL)
        time.sleep(POLL_S)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
