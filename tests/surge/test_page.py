"""The page that a rehearsal leaves: what it says, and what it must not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest.surge.record import Count
from loadtest.surge.report import page
from loadtest.surge.report.figures import Figures, figures_of
from ops.errors import BadInput
from tests.surge.small_day import FAULT, as_dict, record, scenario, step


def test_the_page_shows_the_queue_and_the_wait_at_each_gate(figures: Figures) -> None:
    found = page.html(figures)
    assert found.count('<figure class="gate">') == 4
    assert found.count('class="mini"') == 8
    for one in figures.queues:
        for gate in one.gates:
            assert f"<h4>{gate.name}</h4>" in found
            assert f'aria-label="Queue at {gate.name}"' in found
    assert "1 lane for 2 gates: each stands between several, and its guests take them in turn." in found
    assert "2 lanes for 2 gates: guests take the lane that is free first." in found


def test_an_entrance_with_one_gate_is_drawn_once() -> None:
    day = scenario()
    entrances = tuple(one.model_copy(update={"gates": one.gates[:1]}) for one in day.entrances)
    alone = day.model_copy(update={"entrances": entrances})
    found = page.html(figures_of(record(scenario=alone.model_dump(mode="json"))))
    assert "At each gate" not in found
    assert "Main entrance (main-1)" in found


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_is_told(figures: Figures) -> None:
    found = page.html(figures)
    assert "A few guests &amp; &lt;friends&gt;." in found
    assert not re.findall(r'(?:src|href)="(?!data:)', found)
    assert "http://" not in found.replace("http://www.w3.org", "")
    assert found.count("<figure>") == 10


def test_the_page_shows_what_is_wrong() -> None:
    broken = record(counts=[Count("money sold", "1.00 CHF", "2.00 CHF")], interrupted=True)
    broken.gates["wrong"] = [["copy", "ADMIT", 2, 77]]
    broken.gates["stopped_at_s"] = 12 * 3600.0
    found = page.html(figures_of(broken))
    for said in ("money sold: expected 1.00 CHF, got 2.00 CHF", "interrupted at 12:00", "Wrong answers", ">77<"):
        assert said in found


def test_the_page_says_in_words_which_tickets_were_not_the_day_s_and_what_came_of_orders() -> None:
    shop = record().shop | {"outcomes": {"SOLD": 30, "ALREADY_USED": 2}}
    found = page.html(figures_of(record(shop=shop)))
    assert " 86 of them are not the day's" in found
    assert "found it sold out" not in found
    assert "The park sold" not in found
    assert "sold 30" in found
    assert "already used 2" in found
    assert "ALREADY_USED" not in found


@pytest.mark.parametrize(
    ("gates", "counts", "said"),
    [
        ({}, [], "None was lost: every scan was answered, every passage booked, and the books agree."),
        ({"unanswered": 1}, [], "Something was lost: 1 scan was never answered."),
        (
            {"unanswered": 2, "unbooked": 3},
            [Count("admitted", "5", "4")],
            "Something was lost: 2 scans were never answered, 3 passages were never booked, 1 count does not agree.",
        ),
    ],
)
def test_the_page_says_that_nothing_was_lost_only_where_nothing_was(
    gates: dict[str, int], counts: list[Count], said: str
) -> None:
    one = record(faults=[FAULT], counts=counts)
    one.gates.update(gates)
    found = page.html(figures_of(one))
    assert said in found
    assert ("None was lost" in found) is said.startswith("None")


def test_a_page_without_a_ramp_claims_nothing_of_one() -> None:
    one = record(scenario=scenario(ramp=None).model_dump(mode="json"))
    one.gates["ramp"] = []
    found = page.html(figures_of(one))
    assert ">not measured<" in found
    assert "There was no ramp." in found
    assert "answered within 100 ms<" not in found
    assert "How much it holds." not in found


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "100.00"), (0.99999, "99.99"), (0.9999, "99.99"), (0.4686, "46.86"), (0.29, "29.00"), (0.0, "0.00")],
)
def test_all_is_said_only_of_all(share: float, said: str) -> None:
    assert page.hundredths(share) == said


def test_a_page_whose_ramp_held_no_step_says_so_instead_of_a_number() -> None:
    one = record()
    one.gates["ramp"] = [as_dict(step(1000, 300))]
    found = page.html(figures_of(one))
    assert "no step of the ramp was held" in found
    assert "guests a minute, 99 of 100 answered" not in found


@pytest.mark.parametrize(("seconds", "harder"), [(4, True), (8 * 3600, False)])
def test_a_day_at_its_own_pace_is_not_said_to_be_harder(seconds: int, harder: bool) -> None:
    found = page.html(figures_of(record(scenario=scenario(seconds=seconds).model_dump(mode="json"))))
    assert ("far harder" in found) is harder


def test_what_a_system_elsewhere_used_is_not_claimed_to_be_known() -> None:
    usage = record().usage
    usage["processes"] = {"generator: gates": usage["processes"]["generator: gates"]}
    figures = figures_of(record(here=False, usage=usage))
    assert "all CPU time" not in figures.cost.says
    assert "generator_share" not in figures.numbers()
    found = page.html(figures)
    assert "the generator on 2 cores" in found
    assert "Everything that took part" not in found


def test_the_page_says_what_a_park_s_quota_kept_from_the_rehearsal() -> None:
    shop = record().shop | {"outcomes": {"SOLD": 30, "SOLD_OUT": 4}, "ramp_tickets": 50}
    found = page.html(figures_of(record(shop=shop)))
    assert "4 parties found it sold out." in found
    assert "The park sold 50 of the 86 tickets that the ramp asked for." in found


def test_the_page_says_when_several_processes_shared_the_gates() -> None:
    one = record()
    assert "processes shared the gates" not in page.html(figures_of(one))
    one.gates["pulses"] = [
        {"times": [1.0], "cpu": [0.5], "lag_ms": [1.0]},
        {"times": [1.0], "cpu": [0.95], "lag_ms": [9.0]},
    ]
    figures = figures_of(one)
    assert "2 of its processes shared the gates" in page.html(figures)
    assert figures.cost.gates_cpu == pytest.approx(1.45), "of all together"
    assert figures.cost.gates_cpu_most == 0.95
    assert figures.cost.was_limit, "one of them has nothing left"


def test_json_in_the_page_cannot_end_its_script() -> None:
    assert "</script>" not in page.embedded({"name": "</script><script>alert(1)</script>"})


def test_a_page_that_cannot_be_written_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Cannot write .*No such file"):
        page.write(record(), tmp_path / "nowhere" / "x.html")
