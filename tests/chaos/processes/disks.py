"""Disks that are slow, full, lose the server in the middle of a write, or lose their power.

The data folder is an ext4 of its own, on a loop device, and the ledger's folder in it is another, so that each can
really be full, and be shut down with all that the kernel has cached of it. Slow and deadly `fsync` calls are made by
strace, which delays the calls of a running server, or kills it as it enters one: written, not yet on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ops.processes import Identity, identity, wait_gone
from tests.chaos.processes.faults import Fault, Heal, Inject, nothing, signal_all
from tests.chaos.processes.park import Park
from tests.chaos.processes.tools import run, tool

SIZE_MB = 900
SLOW_US = 60_000
"""A disk that is busy with something else: two hundred times what one fsync takes here."""
FULL_S, SLOW_S, DARK_S = (3.0, 4.0), (3.0, 4.0), (1.0, 2.0)
FREE_WITHIN_S = 20.0
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
"""`_IOR('X', 125, __u32)` and its flag: the file system stops at once, its journal is not flushed either."""
SYNC = "fsync,fdatasync"
WRITES_WITHIN_S = 10.0
CHUNK = 1 << 20


class SmallDisk:
    """An ext4 of some hundred MB in a file, mounted where an installation has its data."""

    def __init__(self, image: Path, folder: Path, size_mb: int) -> None:
        self._image, self.folder, self._size_mb = image, folder, size_mb

    def make(self) -> None:
        """Empty, and mounted."""
        with self._image.open("wb") as file:
            file.truncate(self._size_mb << 20)
        self.folder.mkdir(parents=True)
        run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self.mount()

    def mount(self) -> None:
        """As a machine does that boots: ext4 replays its journal."""
        run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self, *how: str) -> None:
        """Raises: RuntimeError while a process uses it, unless it is done lazily."""
        run("umount", *how, str(self.folder))

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, and what the kernel has cached never will: every call fails."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)


@contextmanager
def small_disk(image: Path, folder: Path, size_mb: int = SIZE_MB) -> Iterator[SmallDisk]:
    """A disk, while it is needed."""
    disk = SmallDisk(image, folder, size_mb)
    disk.make()
    try:
        yield disk
    finally:
        disk.unmount("--lazy")


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


def disk_full(*disks: SmallDisk) -> Inject:
    """Nothing more can be written there."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        ballast = [fill(disk.folder) for disk in disks]

        async def heal() -> None:
            for file in ballast:
                file.unlink()

        return heal

    return inject


def slow_disk(*servers: str) -> Inject:
    """Every fsync of these servers takes much longer."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        pids = [who.pid for name in servers for who in (park.stack.process(name), *park.stack.below(name))]
        tracer = _strace(pids, f"inject={SYNC}:delay_enter={SLOW_US}")

        async def heal() -> None:
            if tracer.poll() is not None:
                raise RuntimeError(f"strace ended by itself with {tracer.returncode}: no disk was slow")
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
    """Attached when this returns: strace says so.

    Raises:
        RuntimeError: it may not, or the process is gone.
    """
    # Every call of the server waits for strace twice: on a busy machine it must not wait for its turn as well.
    command = [tool("nice"), "-n", "-15", tool("strace"), "-f", "-o", "/dev/null", "-e", f"trace={SYNC}", "-e", what]
    for pid in pids:
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    said = tracer.stderr.readline().decode()
    if "attached" not in said:
        tracer.kill()
        tracer.wait()
        raise RuntimeError(f"strace cannot attach: {said.strip()}")
    return tracer


def power_cut(disks: Sequence[SmallDisk]) -> Inject:
    """The machine is without power: its processes and all that was not on its disks are gone. Then it boots. Which
    disk is the first to go dark is drawn."""

    async def inject(park: Park, chance: random.Random) -> Heal:
        everyone = park.stack.processes()
        for disk in chance.sample(disks, len(disks)):
            disk.cut_power()
        signal_all(everyone, signal.SIGKILL)

        async def heal() -> None:
            await asyncio.to_thread(_boot, disks, park)

        return heal

    return inject


def _boot(disks: Sequence[SmallDisk], park: Park) -> None:
    """Raises: TimeoutError: the park does not come up again, and why."""
    for disk in reversed(disks):
        _unmount_when_free(disk)
    for disk in disks:
        disk.mount()
    try:
        park.stack.up()
    except (AssertionError, subprocess.TimeoutExpired) as error:
        raise TimeoutError(f"does not start again after the power cut: {error}") from error


def _unmount_when_free(disk: SmallDisk) -> None:
    """Whoever was forked while the power went has files on the disk: they are told from everybody else's by that."""
    deadline = time.monotonic() + FREE_WITHIN_S
    while True:
        signal_all(using(disk.folder), signal.SIGKILL)
        try:
            return disk.unmount()
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def using(folder: Path) -> list[Identity]:
    """Processes with open files or their working directory in a folder that is a disk of its own."""
    others = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid())
    found = [
        identity(int(entry.name))
        for entry in others
        if any(Path(target).is_relative_to(folder) for target in _open_in(entry))
    ]
    return [who for who in found if who is not None]


def _open_in(process: Path) -> Iterator[str]:
    """Where a process' files are; a process that ends meanwhile has none."""
    with contextlib.suppress(OSError):
        for link in (process / "cwd", *(process / "fd").iterdir()):
            with contextlib.suppress(OSError):
                yield os.readlink(link)


def disk_faults(books: SmallDisk, ledger: SmallDisk) -> list[Fault]:
    """All of them, for an installation on two small disks: `ledger` is mounted in a folder of `books`."""
    return [
        Fault("slow-ledger-disk", "every fsync of the ledger takes 60 ms longer", slow_disk("valkey"), SLOW_S),
        Fault("slow-postgres-disk", "every fsync of Postgres takes 60 ms longer", slow_disk("postgres"), SLOW_S),
        Fault(
            "kill-valkey-writing", "the ledger is killed between a write and its fsync", killed_in_mid_write("valkey")
        ),
        Fault("disk-full", "both disks are full: ledger, books, logs", disk_full(books, ledger), FULL_S),
        Fault("ledger-disk-full", "the ledger's disk is full, all others are not", disk_full(ledger), FULL_S),
        Fault(
            "books-disk-full", "the disk of Postgres and logs is full, the ledger's is not", disk_full(books), FULL_S
        ),
        Fault(
            "power-cut",
            "the machine loses its power: no process, and nothing on the disks that was not synced; then it boots",
            power_cut((books, ledger)),
            DARK_S,
        ),
    ]
