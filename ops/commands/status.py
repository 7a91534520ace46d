"""`parkgate status`: what runs, since when, and how well."""

import time
from typing import TYPE_CHECKING

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.processes import Identity
    from ops.settings import Settings
    from ops.state import ProcessState, StackState
    from parkgate.cluster.v1.control_pb2 import GetStatusResponse
    from parkgate.sales.v1.sales_pb2 import GetCatalogueResponse

BACKLOG_SHOWN_PERCENT = 50
ANSWER_S = 2.0
COLOURS = {"running": "green", "starting": "yellow", "waiting": "yellow", "backoff": "red", "stopping": "yellow"}


def status(data_dir: DataDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """Every process with its state, uptime, restarts, memory and ports; what of the ledger is damaged; and a catalogue
    that gates do not decide by yet.

    Exit code 0 when all is well, 1 when something is not, or nothing runs.
    """
    import asyncio

    from ops import state
    from ops.commands.options import settings

    chosen = settings(data_dir, config)
    folder = chosen.data_dir
    now = state.read(folder)
    running = now is not None and now.alive
    cluster, catalogue = asyncio.run(_ask_both(chosen)) if running else (None, None)
    if as_json:
        _print_json(now if running else None, cluster, catalogue)
    elif now is None or not running:
        from ops.screen import OUT

        OUT.print(f"Nothing runs on {folder}. Start it with [cyan]parkgate up[/cyan].")
    else:
        from ops.screen import show_pending

        _print_table(now)
        _print_damage(cluster)
        _print_backlog(cluster)
        if catalogue is not None:
            show_pending(catalogue.catalogue_version, catalogue.pending)
    well = running and now is not None and all(one.healthy for one in now.processes)
    well = well and not _damage(cluster) and not (catalogue is not None and catalogue.pending)
    raise typer.Exit(0 if well else 1)


def _print_table(now: "StackState") -> None:
    from rich.markup import escape

    from ops.screen import OUT, duration, size, table

    rows = table(
        ["Process", "State", "Pid", "Uptime", "Restarts", "Memory", "Ports", "Detail"], ["Pid", "Restarts", "Memory"]
    )
    rows.add_row(
        "supervisor", _coloured(now.phase.value), str(now.supervisor.pid), "", "", size(memory(now.supervisor)), "", ""
    )
    for one in now.processes:
        rows.add_row(
            one.name,
            _state(one),
            str(one.who.pid) if one.who else "-",
            duration(time.time() - one.since) if one.who else "-",
            str(one.restarts),
            size(memory(one.who)) if one.who else "-",
            ", ".join(str(port) for port in one.ports.values()),
            escape(one.detail),
        )
    OUT.print(rows)


async def _ask_both(chosen: "Settings") -> "tuple[GetStatusResponse | None, GetCatalogueResponse | None]":
    """What the cluster says of itself, and sales of the catalogue; None for who does not answer, which the table says
    already."""
    import asyncio

    cluster, catalogue = await asyncio.gather(_ask_cluster(chosen), _ask_sales(chosen), return_exceptions=True)
    return (
        None if isinstance(cluster, BaseException) else cluster,
        None if isinstance(catalogue, BaseException) else catalogue,
    )


async def _ask_cluster(chosen: "Settings") -> "GetStatusResponse":
    from ops import clients
    from parkgate.cluster.v1 import control_pb2

    async with clients.control(chosen) as stub:
        return await stub.GetStatus(control_pb2.GetStatusRequest(), timeout=ANSWER_S)


async def _ask_sales(chosen: "Settings") -> "GetCatalogueResponse":
    from ops import clients
    from parkgate.sales.v1 import sales_pb2

    async with clients.sales(chosen) as stub:
        return await stub.GetCatalogue(sales_pb2.GetCatalogueRequest(), timeout=ANSWER_S)


def _damage(cluster: "GetStatusResponse | None") -> dict[str, str]:
    """Why partitions are stopped, by name."""
    return {one.partition: one.damage for one in cluster.partitions if one.damage} if cluster is not None else {}


def _print_damage(cluster: "GetStatusResponse | None") -> None:
    from rich.markup import escape

    from ops.screen import OUT

    for name, damage in _damage(cluster).items():
        OUT.print(
            f"[red]Partition {name} is stopped: {escape(damage)}.[/red] All others go on. Restore the last backup "
            "of the park, or what is damaged: it is looked at again every five minutes."
        )


def _print_backlog(cluster: "GetStatusResponse | None") -> None:
    """How far reporting is behind, when it is: nothing else on the screen says that the ledger grows."""
    from ops.screen import OUT, size

    if cluster is None:
        return
    used, limit = cluster.unreported_bytes, cluster.unreported_limit_bytes
    percent = used * 100 // max(limit, 1)
    if percent >= BACKLOG_SHOWN_PERCENT:
        OUT.print(
            f"[red]Reporting is behind by {size(used)} of the ledger, {percent} % of the limit of {size(limit)}.[/red] "
            "Gates go on. Bring Postgres back, or give the ledger more memory."
        )


def _print_json(
    now: "StackState | None", cluster: "GetStatusResponse | None", catalogue: "GetCatalogueResponse | None"
) -> None:
    import dataclasses
    import json

    if now is None:
        print(json.dumps({"phase": "stopped", "processes": []}))
        return
    pending = catalogue.pending if catalogue is not None else ""
    fields = dataclasses.asdict(now) | {"damage": _damage(cluster), "catalogue_pending": pending}
    for fields_of_one, one in zip(fields["processes"], now.processes, strict=True):
        fields_of_one["memory_bytes"] = memory(one.who) if one.who else 0
        fields_of_one["uptime_s"] = round(time.time() - one.since, 1) if one.who else 0.0
    print(json.dumps(fields, indent=1))


def memory(who: "Identity") -> int:
    """Resident bytes of the process and all below it; a shared page counts once where the kernel says so."""
    import psutil

    total = 0
    try:
        top = psutil.Process(who.pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            total += one.memory_info().rss
    return total


def _state(one: "ProcessState") -> str:
    if one.stage.value == "running" and not one.healthy:
        return "[red]not answering[/red]"
    return _coloured(one.stage.value)


def _coloured(text: str) -> str:
    return f"[{COLOURS.get(text, 'white')}]{text}[/]"
