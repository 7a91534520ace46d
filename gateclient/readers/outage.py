"""When a device that is away is spoken of: at once, ever more seldom, and when it is back. Holds no clock."""

from __future__ import annotations

from collections.abc import Callable

REPORT_AFTER_S = (60.0, 3_600.0)
"""The first and the longest time from one report to the next: minutes while somebody may be looking, then hourly."""


class Outage:
    """One device's absences, told to `warn`, and its returns, told to `inform`."""

    def __init__(self, name: str, warn: Callable[[str], None], inform: Callable[[str], None]) -> None:
        self._name = name
        self._warn = warn
        self._inform = inform
        self._began_s: float | None = None
        self._next_s = 0.0
        self._interval_s = 0.0

    def missing(self, error: object, now_s: float) -> None:
        """It could not be had, again or for the first time."""
        if self._began_s is None:
            self._began_s, self._interval_s = now_s, REPORT_AFTER_S[0]
            self._next_s = now_s + self._interval_s
            self._warn(f"{self._name} is not there; it is taken up as soon as it is: {error}")
        elif now_s >= self._next_s:
            self._interval_s = min(self._interval_s * 2, REPORT_AFTER_S[1])
            self._next_s = now_s + self._interval_s
            self._warn(f"{self._name} is still not there after {now_s - self._began_s:.0f} s: {error}")

    def back(self, now_s: float) -> None:
        """It is there; said only where it was missed."""
        if self._began_s is not None:
            self._inform(f"{self._name} is back after {now_s - self._began_s:.0f} s")
            self._began_s = None
