"""How much of a percentile or a share is chance. Pure.

Scans are not drawn one by one: a stall of a moment meets all that are due in it, and a day of 45 s has few such
moments. So what is drawn are the real seconds of the day. How much the share of slow scans differs from second to
second gives the standard error of that share (of a ratio of sums), and the percentiles two standard errors to either
side are the range in which another day of the same system would lie 19 times of 20.

Source: R. S. Woodruff, Confidence Intervals for Medians and Other Position Measures, JASA 47 (1952).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from loadtest.surge.samples import percentile

ERRORS = 2.0
"""Standard errors to either side."""
LEAST_SECONDS = 10
"""With scans in them: from fewer nothing can be said of how much they differ."""

Range = tuple[float, float | None]
"""None: without a bound, as where one or two stalls make all of the last hundredth."""


def of_percentile(values: Sequence[float], seconds: Sequence[int], share: float) -> Range | None:
    """The range of a percentile; `seconds` says in which one each value was. None: too few to say."""
    ordered = sorted(values)
    edge = percentile(ordered, share)
    error = _error(values, seconds, lambda value: value > edge)
    if error is None:
        return None
    error = max(error, sqrt(share * (1 - share) / len(values)))
    low, high = max(share - ERRORS * error, 0.0), share + ERRORS * error
    return percentile(ordered, low), percentile(ordered, high) if high < 1 else None


def of_share(values: Sequence[float], seconds: Sequence[int], limit: float) -> tuple[float, float] | None:
    """The range of the share of the values that are within a limit. None: too few to say."""
    error = _error(values, seconds, lambda value: value > limit)
    if error is None:
        return None
    within = sum(value <= limit for value in values) / len(values)
    return max(within - ERRORS * error, 0.0), min(within + ERRORS * error, 1.0)


def _error(values: Sequence[float], seconds: Sequence[int], slow: Callable[[float], bool]) -> float | None:
    """The standard error of the share that is slow."""
    counts: dict[int, list[int]] = {}
    for value, second in zip(values, seconds, strict=True):
        count = counts.setdefault(second, [0, 0])
        count[0] += slow(value)
        count[1] += 1
    if len(counts) < LEAST_SECONDS:
        return None
    share = sum(part for part, _ in counts.values()) / len(values)
    squares = sum((part - share * whole) ** 2 for part, whole in counts.values())
    return sqrt(squares * len(counts) / (len(counts) - 1)) / len(values)
