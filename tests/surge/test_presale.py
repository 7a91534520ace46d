"""What is sold before the doors open."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.surge import plan as planning
from loadtest.surge.presale import BLOCK, Kind, Presale, SoldOut, blocks_of, wanted_on_the_day
from ops.services.catalogue import EXAMPLE, read_catalogue
from parkgate.sales.v1 import sales_pb2 as pb
from tests.surge.small_day import scenario


@given(st.integers(0, 5_000))
def test_blocks_are_of_one_size_so_that_a_group_is_never_split_into_too_few(count: int) -> None:
    blocks = list(blocks_of(count))
    assert sum(blocks) == count
    assert max(blocks, default=0) <= BLOCK
    assert max(blocks, default=0) - min(blocks, default=0) <= 1
    assert count <= BLOCK or min(blocks) >= BLOCK // 2


class Quota:
    """A desk with so many places, of whatever kind. Counts what it refused."""

    def __init__(self, places: int) -> None:
        self.left = places
        self.refused = 0
        self.orders: list[int] = []

    def sell(self, kind: Kind, count: int) -> list[pb.Ticket]:
        if count > self.left:
            self.refused += 1
            raise SoldOut
        self.left -= count
        return [pb.Ticket(product_id=kind[0])] * count

    def hold(self, kind: Kind, count: int) -> int:
        self.sell(kind, count)
        self.orders.append(count)
        return len(self.orders) - 1

    def cancel(self, order_id: int) -> None:
        self.left += self.orders[order_id]


DAY, GROUP = ("day", "adult", 0), ("day", "group", 0)
PARK = read_catalogue(EXAMPLE)[1]


def buy_all(desk: Quota, kind: Kind, count: int) -> tuple[int, Presale]:
    presale = Presale(desk, PARK)
    return sum(len(presale.buy(kind, size)) for size in blocks_of(count)), presale


@pytest.mark.parametrize(("left", "bought"), [(0, 0), (1, 1), (199, 199), (777, 777), (4_999, 4_999), (5_000, 5_000)])
def test_a_quota_is_bought_to_its_last_place(left: int, bought: int) -> None:
    assert buy_all(Quota(left), DAY, 5_000)[0] == bought


def test_a_quota_that_is_used_up_is_asked_for_a_single_ticket_once() -> None:
    desk = Quota(0)
    bought, presale = buy_all(desk, DAY, 50_000)
    assert (bought, desk.refused) == (0, 9), "250 blocks: 200, 100, 50, 25, 13, 7, 4, 2, 1"
    assert presale.sold_out == {DAY}
    assert not presale.buy(DAY, 1)
    assert desk.refused == 9


def test_a_group_is_never_split_into_fewer_than_its_price_asks_for() -> None:
    desk = Quota(9)
    assert buy_all(desk, GROUP, 400)[0] == 0
    assert desk.refused == 5, "200, 100, 50, 25, 13"
    assert len(Presale(desk, PARK).buy(DAY, 9)) == 9, "single ones are left"


def test_what_is_sold_out_for_groups_is_not_sold_out_for_others() -> None:
    desk = Quota(9)
    presale = Presale(desk, PARK)
    assert not presale.buy(GROUP, 10)
    assert len(presale.buy(DAY, 9)) == 9


@pytest.mark.parametrize(("left", "enough", "bought"), [(2_499, False, 0), (2_500, True, 0), (2_501, True, 1)])
def test_the_ramp_leaves_the_guests_of_the_day_what_they_want_of_what_is_left(
    left: int, enough: bool, bought: int
) -> None:
    desk = Quota(left)
    presale = Presale(desk, PARK)
    with presale.held({DAY: 2_500}) as held:
        assert held is enough
        ramp = presale.buy(DAY, 100) if held else []
    assert len(ramp) == bought
    assert desk.left == left - bought, "what was held is free again"


def test_the_day_wants_what_is_bought_on_it_from_the_quota_of_the_ramp() -> None:
    plan = planning.make(scenario())
    wanted = wanted_on_the_day(plan, PARK)
    on_site = [guests for guests in plan.guests if guests.buys_s is not None]
    assert sum(wanted.values()) == sum(
        line.count for guests in on_site for line in guests.kind.tickets if line.product == "day"
    )
    assert set(wanted) == {DAY, ("day", "senior", 0)}
    products = PARK.products | {"day": replace(PARK.products["day"], daily_quota=0)}
    assert not wanted_on_the_day(plan, replace(PARK, products=products))
    assert not wanted_on_the_day(planning.make(scenario(ramp=None)), PARK)
