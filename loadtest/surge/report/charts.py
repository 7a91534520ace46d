"""Charts over the rehearsed day as inline SVG: light and dark by the page's colours, sharp on paper, readable without a
script. A chart's numbers are in it as JSON, for the page's script to read out under the pointer.

No charting library: the ones that draw without a network weigh megabytes a page, and what a day needs is lines, areas
and stacks over the same clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from loadtest.surge.clock import of_day

WIDTH, HEIGHT = 760, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 30
MOST_TICKS = 6
COLOURS = 9
"""Of the page's style, besides the quiet grey."""
ROW, LETTER = 15, 6.2
"""Names of marks stand in rows above the plot, where no series is: pixels from row to row, and about those a letter."""
Number = float | None
Pixels = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Line:
    """A series. `colour` counts from 1; 0: a quiet grey."""

    name: str
    values: Sequence[Number]
    colour: int = 1
    dashed: bool = False
    area: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A level that matters: a dashed line across, with its name."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A time that matters: a line down, with its name."""

    at_s: float
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. `stacked`: areas on top of each other. `log`: a logarithmic scale from 1 on."""

    title: str
    unit: str
    at_s: Sequence[float]
    lines: Sequence[Line]
    limits: Sequence[Limit] = ()
    marks: Sequence[Mark] = ()
    stacked: bool = False
    log: bool = False
    digits: int = 0


@dataclass(slots=True)
class _Scale:
    """From values to pixels."""

    first: float
    last: float
    top: float
    log: bool
    ticks: list[float] = field(default_factory=list)

    def x(self, at_s: float) -> float:
        """Of a time."""
        share = (at_s - self.first) / max(self.last - self.first, 1e-9)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Of a value."""
        share = math.log10(max(value, 1.0)) / math.log10(self.top) if self.log else value / self.top
        return HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)


def draw(chart: Chart) -> Markup:
    """The chart with its legend."""
    scale = _scale(chart)
    named = list(_named(chart, scale))
    above = ROW * max((one.row for one in named), default=0)
    marks = [text for one in named for text in _mark(one, above)]
    body = [*_grid(scale), *_series(chart, scale), *_limits(chart, scale), *marks]
    head = (
        f'<svg class="chart" viewBox="0 {-above} {WIDTH} {HEIGHT + above}" role="img" '
        f'aria-label="{escape(chart.title)}" '
        f"data-chart='{_data(chart, scale)}'>"
    )
    return Markup("".join([_legend(chart), head, *body, '<line class="cursor" y1="14" y2="220"/></svg>']))  # noqa: S704


def _data(chart: Chart, scale: _Scale) -> str:
    """What the script reads out: times as pixels and as texts, values by name."""
    found = {
        "x": [round(scale.x(at_s), 1) for at_s in chart.at_s],
        "t": [of_day(at_s) for at_s in chart.at_s],
        "s": [
            {
                "n": line.name,
                "c": line.colour,
                "v": [None if value is None else f"{value:,.{chart.digits}f}" for value in line.values],
            }
            for line in chart.lines
        ],
        "u": chart.unit,
    }
    return str(escape(json.dumps(found, separators=(",", ":"))))


def _scale(chart: Chart) -> _Scale:
    stacks = stacked(chart) if chart.stacked else [list(line.values) for line in chart.lines]
    highest = max((value for values in stacks for value in values if value is not None), default=1.0)
    highest = max([highest, *(limit.value for limit in chart.limits if _near(limit.value, highest))]) * 1.05
    first, last = (chart.at_s[0], chart.at_s[-1]) if chart.at_s else (0.0, 1.0)
    if chart.log:
        decades = max(math.ceil(math.log10(max(highest, 10.0))), 1)
        return _Scale(first, last, 10.0**decades, True, [10.0**n for n in range(decades + 1)])
    step = round_step(highest / MOST_TICKS)
    count = max(math.ceil(highest / step), 1)
    return _Scale(first, last, step * count, False, [step * n for n in range(count + 1)])


def _near(limit: float, highest: float) -> bool:
    """A limit far above everything would press the chart flat; it is told in words instead."""
    return limit <= highest * 4


