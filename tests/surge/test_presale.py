"""What is sold before the doors open."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.surge import plan as planning
from loadtest.surge.presale import BLOCK, blocks_of, ramp_room
from ops.services.catalogue import EXAMPLE, read_catalogue
from tests.surge.small_day import scenario


@given(st.integers(0, 5_000))
def test_blocks_are_of_one_size_so_that_a_group_is_never_split_into_too_few(count: int) -> None:
    blocks = list(blocks_of(count))
    assert sum(blocks) == count
    assert max(blocks, default=0) <= BLOCK
    assert max(blocks, default=0) - min(blocks, default=0) <= 1
    assert count <= BLOCK or min(blocks) >= BLOCK // 2


@pytest.mark.parametrize(("more", "room"), [(-1, 0), (0, 0), (1, 1), (85, 85), (86, 86), (87, 86)])
def test_the_ramp_leaves_the_guests_of_the_day_their_tickets(more: int, room: int) -> None:
    plan, park = planning.make(scenario()), read_catalogue(EXAMPLE)[1]
    lines = [line for guests in plan.guests for line in guests.kind.tickets if line.product == "day"]
    wanted = sum(line.count for line in lines)
    products = park.products | {"day": replace(park.products["day"], daily_quota=wanted + more)}
    assert ramp_room(plan, replace(park, products=products)) == room


def test_a_product_without_a_quota_has_room_for_the_whole_ramp() -> None:
    plan, park = planning.make(scenario()), read_catalogue(EXAMPLE)[1]
    products = park.products | {"day": replace(park.products["day"], daily_quota=0)}
    assert ramp_room(plan, replace(park, products=products)) == 86
    assert ramp_room(planning.make(scenario(ramp=None)), park) == 0
