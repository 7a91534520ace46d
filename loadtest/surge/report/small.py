"""Small multiples: one little chart a gate, all on the same scale, so that gates are compared at a glance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from loadtest.surge.clock import of_day
from loadtest.surge.report.charts import hours, short

WIDTH, HEIGHT = 300, 84
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 18
MOST_TIMES = 4


@dataclass(frozen=True, slots=True)
class Small:
    """What is drawn. `most` is the highest value of all that stand side by side; `limit` a level that matters, drawn
    where one of them reaches it."""

    title: str
    unit: str
    at_s: Sequence[float]
    values: Sequence[float]
    most: float
    colour: int = 1
    digits: int = 0
    limit: float | None = None

    def x(self, at_s: float) -> float:
        """Pixels of a time."""
        first, last = self.at_s[0], self.at_s[-1]
        return LEFT + (at_s - first) / max(last - first, 1e-9) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels of a value."""
        return HEIGHT - BOTTOM - value / max(self.most, 1e-9) * (HEIGHT - TOP - BOTTOM)


def draw_small(chart: Small) -> Markup:
    """The chart, without a legend: what stands around it says what it shows."""
    points = [f"{chart.x(at_s):.1f},{chart.y(value):.1f}" for at_s, value in zip(chart.at_s, chart.values, strict=True)]
    line = " ".join(points)
    left, right, floor = f"{chart.x(chart.at_s[0]):.1f}", f"{chart.x(chart.at_s[-1]):.1f}", HEIGHT - BOTTOM
    return Markup(  # noqa: S704
        "".join(
            [
                f'<svg class="mini" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}" '
                f"data-chart='{_data(chart)}'>",
                *_grid(chart),
                f'<polygon class="c{chart.colour} area" points="{left},{floor} {line} {right},{floor}"/>',
                f'<polyline class="line s{chart.colour}" points="{line}"/>',
                f'<line class="cursor" y1="{TOP}" y2="{floor}"/></svg>',
            ]
        )
    )


def _data(chart: Small) -> str:
    """What the page's script reads out, as of a large chart."""
    values = [f"{value:,.{chart.digits}f} {chart.unit}" for value in chart.values]
    found = {
        "x": [round(chart.x(at_s), 1) for at_s in chart.at_s],
        "t": [of_day(at_s) for at_s in chart.at_s],
        "s": [{"n": "", "c": chart.colour, "v": values}],
    }
    return str(escape(json.dumps(found, separators=(",", ":"))))


def _grid(chart: Small) -> Iterator[str]:
    for value in (0.0, chart.most) if chart.most else (0.0,):
        y = chart.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{short(round(value, 1))}</text>'
    if chart.limit is not None and chart.limit <= chart.most:
        y = chart.y(chart.limit)
        yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    times = hours(chart.at_s[0], chart.at_s[-1])
    for at_s in times[:: -(-len(times) // MOST_TIMES)]:
        yield (
            f'<text class="tick" x="{chart.x(at_s):.1f}" y="{HEIGHT - 4}" text-anchor="middle">{of_day(at_s)}</text>'
        )
