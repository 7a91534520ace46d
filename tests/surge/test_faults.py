"""Faults on demand: what the command line may order, and when."""

from __future__ import annotations

import pytest

from loadtest.surge.faults import Fault, Kind, parse
from ops.errors import BadInput

HOUR_S = 3600.0
DAY_S = (9 * HOUR_S, 17 * HOUR_S)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("owner@09:00", Fault(Kind.OWNER, 9 * HOUR_S)),
        ("network@11:30", Fault(Kind.NETWORK, 11.5 * HOUR_S)),
        ("gateway@17:00", Fault(Kind.GATEWAY, 17 * HOUR_S)),
        ("postgres", Fault(Kind.POSTGRES, 13 * HOUR_S)),
    ],
)
def test_a_fault_strikes_at_its_time_or_in_the_middle_of_the_day(text: str, fault: Fault) -> None:
    assert parse(text, DAY_S, own=True) == fault


@pytest.mark.parametrize("text", ["owner@08:59", "owner@17:01", "owner@23:30"])
def test_a_fault_that_would_never_strike_is_refused_with_the_hours_of_the_day(text: str) -> None:
    with pytest.raises(BadInput, match="from 09:00 to 17:00"):
        parse(text, DAY_S, own=True)


@pytest.mark.parametrize("text", ["owner@25:00", "owner@12:60", "ownr@12:00", "owner@", ""])
def test_what_is_no_fault_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(BadInput, match="is no fault") as error:
        parse(text, DAY_S, own=True)
    assert "owner, gateway, network, postgres" in error.value.mend


def test_a_fault_that_kills_needs_a_system_of_ones_own() -> None:
    with pytest.raises(BadInput, match="The fault owner needs"):
        parse("owner@12:00", DAY_S, own=False)
    assert parse("network@12:00", DAY_S, own=False).kind is Kind.NETWORK
