"""The checks of `parkgate doctor`. Each looks at one thing and says ok, warning or fault, and how to mend it.

A check never changes the machine and never raises for what it finds: what it cannot look at is a finding, too.
"""

from collections.abc import Callable
from dataclasses import replace

from ops.doctor import clock, devices, machine, network, software
from ops.doctor.finding import Finding, Level, fault
from ops.settings import Settings

Check = Callable[[Settings], Finding]

CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("software", "operating system", software.operating_system),
    ("software", "Python", software.python),
    ("software", "embedded Postgres", software.postgres),
    ("software", "embedded Valkey", software.valkey),
    ("software", "time zone data", software.time_zones),
    ("software", "settings", software.unknown_variables),
    ("machine", "data folder", machine.data_folder),
    ("machine", "secrets", machine.secrets_private),
    ("machine", "disk space", machine.disk_space),
    ("machine", "disk sync", machine.sync_latency),
    ("machine", "memory", machine.memory),
    ("machine", "shared memory", machine.shared_memory),
    ("machine", "open files", machine.open_files),
    ("network", "ports", network.ports_free_or_ours),
    ("network", "Postgres", network.postgres),
    ("network", "ledger", network.ledger),
    ("clock", "synchronised", clock.synchronised),
    ("clock", "agrees with Postgres", clock.agrees_with_postgres),
    ("clock", "agrees with the ledger", clock.agrees_with_ledger),
    ("devices", "printers", devices.printers),
    ("devices", "serial readers", devices.serial_readers),
    ("devices", "smart cards", devices.smart_cards),
)


def examine(settings: Settings) -> list[Finding]:
    """Every check, in order."""
    return [_run(area, name, check, settings) for area, name, check in CHECKS]


def _run(area: str, name: str, check: Check, settings: Settings) -> Finding:
    try:
        found = check(settings)
    except Exception as error:  # noqa: BLE001 - a check that breaks is a fault to show; the others still run
        found = fault(f"the check broke: {type(error).__name__}: {error}", "Report it with this text.")
    return replace(found, area=area, name=name)


__all__ = ["CHECKS", "Finding", "Level", "examine"]
