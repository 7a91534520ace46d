"""The rehearsed day against the wall's clock: which instant of one is which of the other. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DayClock:
    """`start` is the monotonic instant at which the day stands at `starts_s`; `speed` is day seconds a second."""

    start: float
    starts_s: float
    speed: float

    def wall(self, day_s: float) -> float:
        """The monotonic instant of a time of the day."""
        return self.start + (day_s - self.starts_s) / self.speed

    def day(self, wall: float) -> float:
        """The time of the day at a monotonic instant."""
        return self.starts_s + (wall - self.start) * self.speed


def of_day(day_s: float) -> str:
    """As a clock shows it: 09:30."""
    minutes = int(day_s // 60) % (24 * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