def round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... that is not smaller."""
    if least <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= least * 0.999999)


def stacked(chart: Chart) -> list[list[Number]]:
    """The upper edge of each series on top of those before."""
    below = [0.0] * len(chart.at_s)
    edges: list[list[Number]] = []
    for line in chart.lines:
        below = [under + (value or 0.0) for under, value in zip(below, line.values, strict=True)]
        edges.append(list(below))
    return edges


def _legend(chart: Chart) -> str:
    items = [
        f'<span class="key k{line.colour}{" dashed" if line.dashed else ""}">{escape(line.name)}</span>'
        for line in chart.lines
    ]
    return f'<div class="legend">{"".join(items)}<span class="unit">{escape(chart.unit)}</span></div>'


def _grid(scale: _Scale) -> Iterator[str]:
    for value in scale.ticks:
        y = scale.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
    for number, at_s in enumerate(hours(scale.first, scale.last)):
        x = scale.x(at_s)
        minor = " minor" if number % 2 else ""  # a phone has no room for it
        yield f'<text class="tick{minor}" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{of_day(at_s)}</text>'
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>'


def hours(first: float, last: float) -> list[float]:
    """Round times between two, at most ten."""
    step = next((step for step in (600, 900, 1800, 3600, 7200, 14400) if (last - first) / step <= 10), 14400)
    at_s = math.ceil(first / step) * step
    return [float(value) for value in range(int(at_s), int(last) + 1, step)]


def short(value: float) -> str:
    """As an axis says it: 1.5k, 20, 0.5."""
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _series(chart: Chart, scale: _Scale) -> Iterator[str]:
    if chart.stacked:
        edges = stacked(chart)
        for number in range(len(edges) - 1, -1, -1):
            under: Sequence[Number] = edges[number - 1] if number else [0.0] * len(chart.at_s)
            yield _band(chart, scale, (edges[number], under), f"c{chart.lines[number].colour} stack")
        return
    for line in chart.lines:
        if line.area:
            yield _band(chart, scale, (line.values, [0.0] * len(line.values)), f"c{line.colour} area")
        dashed = " dashed" if line.dashed else ""
        for piece in pieces(chart.at_s, line.values):
            yield f'<polyline class="line s{line.colour}{dashed}" points="{_points(piece, scale)}"/>'
            if len(piece) == 1:
                x, y = scale.x(piece[0][0]), scale.y(piece[0][1])
                yield f'<circle class="c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'


def pieces(at_s: Sequence[float], values: Sequence[Number]) -> list[list[tuple[float, float]]]:
    """The line, broken where there is no value."""
    found: list[list[tuple[float, float]]] = [[]]
    for time_s, value in zip(at_s, values, strict=True):
        if value is not None:
            found[-1].append((time_s, value))
        elif found[-1]:
            found.append([])
    return [piece for piece in found if piece]


def _points(piece: Sequence[tuple[float, float]], scale: _Scale) -> str:
    return " ".join(f"{scale.x(at_s):.1f},{scale.y(value):.1f}" for at_s, value in piece)


def _band(chart: Chart, scale: _Scale, edges: tuple[Sequence[Number], Sequence[Number]], style: str) -> str:
    upper = [(at_s, value or 0.0) for at_s, value in zip(chart.at_s, edges[0], strict=True)]
    lower = [(at_s, value or 0.0) for at_s, value in zip(chart.at_s, edges[1], strict=True)]
    return f'<polygon class="{style}" points="{_points(upper, scale)} {_points(lower[::-1], scale)}"/>'


def _limits(chart: Chart, scale: _Scale) -> Iterator[str]:
    for limit in chart.limits:
        if limit.value <= scale.top:
            y = scale.y(limit.value)
            yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield (
                f'<text class="limit-name" x="{WIDTH - RIGHT - 4}" y="{y - 4:.1f}" text-anchor="end">'
                f"{escape(limit.name)}</text>"
            )


@dataclass(frozen=True, slots=True)
class _Named:
    """A mark at its place: `x` of its line, its name from `left` to `right`, in which row above the plot, from 0 on."""

    name: str
    x: float
    left: float
    right: float
    row: int


def _named(chart: Chart, scale: _Scale) -> Iterator[_Named]:
    """Each in the first row in which its name stands over no other."""
    ends: list[float] = []
    for mark in sorted(chart.marks, key=lambda mark: mark.at_s):
        if scale.first <= mark.at_s <= scale.last:
            x, width = scale.x(mark.at_s), len(mark.name) * LETTER
            left = x + 4 if x + 4 + width < WIDTH else x - 4 - width
            row = next((row for row, end in enumerate(ends) if end < left), len(ends))
            ends[row:] = [left + width, *ends[row + 1 :]]
            yield _Named(mark.name, x, left, left + width, row)


def _mark(one: _Named, above: float) -> Iterator[str]:
    y = TOP - 4 - above + one.row * ROW
    x, anchor = (one.left, "start") if one.left > one.x else (one.right, "end")
    yield f'<line class="mark" x1="{one.x:.1f}" x2="{one.x:.1f}" y1="{y - 9}" y2="{HEIGHT - BOTTOM}"/>'
    yield f'<text class="mark-name" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(one.name)}</text>'


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a ramp: guests a minute, and what 99 of 100 waited at most, in ms."""

    guests: float
    p99_ms: float
    held: bool


