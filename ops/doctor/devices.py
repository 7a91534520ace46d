"""Checks of what a window or a gate plugs in. A machine without such devices is well: only what is there and cannot be
used is a finding."""

import os
import shutil
import subprocess
from pathlib import Path

from ops.doctor.finding import Finding, ok, warning
from ops.settings import Settings

PCSCD_SOCKET = Path("/run/pcscd/pcscd.comm")


def printers(_settings: Settings) -> Finding:
    direct = sorted(str(path) for path in (*Path("/dev/usb").glob("lp*"), *Path("/dev").glob("lp[0-9]*")))
    closed = [path for path in direct if not os.access(path, os.W_OK)]
    if closed:
        return warning(
            f"{', '.join(closed)} cannot be written", "Let this user in: adduser USER lp, then log in again."
        )
    queues = _cups_queues()
    if queues is None and not direct:
        return ok("none found; a sales window that prints wants a USB receipt printer or CUPS")
    if not queues and not direct:
        return warning("CUPS runs without a printer", "Add one: lpadmin, or http://localhost:631.")
    return ok(", ".join([*direct, *(queues or [])]))


def serial_readers(_settings: Settings) -> Finding:
    from serial.tools import list_ports

    found = [port for port in list_ports.comports() if port.hwid != "n/a"]
    if not found:
        return ok("none found; scanners that act as keyboards need none")
    closed = [port.device for port in found if not os.access(port.device, os.R_OK | os.W_OK)]
    if closed:
        return warning(
            f"{', '.join(closed)} cannot be opened", "Let this user in: adduser USER dialout, then log in again."
        )
    return ok(", ".join(f"{port.device} ({port.description})" for port in found))


def smart_cards(_settings: Settings) -> Finding:
    if PCSCD_SOCKET.exists():
        return ok("pcscd runs")
    if shutil.which("pcscd") is None:
        return ok("pcscd is not installed; only readers of smart cards need it")
    return warning("pcscd is installed and does not run", "Start it: systemctl enable --now pcscd.socket.")


def _cups_queues() -> list[str] | None:
    """The names of CUPS' printers; `None` where CUPS is not installed or does not run."""
    program = shutil.which("lpstat")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-e"], capture_output=True, text=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.split() if done.returncode == 0 else None
