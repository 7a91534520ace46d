"""What a running stack says of itself: `run/state.json`, written atomically by the supervisor, read by everybody else.

A pid is always kept with its start time, so that nobody signals a stranger who got the pid later.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ops.files import write_atomic
from ops.processes import Identity, is_alive


class Stage(StrEnum):
    """Of one process: waiting → starting → running; after a death backoff → starting; at the end stopping → stopped."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Phase(StrEnum):
    """Of the whole stack."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process. `since` is the Unix time of its last start; `detail` says what went wrong last."""

    name: str
    stage: Stage
    who: Identity | None = None
    since: float = 0.0
    restarts: int = 0
    healthy: bool = False
    ports: Mapping[str, int] = field(default_factory=dict)
    detail: str = ""
    ready_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StackState:
    """The whole stack, as its supervisor sees it."""

    phase: Phase
    supervisor: Identity
    processes: tuple[ProcessState, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    mend: str = ""

    @property
    def alive(self) -> bool:
        """Whether its supervisor still runs; after a SIGKILL of that the file is old news."""
        return is_alive(self.supervisor)


def path(data_dir: Path) -> Path:
    return data_dir / "run" / "state.json"


def write(data_dir: Path, state: StackState) -> None:
    write_atomic(path(data_dir), json.dumps(dataclasses.asdict(state), indent=1).encode())


def read(data_dir: Path) -> StackState | None:
    """The last state written; `None` when there is none or the file is no state of this version."""
    try:
        fields = json.loads(path(data_dir).read_bytes())
        return _stack(fields)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _stack(fields: dict[str, Any]) -> StackState:
    processes = tuple(
        ProcessState(**{**one, "stage": Stage(one["stage"]), "who": Identity(**one["who"]) if one["who"] else None})
        for one in fields["processes"]
    )
    supervisor = Identity(**fields["supervisor"])
    return StackState(**{**fields, "phase": Phase(fields["phase"]), "supervisor": supervisor, "processes": processes})
