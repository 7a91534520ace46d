"""Runs one or more gates on a source of codes: what `parkgate gate run` does, as a function."""

from __future__ import annotations

import asyncio
import itertools
import sys
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console

from gateclient.barriers import Barrier, ConsoleBarrier, SimulatedTurnstile
from gateclient.client import GateClient, LinkConfig
from gateclient.credentials import load_credentials
from gateclient.display import Display, JsonDisplay, PanelDisplay
from gateclient.link_events import SessionLimits
from gateclient.readers import FileReader, ReadCode, Reader, open_source
from gateclient.scans import LaneSetting
from gateclient.turnstile import LaneHabits, Tally, Turnstile
from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.errors import InvalidInputsError

MAX_GATES = 64
"""The protocol's, for one stream."""
SERIAL_DEBOUNCE_MS = 1_500
GUEST_SHOWS_AGAIN = 5
"""How often the guests of a file or a simulation show a code again when they are told to."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Everything a gate is run with. `servers` are `host:port`; without `time_zone` the park's own is taken."""

    gate_ids: tuple[str, ...]
    servers: tuple[str, ...]
    cert_dir: Path
    source: str
    exits: bool = False
    persons: int = 0
    as_json: bool = False
    report_passages: bool = True
    proof_seen: bool = False
    debounce_ms: int | None = None
    not_passed_share: float = 0.0
    seed: int = 1
    pause_s: float = 0.05
    patience_s: float = 4.0
    connect_s: float = 15.0
    time_zone: str = ""
    server_name: str = ""


@dataclass(slots=True)
class GateSummary:
    """How a run ended. `succeeded` means that every code read was decided, and every passage is in the books."""

    tally: Tally = field(default_factory=Tally)
    problems: list[str] = field(default_factory=list)
    unreceipted: int = 0

    @property
    def succeeded(self) -> bool:
        """See the class."""
        return not (self.problems or self.unreceipted or self.tally.undecided)


async def run_gate(
    config: GateConfig, stop: asyncio.Event | None = None, display: Display | None = None, reader: Reader | None = None
) -> GateSummary:
    """Reads codes and has them decided until the source ends or `stop` is set; then waits for receipts.

    Raises:
        InvalidInputError: the configuration, the source or the certificate folder is not as it must be.
        NotPermittedError: the cluster refuses this device for these gates.
        UnavailableError: no gateway could be reached at the start. Later the gate goes on by itself.
    """
    check_config(config)
    display = display or _display_of(config)
    reader = reader or open_source(config.source, config.seed, config.pause_s)
    link = LinkConfig(
        gate_ids=config.gate_ids,
        addresses=config.servers,
        credentials=load_credentials(config.cert_dir),
        server_name=config.server_name,
        limits=SessionLimits(answer_ms=int(config.patience_s * 1000)),
    )
    client = GateClient(link, on_link=display.link, on_command=display.command)
    summary = GateSummary()
    try:
        await client.start(config.connect_s)
        lanes = _lanes(config, client, display, summary.tally)
        await _serve(lanes, reader, client, stop or asyncio.Event(), summary)
    finally:
        summary.unreceipted = await client.close()
    if isinstance(reader, FileReader):
        summary.problems += reader.problems
    for problem in summary.problems:
        display.problem(problem)
    if client.refusal is not None:
        raise client.refusal
    return summary


