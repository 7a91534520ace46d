"""Which process of the gates' part has which device and party, and how many there are."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.surge.guests import invite
from loadtest.surge.scenario import load
from loadtest.surge.share import Share, processes
from tests.surge.small_day import scenario

DAY = scenario()
GUESTS = invite(DAY)


@given(st.integers(1, DAY.devices))
def test_every_party_is_in_one_share_that_has_a_device_at_its_entrance(count: int) -> None:
    shares = [Share(index, count) for index in range(count)]
    first = [0, *accumulate(one.streams for one in DAY.entrances)]
    for guests in GUESTS:
        (own,) = (share for share in shares if share.invites(guests, DAY))
        assert any(own.has(device) for device in range(first[guests.entrance], first[guests.entrance + 1]))


@given(st.integers(1, 9))
def test_devices_are_dealt_out_evenly(count: int) -> None:
    sizes = [sum(Share(index, count).has(device) for device in range(40)) for index in range(count)]
    assert sum(sizes) == 40
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("scenario_", "cores", "here", "expected"),
    [
        ("golden-week", 1, True, 1),
        ("golden-week", 2, True, 1),
        ("golden-week", 4, True, 1),
        ("golden-week", 6, True, 2),
        ("golden-week", 64, True, 2),
        ("golden-week", 2, False, 1),
        ("golden-week", 3, False, 2),
        ("quiet-weekday", 64, True, 2),
    ],
)
def test_there_are_as_many_processes_as_are_needed_and_have_a_core(
    scenario_: str, cores: int, here: bool, expected: int
) -> None:
    assert processes(load(scenario_), cores, here=here) == expected


def test_who_asks_for_processes_gets_them_and_at_most_one_a_device() -> None:
    asked = scenario(gate_processes=3)
    assert processes(asked, 1, here=True) == 3
    assert processes(scenario(gate_processes=60), 1, here=True) == DAY.devices
    arena = {"product": "day", "gates": ["main-1"], "turnstiles": 2}
    assert processes(scenario(gate_processes=3, ramp=arena), 1, here=True) == 2
