"""Disks that are slow, full, or lose the server in the middle of a write.

The data folder is an ext4 of its own, on a loop device, so that it can really be full. Slow and deadly `fsync` calls
are made by strace, which delays the calls of a running server, or kills it as it enters one: written, not yet on disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.processes import wait_gone
from tests.chaos.processes.faults import Fault, Heal, Inject, nothing
from tests.chaos.processes.park import Park
from tests.chaos.processes.tools import run, tool

SIZE_MB = 900
SLOW_US = 60_000
"""A disk that is busy with something else: two hundred times what one fsync takes here."""
FULL_S, SLOW_S = (3.0, 4.0), (3.0, 4.0)
SYNC = "fsync,fdatasync"
WRITES_WITHIN_S = 10.0
CHUNK = 1 << 20


@contextmanager
def small_disk(image: Path, mounted_at: Path) -> Iterator[None]:
    """An ext4 of some hundred MB, mounted."""
    with image.open("wb") as file:
        file.truncate(SIZE_MB << 20)
    mounted_at.mkdir(parents=True)
    run("mkfs.ext4", "-q", "-m", "0", str(image))
    run("mount", "-o", "loop", str(image), str(mounted_at))
    try:
        yield
    finally:
        run("umount", "--lazy", str(mounted_at))


def fill(folder: Path) -> Path:
    """Takes every free byte of the folder's disk; returns the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = CHUNK
        while size:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                file.seek(0, os.SEEK_END)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    return ballast


def disk_full() -> Inject:
    """Under everything: ledger, books, logs, state."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        ballast = fill(park.stack.settings.data_dir)

        async def heal() -> None:
            ballast.unlink()

        return heal

    return inject


def slow_disk(*servers: str) -> Inject:
    """Every fsync of these servers takes much longer."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        pids = [who.pid for name in servers for who in (park.stack.process(name), *park.stack.below(name))]
        tracer = _strace(pids, f"inject={SYNC}:delay_enter={SLOW_US}")

        async def heal() -> None:
            tracer.terminate()
            tracer.wait()

        return heal

    return inject


def killed_in_mid_write(server: str) -> Inject:
    """The server is killed as it enters an fsync: what it wrote is not on disk, and nobody was answered."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        who = park.stack.process(server)
        tracer = _strace([who.pid], f"inject={SYNC}:signal=KILL:when={chance.randint(1, 6)}")
        try:
            if not wait_gone(who, WRITES_WITHIN_S):
                raise TimeoutError(f"{server} wrote nothing for {WRITES_WITHIN_S:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                tracer.send_signal(signal.SIGTERM)
            tracer.wait()
        return nothing

    return inject


def _strace(pids: list[int], what: str) -> subprocess.Popen[bytes]:
    """Attached when this returns: strace says so."""
    # Every call of the server waits for strace twice: on a busy machine it must not wait for its turn as well.
    command = [tool("nice"), "-n", "-15", tool("strace"), "-f", "-o", "/dev/null", "-e", f"trace={SYNC}", "-e", what]
    for pid in pids:
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    tracer.stderr.readline()
    return tracer


def disk_faults() -> list[Fault]:
    """All of them, for an installation on a small disk."""
    return [
        Fault("slow-ledger-disk", "every fsync of the ledger takes 60 ms longer", slow_disk("valkey"), SLOW_S),
        Fault("slow-postgres-disk", "every fsync of Postgres takes 60 ms longer", slow_disk("postgres"), SLOW_S),
        Fault(
            "kill-valkey-writing", "the ledger is killed between a write and its fsync", killed_in_mid_write("valkey")
        ),
        Fault("disk-full", "the disk of the data folder is full: ledger, books, logs", disk_full(), FULL_S),
    ]
