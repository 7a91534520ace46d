"""The report in a real Chromium: nothing on its console, nothing from the network, and every chart is to be seen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from loadtest.surge.report import compare, page
from tests.surge.small_day import record

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    page.write(record(), path)
    return path


def opened(browser: Browser, path: Path, complaints: list[str], scheme: str = "light") -> Page:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": 1280, "height": 800}
    )
    shown = context.new_page()
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("request", lambda request: complaints.append(request.url) if "http" in request.url[:5] else None)
    shown.goto(path.as_uri())
    return shown


def brightness(shown: Page, what: str) -> int:
    return sum(map(int, re.findall(r"\d+", shown.evaluate(f"getComputedStyle(document.body).{what}"))))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_to_be_seen_and_nobody_complains(browser: Browser, report: Path, scheme: str) -> None:
    complaints: list[str] = []
    shown = opened(browser, report, complaints, scheme)
    boxes = [chart.bounding_box() for chart in shown.query_selector_all("svg.chart")]
    assert len(boxes) == 10
    assert all(box is not None and box["width"] > 300 and box["height"] > 100 for box in boxes)
    assert (brightness(shown, "color") > brightness(shown, "backgroundColor")) is (scheme == "dark")
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints == []


def test_the_pointer_reads_a_chart_s_numbers_out(browser: Browser, report: Path) -> None:
    complaints: list[str] = []
    shown = opened(browser, report, complaints)
    shown.locator("svg.chart").first.hover(position={"x": 200, "y": 60})
    tip = shown.locator(".tip").first
    assert tip.is_visible()
    assert "let in" in tip.inner_text()
    shown.mouse.move(1, 1)
    assert not tip.is_visible()
    assert complaints == []


def test_it_fits_a_phone(browser: Browser, report: Path) -> None:
    complaints: list[str] = []
    shown = opened(browser, report, complaints)
    shown.set_viewport_size({"width": 390, "height": 800})
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    heights = shown.evaluate(
        "[...document.querySelectorAll('.tick:not(.minor)')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) > 8, "an axis that can be read"


def test_it_prints_on_a_few_pages(browser: Browser, report: Path) -> None:
    shown = opened(browser, report, [])
    pages = shown.pdf(format="A4").count(b"/Type /Page\n")
    assert 1 <= pages <= 6


def test_a_comparison_opens_without_complaint(browser: Browser, report: Path, tmp_path: Path) -> None:
    complaints: list[str] = []
    compare.write(report, report, tmp_path / "compare.html")
    shown = opened(browser, tmp_path / "compare.html", complaints)
    assert shown.locator("tbody tr").count() > 8
    assert complaints == []
