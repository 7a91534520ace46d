"""What happened in a simulated day, and one hash of it: two runs of one seed must agree on it to the last message."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable

PLAIN = 2
"""The version of marshal that writes equal values as equal bytes; later ones say which objects were shared."""


class Trace:
    """Notes events. `tell` hears each as a line, when somebody wants to read along."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._events: list[tuple[object, ...]] = []
        self._tell = tell

    def note(self, at_s: float, what: str, *details: object) -> None:
        """Notes one event. Details must not hold anything that differs from run to run (addresses, the real time)."""
        self._events.append((at_s, what, *details))
        if self._tell is not None:
            self._tell(f"{at_s:.6f} {what} {details}")

    @property
    def digest(self) -> str:
        """The hash so far."""
        return hashlib.sha256(marshal.dumps(self._events, PLAIN)).hexdigest()[:16]