def check_config(config: GateConfig) -> None:
    """Checks what can be checked without a network; all problems at once.

    Raises:
        InvalidInputsError: names each.
    """
    problems = []
    if not 1 <= len(config.gate_ids) <= MAX_GATES:
        problems.append(f"{len(config.gate_ids)} gates were given; a stream speaks for 1 to {MAX_GATES}")
    if len(set(config.gate_ids)) != len(config.gate_ids):
        problems.append("the same gate was given twice")
    problems += [fault for server in config.servers if (fault := _server_fault(server))]
    if not config.servers:
        problems.append("no server was given; use --server HOST:PORT")
    if not 0 <= config.persons <= 64:
        problems.append(f"persons must be 0 (all who are due) to 64, not {config.persons}")
    if not 0.2 <= config.patience_s <= 60:
        problems.append(f"patience must be 0.2 to 60 seconds, not {config.patience_s:g}")
    try:
        _time_zone(config.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        problems.append(f"there is no time zone {config.time_zone!r}; give a name like Europe/Paris")
    if problems:
        raise InvalidInputsError("gate", problems)


def _server_fault(server: str) -> str:
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isdigit() and 1 <= int(port) <= 65_535):
        return f"server {server!r} is not HOST:PORT, for example gateway.park.example:7443"
    return ""


def _time_zone(name: str) -> tzinfo | None:
    return ZoneInfo(name) if name else None


def _display_of(config: GateConfig) -> Display:
    zone = _time_zone(config.time_zone)
    return JsonDisplay(sys.stdout, zone) if config.as_json else PanelDisplay(Console(), zone)


def _lanes(config: GateConfig, client: GateClient, display: Display, tally: Tally) -> list[Turnstile]:
    is_device = config.source.startswith("serial:")
    debounce_ms = config.debounce_ms if config.debounce_ms is not None else SERIAL_DEBOUNCE_MS * is_device
    direction = pb.DIRECTION_EXIT if config.exits else pb.DIRECTION_ENTRY
    habits = LaneHabits(
        debounce_ms=debounce_ms,
        shown_again=0 if is_device or config.source == "stdin" else GUEST_SHOWS_AGAIN,
        proof_seen=config.proof_seen,
        report_passages=config.report_passages,
    )
    return [
        Turnstile(
            gate_id=gate_id,
            setting=LaneSetting(lane, direction, config.persons),
            habits=habits,
            checker=client,
            barrier=_barrier(config, lane),
            display=display,
            tally=tally,
        )
        for lane, gate_id in enumerate(config.gate_ids)
    ]


def _barrier(config: GateConfig, lane: int) -> Barrier:
    if config.not_passed_share:
        return SimulatedTurnstile(config.seed + lane, config.not_passed_share)
    return ConsoleBarrier()


async def _serve(
    lanes: list[Turnstile], reader: Reader, client: GateClient, stop: asyncio.Event, summary: GateSummary
) -> None:
    """Hands codes to lanes until the source ends; a lane finishes the guest it has."""
    queues: dict[str, asyncio.Queue[ReadCode | None]] = {lane.gate_id: asyncio.Queue(1) for lane in lanes}
    workers = [asyncio.create_task(_work(lane, queues[lane.gate_id])) for lane in lanes]
    feeder = asyncio.create_task(_feed(reader, queues, summary))
    ends = [asyncio.ensure_future(waited) for waited in (stop.wait(), client.wait_refused())]
    try:
        await asyncio.wait([feeder, *workers, *ends], return_when=asyncio.FIRST_COMPLETED)
        for task in (feeder, *workers):
            if task.done():
                task.result()
        feeder.cancel()
        if client.refusal is None:
            await asyncio.gather(*(queue.put(None) for queue in queues.values()))
            await asyncio.gather(*workers)
    finally:
        for unneeded in (feeder, *workers, *ends):
            unneeded.cancel()
        await asyncio.gather(feeder, *workers, *ends, return_exceptions=True)


async def _feed(reader: Reader, queues: dict[str, asyncio.Queue[ReadCode | None]], summary: GateSummary) -> None:
    """A code that names no gate goes to the next lane in turn."""
    turn = itertools.cycle(queues)
    async for code in reader.codes():
        gate_id = code.gate_id or next(turn)
        if gate_id in queues:
            await queues[gate_id].put(code)
        else:
            summary.problems.append(f"{code.origin}: gate {gate_id!r} is not one of {', '.join(queues)}")


async def _work(lane: Turnstile, queue: asyncio.Queue[ReadCode | None]) -> None:
    while (code := await queue.get()) is not None:
        await lane.handle(code)
