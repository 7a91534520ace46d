"""Checks of the system, of Python and of what the packages brought."""

import difflib
import os
import platform
import subprocess
import sys
from pathlib import Path

from ops.doctor.finding import Finding, fault, ok, warning
from ops.embedded import postgres as pg
from ops.embedded import valkey as vk
from ops.embedded.account import choose_account
from ops.errors import OpsError
from ops.settings import PREFIX, Settings

PYTHON_FROM, PYTHON_BEFORE = (3, 11), (3, 14)
OTHER_VARIABLES = ("CONFIG", "DEBUG", "SUPERVISED")


def operating_system(_settings: Settings) -> Finding:
    system, arch = platform.system(), platform.machine()
    name = platform.freedesktop_os_release().get("PRETTY_NAME", system) if system == "Linux" else system
    if system != "Linux" or arch not in ("x86_64", "aarch64"):
        return fault(f"{name} on {arch}", "Use Linux on x86_64 or aarch64, for example Debian 12 or Ubuntu 24.04.")
    return ok(f"{name} on {arch}, kernel {platform.release()}")


def python(_settings: Settings) -> Finding:
    found = f"Python {platform.python_version()} at {sys.executable}"
    if not PYTHON_FROM <= sys.version_info[:2] < PYTHON_BEFORE:
        return fault(found, "Install Parkgate with Python 3.11, 3.12 or 3.13.")
    return ok(found)


def postgres(settings: Settings) -> Finding:
    if not settings.embedded_postgres:
        return ok("not used: PARKGATE_POSTGRES_URL names another")
    try:
        program = pg.binary("postgres")
        choose_account(_existing(settings.data_dir), program)
    except OpsError as error:
        return fault(error.message, error.mend)
    return _runs(program, "PARKGATE_POSTGRES_URL")


def valkey(settings: Settings) -> Finding:
    if not settings.embedded_ledger:
        return ok("not used: PARKGATE_LEDGER_URL names another")
    try:
        return _runs(vk.binary(), "PARKGATE_LEDGER_URL")
    except OpsError as error:
        return fault(error.message, error.mend)


def time_zones(_settings: Settings) -> Finding:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo("Asia/Shanghai")
    except zoneinfo.ZoneInfoNotFoundError:
        return fault("no time zone data", "Install the package tzdata, or reinstall Parkgate.")
    return ok(f"{len(zoneinfo.available_timezones())} zones")


def unknown_variables(_settings: Settings) -> Finding:
    """A misspelt variable is silently without effect: here is where it shows."""
    known = {PREFIX + name.upper() for name in (*Settings.model_fields, *OTHER_VARIABLES)}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if not unknown:
        return ok("valid; no unknown PARKGATE_* variable")
    near = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "`parkgate config show` lists what there is."
    return warning(f"{', '.join(unknown)} has no effect", hint)


def _runs(program: Path, instead: str) -> Finding:
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return fault(f"{program} does not run: {error}", f"Reinstall Parkgate, or set {instead}.")
    if done.returncode != 0:
        return fault(f"{program} does not run: {done.stderr.strip()[-200:]}", f"Reinstall Parkgate, or set {instead}.")
    return ok(" ".join(done.stdout.split()[:3]))


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
