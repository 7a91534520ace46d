"""What happened in a simulated day, and one hash of it: two runs of one seed must agree on it to the last message."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class Trace:
    """Notes events. `tell` hears each as a line, when somebody wants to read along."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._lines: list[str] = []
        self._tell = tell

    def note(self, at_s: float, what: str, *details: object) -> None:
        """Notes one event. Details must not hold anything that differs from run to run (addresses, the real time)."""
        line = f"{at_s:.6f} {what} {details}"
        self._lines.append(line)
        if self._tell is not None:
            self._tell(line)

    @property
    def digest(self) -> str:
        """The hash so far."""
        return hashlib.sha256("".join(self._lines).encode()).hexdigest()[:16]
