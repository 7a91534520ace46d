"""The words between the session, which decides, and the client, which does: limits, instants and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from parkgate.gate.v1 import gate_pb2 as pb

MAX_SCANS_PER_FRAME = 1_000
MAX_PASSAGES_PER_FRAME = 1_000
"""Both are the protocol's."""
MAX_OPEN_WORK = 4_000
"""Scans waiting and passage reports kept, together: each scan may become a report, and no report may be lost. Some
minutes of 64 lanes; beyond it new scans are told RETRY at once."""
HEARTBEAT_AFTER_MS = 10_000
"""The protocol's: sent when nothing else was for this long."""
SILENCE_LIMIT_MS = 25_000
"""Two heartbeats unanswered, and some: the link is dead."""
GREETING_LIMIT_MS = 5_000
"""A gateway that accepts a stream and sends no Welcome within this is not well."""
RETRY_AFTER_RANGE_MS = (20, 2_000)
"""What the server asks for is kept within this: never a busy loop, never past a guest's patience."""


DISBELIEF_RECEIPTS = 5
"""A give-back may overtake the scan it is for (another link, a slow gateway): a receipt that there was no admission is
not believed, and the report sent again, for as long as so many receipts may take."""


@dataclass(frozen=True, slots=True)
class Instant:
    """Now, read once by the shell: a monotonic clock for time-outs, the wall clock for what others see."""

    monotonic_ms: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long to wait. `answer_ms` is a guest's patience; `reply_ms` is when the same scan is sent again."""

    answer_ms: int = 4_000
    reply_ms: int = 800
    receipt_ms: int = 2_000
    rescan_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Settled:
    """The verdict to show for a scan; exactly one for each submit."""

    verdict: pb.Verdict


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The link is open."""

    welcome: pb.Welcome


@dataclass(frozen=True, slots=True)
class Commanded:
    """The cluster asks for something."""

    command: pb.Command


@dataclass(frozen=True, slots=True)
class LinkDead:
    """The link must be closed and another opened."""

    why: str


Event = Settled | Welcomed | Commanded | LinkDead


class Link(Enum):
    """Where the link stands."""

    CLOSED = "closed"
    GREETING = "greeting"
    OPEN = "open"


@dataclass(slots=True)
class SessionStats:
    """Counts since the start, for the operator's eyes."""

    frames_sent: int = 0
    scans_sent: int = 0
    retries_told: int = 0
    given_back: int = 0
    reused: int = 0
