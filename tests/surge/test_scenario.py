"""Scenario files: the shipped ones can be used, and what is wrong in one is told with its line and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.surge.scenario import Scenario, load, parse, shipped
from loadtest.surge.target import check, edits
from ops.errors import BadInput
from ops.example_park import evening_zone, write_copy
from ops.services.catalogue import EXAMPLE, read_catalogue
from tests.surge.small_day import TEXT, scenario


def line(text: str) -> int:
    return next(number for number, found in enumerate(TEXT.splitlines(), 1) if text in found)


def test_three_scenarios_are_shipped() -> None:
    assert list(shipped()) == ["golden-week", "night-show", "quiet-weekday"]


@pytest.mark.parametrize("name", ["golden-week", "night-show", "quiet-weekday"])
def test_a_shipped_scenario_fits_the_example_park(name: str, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    found, example = load(name), read_catalogue(EXAMPLE)[1]
    check(found, example)
    now = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    told = write_copy(tmp_path / "catalogue", edits(found, example, now))
    park = read_catalogue(tmp_path / "catalogue")[1]
    assert str(park.venue.time_zone) == evening_zone(now)
    assert {zone: park.zones[zone].capacity for zone in found.park.capacity} == found.park.capacity
    assert {name: park.products[name].daily_quota for name in found.park.daily_quota} == found.park.daily_quota
    assert len(told) == 2 + len(found.park.capacity) + len(found.park.daily_quota) + len(found.park.slot_quota)


def test_a_scenario_is_the_same_after_it_was_written_and_read_again() -> None:
    found = scenario()
    assert Scenario.model_validate(found.model_dump(mode="json"), strict=False) == found


def test_the_changes_of_the_command_take_the_place_of_the_file_s_values() -> None:
    assert scenario(visitors=9, ramp=None).visitors == 9
    assert scenario(ramp=None).ramp is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("visitors = 200", "visitor = 200", "visitor: there is no such value; did you mean visitors?"),
        ("visitors = 200", "visitors = 0", "visitors: input should be greater than or equal to 1"),
        ('opens = "09:00"', 'opens = "9 am"', 'opens: expected a time of day like "10:30"'),
        ("early = 0.1", "eraly = 0.1", "habits.eraly: there is no such value; did you mean early?"),
        ("early = 0.1", "early = 1.1", "habits.early: input should be less than or equal to 1"),
        ("lanes = 2", "lanes = 0", "entrances[2].lanes: input should be greater"),
        ("lanes = 1", "lane = 1", "entrances[1].lane: there is no such value; did you mean lanes?"),
        ("stay_minutes = 120", "stay_minutes = nan", "stay_minutes: input should be a finite number"),
        ("first_per_s = 50", "first_per_s = inf", "ramp.first_per_s: input should be a finite number"),
        ("capacity = { park = 400 }", "capacity = { park = -1 }", "park.capacity.park: input should be greater than"),
        ("weight = 1\nproof = true", "proof = true", "parties[3].weight: is missing"),
    ],
)
def test_a_fault_is_told_with_its_file_its_line_and_the_nearest_name(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        parse(TEXT.replace(old, new), "day.toml")
    changed = TEXT.replace(old, new).splitlines()
    wrong = next((n for n, text in enumerate(changed, 1) if text == new.splitlines()[0]), 0)
    if "missing" not in said:
        assert f"day.toml, line {wrong}: {said}" in error.value.message
    else:
        assert said in error.value.message


def test_a_missing_value_is_told_with_the_line_of_its_table() -> None:
    with pytest.raises(BadInput) as error:
        parse(TEXT.replace("weight = 1\nproof = true", "proof = true"), "day.toml")
    assert f"day.toml, line {line('Seniors') - 1}: parties[3].weight: is missing" in error.value.message


def test_a_ramp_has_a_ticket_for_every_guest_of_its_steps_and_some_to_spare() -> None:
    ramp = scenario().ramp
    assert ramp is not None
    assert ramp.rates == (50, 100)
    assert ramp.tickets == round((50 + 100) * 0.5 * 1.15)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadInput) as error:
        parse(TEXT.replace("visitors = 200", "visitors = 0").replace("early = 0.1", "early = 2"), "day.toml")
    assert error.value.message.count("day.toml, line") == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('closes = "17:00"', 'closes = "08:00"', "closes must be later than opens"),
        ('{ at = "12:00"', '{ at = "08:59"', "in the order of their times"),
        ('{ at = "16:00"', '{ at = "17:01"', "must lie between opens and closes"),
        ('weight = 5 }, { at = "12:00", weight = 1 }', 'weight = 0 }, { at = "12:00", weight = 0 }', "weight above 0"),
        ('at = "13:00"', 'at = "18:00"', "storm must begin between"),
        ("visitors = 200", "visitors = ", "is not valid TOML"),
        ("first_per_s = 50", "first_per_s = 579_711", "take 1,000,001 tickets"),
    ],
)
def test_a_day_that_makes_no_sense_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse(TEXT.replace(old, new), "day.toml")


def test_a_scenario_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean golden-week"):
        load("golden-weak")
    with pytest.raises(BadInput, match="quiet-weekday; or name a file"):
        load(str(tmp_path / "x.toml"))


def test_a_scenario_for_another_park_is_refused_with_everything_that_it_lacks() -> None:
    example = read_catalogue(EXAMPLE)[1]
    text = TEXT.replace('"main-2"', '"mian-2"').replace('"family"', '"famly"').replace('"senior"', '"pensioner"')
    with pytest.raises(BadInput) as error:
        check(parse(text, "day.toml"), example)
    for said in (
        "no gate mian-2; did you mean main-2?",
        "no product famly; did you mean family?",
        "no concession pensioner",
    ):
        assert said in error.value.message


def test_an_entrance_into_two_zones_is_refused() -> None:
    example = read_catalogue(EXAMPLE)[1]
    with pytest.raises(BadInput, match="Main entrance leads into several zones"):
        check(parse(TEXT.replace('"main-2"', '"water-1"'), "day.toml"), example)