def draw_ramp(points: Sequence[Point], limit_ms: float) -> Markup:
    """Latency against load, both on logarithmic scales, with the limit across."""
    if not points:
        return Markup("")
    low = math.log10(min(point.guests for point in points) * 0.85)
    high = math.log10(max(point.guests for point in points) * 1.15)
    top = max(math.ceil(math.log10(max([limit_ms, *(point.p99_ms for point in points)]))), 3)

    def x(guests: float) -> float:
        return LEFT + (math.log10(guests) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(ms: float) -> float:
        return HEIGHT - BOTTOM - math.log10(max(ms, 1.0)) / top * (HEIGHT - TOP - BOTTOM)

    return Markup(  # noqa: S704
        "".join(
            [
                '<div class="legend"><span class="key k1">held</span><span class="key bad-key">not held</span>',
                '<span class="unit">99 of 100 within so many ms, at so many guests a minute</span></div>',
                f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Latency against load">',
                *_ramp_grid(range(top + 1), y),
                f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(limit_ms):.1f}" y2="{y(limit_ms):.1f}"/>',
                f'<text class="limit-name" x="{WIDTH - RIGHT}" y="{y(limit_ms) + 13:.1f}" text-anchor="end">'
                f"limit {limit_ms:.0f} ms</text>",
                *_ramp_points(points, x, y),
                "</svg>",
            ]
        )
    )


def _ramp_grid(decades: Sequence[int], y: Pixels) -> Iterator[str]:
    for decade in decades:
        at = y(10.0**decade)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{short(10.0**decade)}</text>'


def best_of_each(points: Sequence[Point]) -> list[Point]:
    """A step that was tried twice once, at its better try."""
    best: dict[float, Point] = {}
    for point in points:
        if point.guests not in best or point.p99_ms < best[point.guests].p99_ms:
            best[point.guests] = point
    return sorted(best.values(), key=lambda point: point.guests)


def _ramp_points(points: Sequence[Point], x: Pixels, y: Pixels) -> Iterator[str]:
    ordered = best_of_each(points)
    held = " ".join(f"{x(one.guests):.1f},{y(one.p99_ms):.1f}" for one in ordered if one.held)
    yield f'<polyline class="line s1" points="{held}"/>'
    for one in ordered:
        at_x, at_y = x(one.guests), y(one.p99_ms)
        yield f'<circle class="{"c1" if one.held else "bad"}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4.5"/>'
        guests = short(round(one.guests, -2))
        yield f'<text class="tick" x="{at_x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{guests}</text>'
        took = f"{one.p99_ms:,.0f} ms"
        yield f'<text class="tick over" x="{at_x:.1f}" y="{at_y - 9:.1f}" text-anchor="middle">{took}</text>'
