"""When guests come: an inhomogeneous Poisson process whose intensity follows the scenario's curve. Pure and seeded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import sqrt
from random import Random

from loadtest.surge.scenario import Point


class Curve:
    """The curve as a distribution of times: its area up to a time, and the time up to which an area lies."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points
        areas = [(right.at - left.at) * (left.weight + right.weight) / 2 for left, right in pairwise(points)]
        self._areas = [0.0, *accumulate(areas)]

    def time_at(self, share: float) -> float:
        """The time by which this share of everybody has come; 0 ≤ share < 1."""
        area = share * self._areas[-1]
        index = min(bisect_right(self._areas, area) - 1, len(self._points) - 2)
        left, right = self._points[index], self._points[index + 1]
        length = right.at - left.at
        return left.at + length * _share_of_trapezoid(left.weight, right.weight, (area - self._areas[index]) / length)

    def intensity(self, at: float) -> float:
        """How busy it is at a time, from 0 to 1, the busiest point."""
        highest = max(point.weight for point in self._points)
        for left, right in pairwise(self._points):
            if left.at <= at <= right.at:
                between = (at - left.at) / (right.at - left.at)
                return (left.weight + (right.weight - left.weight) * between) / highest
        return 0.0


def _share_of_trapezoid(left: float, right: float, area: float) -> float:
    """How far from the left (0 to 1) a trapezoid of width 1 has this area: left·x + (right - left)·x²/2 = area."""
    slope = right - left
    if abs(slope) < 1e-12:
        return min(area / left, 1.0) if left else 0.0
    root = sqrt(max(left * left + 2 * slope * area, 0.0))
    return min(max((root - left) / slope, 0.0), 1.0)


def arrivals(curve: Curve, count: int, random: Random) -> list[float]:
    """Times of so many arrivals, in order: of a Poisson process, given that it has `count` events on the day."""
    return sorted(curve.time_at(random.random()) for _ in range(count))
