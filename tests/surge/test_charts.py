"""The report's charts: what is drawn, and what their axes say."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.surge import watch
from loadtest.surge.report import charts
from loadtest.surge.report.charts import Chart, Limit, Line, Mark, Point
from loadtest.surge.report.small import Small, draw_small

TIMES = [9 * 3600.0 + 600 * n for n in range(6)]


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{markup}</div>")


def test_a_chart_is_well_formed_and_names_what_it_shows() -> None:
    chart = Chart(
        "Guests & <friends>",
        "a minute",
        TIMES,
        [Line("in", [1, None, 3, 4, 5, 6], 1, area=True), Line("out", [1, 1, 1, 1, 1, 1], 2, dashed=True)],
        [Limit(5, "limit")],
        [Mark(TIMES[2], "storm")],
        digits=1,
    )
    root = parsed(charts.draw(chart))
    svg = root.find("svg")
    assert svg is not None
    assert svg.get("aria-label") == "Guests & <friends>"
    data = json.loads(svg.get("data-chart") or "")
    assert data["t"][:2] == ["09:00", "09:10"]
    assert data["s"][0]["v"] == ["1.0", None, "3.0", "4.0", "5.0", "6.0"]
    texts = [text.text for text in root.iter("text")]
    assert {"limit", "storm", "09:00"} <= set(texts)


def test_a_line_is_broken_where_there_is_no_value() -> None:
    assert charts.pieces([1, 2, 3, 4], [1, None, 3, 4]) == [[(1, 1)], [(3, 3), (4, 4)]]
    assert charts.pieces([1, 2], [None, None]) == []


def test_stacked_series_stand_on_each_other() -> None:
    chart = Chart("x", "y", [0, 1], [Line("a", [1, 2]), Line("b", [10, None]), Line("c", [100, 100])])
    assert charts.stacked(chart) == [[1, 2], [11, 2], [111, 102]]


def test_a_limit_far_above_everything_does_not_press_the_chart_flat() -> None:
    near = charts.draw(Chart("x", "y", [0, 1], [Line("a", [10, 10])], [Limit(39, "full")]))
    far = charts.draw(Chart("x", "y", [0, 1], [Line("a", [10, 10])], [Limit(41, "full")]))
    assert ("full" in near, "full" in far) == (True, False)


@pytest.mark.parametrize(
    ("least", "step_"), [(0, 1), (1, 1), (1.1, 2), (2, 2), (2.1, 5), (5.1, 10), (99, 100), (0.03, 0.05)]
)
def test_axes_have_round_steps(least: float, step_: float) -> None:
    assert charts.round_step(least) == pytest.approx(step_)


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (0.5, "0.5"), (20, "20"), (1_500, "1,500"), (175_830, "176k")])
def test_axes_say_numbers_shortly(value: float, said: str) -> None:
    assert charts.short(value) == said


@pytest.mark.parametrize(("most", "drawn"), [(9.9, False), (10.0, True)])
def test_a_small_chart_is_on_the_scale_of_its_neighbours_and_shows_a_limit_that_is_reached(
    most: float, drawn: bool
) -> None:
    chart = Small("Waiting <time>", "min", TIMES, [0, 4.95, 0, 0, 0, 0], most, limit=10, digits=2)
    svg = parsed(draw_small(chart)).find("svg")
    assert svg is not None
    assert svg.get("aria-label") == "Waiting <time>"
    assert json.loads(svg.get("data-chart") or "")["s"][0]["v"][1] == "4.95 min"
    assert chart.y(most) < chart.y(4.95) < chart.y(0)
    assert any(line.get("class") == "limit" for line in svg.iter("line")) is drawn


def test_nobody_waiting_is_a_flat_line() -> None:
    (line,) = parsed(draw_small(Small("x", "guests", TIMES, [0] * 6, 0))).iter("polyline")
    assert len({point.split(",")[1] for point in (line.get("points") or "").split()}) == 1


NAMES = ("doors open", "every line to the gates is cut for 3 s", "lunch", "storm", "closing", "Postgres is killed")


def test_names_of_marks_stand_above_the_plot_and_over_no_other() -> None:
    day = [9 * 3600.0 + 600 * n for n in range(60)]
    marks = [Mark(day[number], name) for number, name in zip((0, 3, 9, 36, 57, 59), NAMES, strict=True)]
    svg = parsed(charts.draw(Chart("x", "y", day, [Line("a", [1.0] * 60)], marks=marks))).find("svg")
    assert svg is not None
    top = float((svg.get("viewBox") or "").split()[1])
    texts = [text for text in svg.iter("text") if text.get("class") == "mark-name"]
    assert {text.text for text in texts} == set(NAMES)
    assert all(top < float(text.get("y") or 0) - 8 and float(text.get("y") or 0) < charts.TOP for text in texts)
    spans = []
    for text in texts:
        at, width = float(text.get("x") or 0), len(text.text or "") * charts.LETTER
        left = at if text.get("text-anchor") == "start" else at - width
        assert 0 <= left <= charts.WIDTH - width
        spans.append((text.get("y"), left, left + width))
    for number, (row, left, right) in enumerate(spans):
        assert not [one for one in spans[:number] if one[0] == row and one[1] < right and left < one[2]]


def test_every_process_that_is_watched_has_a_colour_of_its_own() -> None:
    names = {*watch.ACTORS.values(), *watch.SERVICES.values(), "supervisor"}
    assert len(names) <= charts.COLOURS
    style = (Path(charts.__file__).parent / "page.css").read_text()
    for number in range(charts.COLOURS + 1):
        assert [style.count(f"--c{number}:"), style.count(f".c{number}{{"), style.count(f".s{number}{{")] == [2, 1, 1]


def test_a_step_that_was_tried_twice_is_drawn_once_at_its_better_try() -> None:
    points = [Point(200, 300, False), Point(100, 20, True), Point(200, 90, True)]
    assert charts.best_of_each(points) == [Point(100, 20, True), Point(200, 90, True)]
    assert len(list(parsed(charts.draw_ramp(points, 100)).iter("circle"))) == 2
    assert charts.draw_ramp([], 100) == ""
