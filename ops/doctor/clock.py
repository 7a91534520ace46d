"""Checks of the clock: tickets are valid by it, and every machine of a park must show the same time."""

import ctypes
import time
from datetime import UTC, datetime

from ops.doctor.finding import Finding, fault, ok, warning
from ops.doctor.network import ledger_client, postgres_link
from ops.settings import Settings

STA_UNSYNC = 0x0040
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
SKEW_WARNING_S, SKEW_FAULT_S = 0.5, 30.0
"""Half a second shows in no verdict; half a minute opens a slot too early and looks like a bad ticket to a gate."""
SYNCHRONISE = "Switch on time synchronisation: timedatectl set-ntp true, or install chrony."


def synchronised(_settings: Settings) -> Finding:
    now = datetime.now(UTC)
    if now < EARLIEST:
        return fault(f"the clock says {now:%Y-%m-%d %H:%M} UTC", f"Set the clock. {SYNCHRONISE}")
    state = _kernel_clock_synchronised()
    if state is None:
        return warning(f"{now:%Y-%m-%d %H:%M:%S} UTC; the kernel does not say whether it is synchronised", SYNCHRONISE)
    if not state:
        return warning(f"{now:%Y-%m-%d %H:%M:%S} UTC, not synchronised", SYNCHRONISE)
    return ok(f"{now:%Y-%m-%d %H:%M:%S} UTC, synchronised")


def agrees_with_postgres(settings: Settings) -> Finding:
    link = postgres_link(settings)
    if link is None:
        return ok("not looked at: Postgres does not run")
    with link:
        before = time.time()
        row = link.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        middle = (before + time.time()) / 2
    return _judged((row[0] if row else 0.0) - middle, "Postgres")


def agrees_with_ledger(settings: Settings) -> Finding:
    client = ledger_client(settings)
    if client is None:
        return ok("not looked at: the ledger does not run")
    with client:
        client.ping()  # the first call connects, which is no part of the clock
        before = time.time()
        seconds, micros = client.time()
        middle = (before + time.time()) / 2
    return _judged(seconds + micros / 1e6 - middle, "the ledger")


def _judged(skew_s: float, other: str) -> Finding:
    found = f"{other} is {abs(skew_s) * 1000:.0f} ms {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) > SKEW_FAULT_S:
        return fault(found, f"Set both clocks. {SYNCHRONISE}")
    return warning(found, SYNCHRONISE) if abs(skew_s) > SKEW_WARNING_S else ok(found)


def _kernel_clock_synchronised() -> bool | None:
    """By `adjtimex`, which every time service tells; `None` when the kernel does not answer."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = (ctypes.c_byte * 256)()  # struct timex, larger than any; modes = 0 only reads
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        return None
    # Of a 64-bit struct timex: modes int, offset long, freq long, maxerror long, esterror long, status int at byte 40.
    status = int.from_bytes(bytes(timex)[40:44], "little")
    return not status & STA_UNSYNC
