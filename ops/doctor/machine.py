"""Checks of the machine: disk, memory, limits."""

import os
import resource
import shlex
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from ops.doctor.finding import Finding, fault, ok, warning
from ops.embedded.ray_node import OBJECT_STORE_BYTES
from ops.screen import size
from ops.settings import Settings

GB = 10**9
DISK_FAULT, DISK_WARNING = 1 * GB, 5 * GB
"""A busy day writes some 200 MB of log and events; Postgres and the ledger's rewrite need room for a copy."""
MEMORY_FAULT, MEMORY_WARNING = 1 * GB, 2 * GB
"""The whole stack with Ray takes about 1.5 GB."""
SYNCS = 20
SYNC_WARNING_MS = 10.0
"""Every verdict waits for one sync: an SSD takes 0.1 to 2 ms, a spinning disk 10 and more."""
FILES_NEEDED = 4096
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - Ray's place, which is only measured
OTHERS = 0o077
"""The rights that nobody but the owner of a secret may have."""
IN_MEMORY = ("tmpfs", "ramfs")


def data_folder(settings: Settings) -> Finding:
    folder = _existing(settings.data_dir)
    if not os.access(folder, os.W_OK | os.X_OK):
        return fault(f"{folder} cannot be written by this user", "Choose another (--data-dir) or change its owner.")
    kind = _filesystem(folder)
    if kind in IN_MEMORY:
        return warning(
            f"{folder} is in memory ({kind})", "Choose a folder on a disk: this one is empty after a reboot."
        )
    return ok(f"{settings.data_dir} ({kind})")


def secrets_private(settings: Settings) -> Finding:
    folder = settings.data_dir / "secrets"
    try:
        if not folder.exists():
            return ok("none yet: the first start makes them")
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        open_ = [path for path in files if path.stat().st_mode & OTHERS]
    except OSError as error:
        return warning(f"{folder} cannot be looked at: {error.strerror}", "Run this as the user who runs Parkgate.")
    if open_:
        names = " ".join(shlex.quote(str(path)) for path in open_)
        return warning(f"others may read or change {', '.join(path.name for path in open_)}", f"chmod 600 {names}")
    return ok(f"{folder}, for its owner only")


def disk_space(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.data_dir)).free
    if free < DISK_FAULT:
        return fault(f"{size(free)} free", "Free some space, or move the data folder to a larger disk (--data-dir).")
    if free < DISK_WARNING:
        return warning(f"{size(free)} free", "Free some space soon: 5 GB is comfortable for a season.")
    return ok(f"{size(free)} free")


def sync_latency(settings: Settings) -> Finding:
    folder = _existing(settings.data_dir)
    try:
        times = _sync_times_ms(folder)
    except OSError as error:
        return fault(f"cannot write in {folder}: {error.strerror}", "Choose another data folder (--data-dir).")
    found = f"median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms, of {SYNCS}"
    if statistics.median(times) > SYNC_WARNING_MS:
        return warning(found, "Use an SSD or a disk controller with a protected cache: each verdict waits for a sync.")
    return ok(found)


def memory(_settings: Settings) -> Finding:
    now = psutil.virtual_memory()
    found = f"{size(now.available)} of {size(now.total)} available"
    if now.available < MEMORY_FAULT:
        return fault(found, "End other programs or add memory: the stack takes about 1.5 GB.")
    if now.available < MEMORY_WARNING:
        return warning(found, "End other programs or add memory: the stack takes about 1.5 GB and grows with its day.")
    return ok(found)


def shared_memory(settings: Settings) -> Finding:
    if not settings.embedded_ray:
        return ok("not used: PARKGATE_RAY_ADDRESS names a cluster")
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < OBJECT_STORE_BYTES:
        return warning(
            f"{SHARED_MEMORY} has {size(free)} free, Ray wants {size(OBJECT_STORE_BYTES)}",
            "Enlarge it (in Docker: --shm-size=256m); Ray uses slower files in /tmp otherwise.",
        )
    return ok(f"{SHARED_MEMORY} has {size(free)} free")


def open_files(_settings: Settings) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_NEEDED:
        how = "ulimit -n 65536" if hard >= FILES_NEEDED else "LimitNOFILE=65536 in its systemd unit, or limits.conf"
        return warning(
            f"{soft} allowed (at most {hard})", f"Raise the limit before the start: {how}. Each gate takes one."
        )
    return ok(f"{soft} allowed")


def _sync_times_ms(folder: Path) -> list[float]:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(os.urandom(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return times


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _filesystem(folder: Path) -> str:
    """The file system of the longest mount point above the folder."""
    real = folder.resolve()
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (real, *real.parents) if parent in mounts), "unknown")
