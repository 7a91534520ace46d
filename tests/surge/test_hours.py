"""A park that would refuse the rehearsal's guests at this hour is not sold to: it is said before anything is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from loadtest.surge.hours import check_hours
from loadtest.surge.scenario import Scenario, load, parse
from ops.errors import BadInput
from ops.services.catalogue import EXAMPLE, read_catalogue
from tests.surge.small_day import TEXT, scenario
from ticketcore.catalogue import Catalogue


@pytest.fixture(scope="module")
def park() -> Catalogue:
    found: Catalogue = read_catalogue(EXAMPLE)[1]
    assert found.venue.time_zone == ZoneInfo("Europe/Zurich")
    return found


def at(hour: int, minute: int, second: int = 0) -> datetime:
    """On a day of July, by the park's clock."""
    return datetime(2026, 7, 1, hour, minute, second, tzinfo=ZoneInfo("Europe/Zurich")).astimezone(UTC)


def evening() -> Scenario:
    return parse(
        TEXT.replace('product = "day", concession = "adult"', 'product = "evening", concession = "adult"'), "x"
    )


@pytest.mark.parametrize("when", [at(6, 0), at(13, 0), at(23, 50)])
def test_day_tickets_are_let_in_at_any_hour_of_their_day(park: Catalogue, when: datetime) -> None:
    check_hours(scenario(), park, when)


@pytest.mark.parametrize("when", [at(16, 0), at(20, 0)])
def test_evening_tickets_are_let_in_in_the_evening(park: Catalogue, when: datetime) -> None:
    check_hours(evening(), park, when)


@pytest.mark.parametrize("when", [at(18, 16), at(19, 40)])
def test_a_slot_that_is_open_until_the_rehearsal_is_over_can_be_rehearsed(park: Catalogue, when: datetime) -> None:
    check_hours(load("night-show"), park, when)


@pytest.mark.parametrize(
    ("played", "when", "said"),
    [
        (evening(), at(9, 5), ["It is 09:05 on 2026-07-01", "  - Evening ticket: is let in from 16:00 to 24:00"]),
        (load("night-show"), at(6, 32), ["  - Night show on the lake, slot 1: is let in from 18:15 to 19:45"]),
        (load("night-show"), at(18, 14), ["slot 1"]),
        (load("night-show"), at(19, 44), ["slot 1"]),  # it opens, and shuts while the guests come
        (scenario(), at(23, 59, 40), ["Day ticket: is for one day, and that ends before the rehearsal does"]),
    ],
)
def test_guests_that_would_be_refused_for_the_hour_are_named(
    park: Catalogue, played: Scenario, when: datetime, said: list[str]
) -> None:
    with pytest.raises(BadInput) as error:
        check_hours(played, park, when)
    assert all(words in error.value.message for words in said), error.value.message
    assert "--address" in error.value.mend


def test_a_blackout_date_a_slot_that_is_not_there_and_a_gate_elsewhere_are_named(park: Catalogue) -> None:
    shut = replace(park.products["day"], blackout_dates=frozenset({at(12, 0).date()}))
    with pytest.raises(BadInput, match="Day ticket: is not valid today, a blackout date"):
        check_hours(scenario(), replace(park, products=park.products | {"day": shut}), at(12, 0))
    night = load("night-show").model_dump_json().replace('"slot":1', '"slot":9')
    with pytest.raises(BadInput, match="slot 9: has no slot 9"):
        check_hours(Scenario.model_validate_json(night, strict=False), park, at(18, 20))
    text = TEXT.replace(
        'product = "family", concession = "adult", persons = 4', 'product = "water", concession = "adult"'
    )
    with pytest.raises(BadInput, match="is for none of the gates of the scenario"):
        check_hours(parse(text, "x"), park, at(12, 0))
