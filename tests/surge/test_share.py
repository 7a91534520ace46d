"""Which process of the gates' part has which device and party, and how many there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.surge.gates import Gates, devices
from loadtest.surge.guests import invite
from loadtest.surge.parts import Certificate, Order
from loadtest.surge.plan import Plan
from loadtest.surge.scenario import Scenario, load
from loadtest.surge.share import Share, processes
from tests.surge.small_day import scenario

DAY = scenario()
GUESTS = invite(DAY)


@given(st.integers(1, 9), st.integers(0, 9), st.sampled_from([0, 2]))
def test_every_party_is_in_one_share_that_has_a_device_at_each_gate_of_its_entrance(
    count: int, turnstiles: int, controller_lanes: int
) -> None:
    changed = {"turnstiles": turnstiles, "controller_lanes": controller_lanes}
    day = DAY.model_copy(update={"entrances": tuple(one.model_copy(update=changed) for one in DAY.entrances)})
    shares = [Share(index, count) for index in range(count)]
    at = [gates_of(day, share) for share in shares]
    for guests in GUESTS:
        (own,) = (index for index, share in enumerate(shares) if share.invites(guests, day))
        assert at[own][guests.entrance] == set(day.entrances[guests.entrance].gates)


def gates_of(day: Scenario, share: Share) -> list[set[str]]:
    """At which gates of each entrance a process has a device."""
    order = Order("small", {}, [], Certificate("", "", ""), "", "", "2026-05-01", [], (share.index, share.of))
    gates = Gates(Plan(day, [], []), order)
    return [{gate for stream in group for gate in stream.gates} for group in devices(gates, NoLines())]  # type: ignore[arg-type]


class NoLines:
    """Nobody connects."""

    def line(self, _number: int) -> None:
        return None


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


def test_who_asks_for_processes_gets_them_and_at_most_one_a_row_of_devices() -> None:
    asked = scenario(gate_processes=3)
    assert processes(asked, 1, here=True) == 3
    assert processes(scenario(gate_processes=60), 1, here=True) == DAY.rows == 3
    arena = {"product": "day", "gates": ["main-1"], "turnstiles": 2}
    assert processes(scenario(gate_processes=3, ramp=arena), 1, here=True) == 2
