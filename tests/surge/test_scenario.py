"""Scenario files: the shipped ones can be used, and what is wrong in one is told with its line and the nearest name."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from loadtest.surge.fits import check_own
from loadtest.surge.scenario import Scenario, Source, load, parse, shipped
from loadtest.surge.target import edits
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
    fit(load(name), "")
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
        ('closes = "17:00"', 'closes = "08:00"', "closes: must be later than opens"),
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


def test_all_that_makes_no_day_is_told_at_once_with_its_lines() -> None:
    with pytest.raises(BadInput) as error:
        parse(TEXT.replace('closes = "17:00"', 'closes = "15:00"').replace('at = "13:00"', 'at = "18:00"'), "day.toml")
    for told in (
        f"day.toml, line {line('curve = ')}: curve: must lie between opens and closes",
        f"day.toml, line {line('[storm]') + 1}: storm.at: the storm must begin between opens and closes",
    ):
        assert told in error.value.message


def test_a_scenario_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean golden-week"):
        load("golden-weak")
    with pytest.raises(BadInput, match="quiet-weekday; or name a file"):
        load(str(tmp_path / "x.toml"))


def fit(found: Scenario, text: str) -> None:
    check_own(found, Source("day.toml", text), read_catalogue(EXAMPLE)[1], date(2026, 5, 1))


def refused(text: str) -> str:
    with pytest.raises(BadInput) as error:
        fit(parse(text, "day.toml"), text)
    return error.value.message


def test_all_that_a_park_does_not_have_is_told_at_once_with_its_lines() -> None:
    text = TEXT.replace('"main-2"', '"mian-2"').replace('"family"', '"famly"').replace('"senior"', '"pensioner"')
    said = refused(text.replace("park = 400", "prak = 400"))
    for told in (
        f"day.toml, line {line('main-2')}: entrances[1].gates[2]: there is no gate mian-2; did you mean main-2?",
        f"day.toml, line {line('family')}: parties[2].tickets[1].product: there is no product famly; did you mean fam",
        f"day.toml, line {line('senior')}: parties[3].tickets[1].concession: there is no concession pensioner",
        f"day.toml, line {line('park = 400')}: park.capacity.prak: there is no zone prak; did you mean park?",
    ):
        assert told in said, said


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (
            'product = "night-show", concession = "adult", slot = 4',
            "slot: 4 does not exist for 'night-show'; known are 1",
        ),
        ('product = "night-show", concession = "adult"', "slot: 0 does not exist"),
        ('product = "day", concession = "adult", slot = 1', "slot: 'day' has no slots"),
        ('product = "family", concession = "group"', "concession: 'family' has no price for 'group'"),
    ],
)
def test_tickets_that_sales_would_refuse_are_told_with_their_line(new: str, told: str) -> None:
    said = refused(TEXT.replace('product = "day", concession = "senior"', new))
    assert f"day.toml, line {line('senior')}: parties[3].tickets[1].{told}" in said


def test_a_gate_that_is_named_twice_is_refused() -> None:
    with pytest.raises(BadInput, match=r"day.toml, line \d+: entrances\[1\].gates: main-1 is named twice"):
        parse(TEXT.replace('"main-2"', '"main-1"'), "day.toml")


def test_a_fault_in_a_list_is_told_alone() -> None:
    with pytest.raises(BadInput) as error:
        parse(TEXT.replace('{ at = "12:00", weight = 1 }, { at = "16:00"', '{ at = "25:00"'), "day.toml")
    assert error.value.message.count("\n  - ") == 1, error.value.message
    with pytest.raises(BadInput, match="curve: tuple should have at least 2 items"):
        parse(TEXT.replace(', { at = "12:00", weight = 1 }, { at = "16:00", weight = 0 }', ""), "day.toml")


def test_an_entrance_into_two_zones_is_refused() -> None:
    assert "entrances[1].gates: they lead into several zones" in refused(TEXT.replace('"main-2"', '"water-1"'))
