"""Prices by date, groups with one free in ten, and quotas."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ticketcore.park import park
from ticketcore.errors import InvalidInputsError
from ticketcore.pricing import OrderLine, price_lines, quota_needs, unit_price

TODAY = date(2026, 12, 1)
DAY = date(2026, 12, 10)


@pytest.mark.parametrize(
    ("day", "price"),
    [(11, 7900), (12, 8500), (13, 8500), (14, 7900), (23, 7900), (24, 9900), (25, 9900), (26, 9900), (27, 8500)],
)
def test_the_last_price_that_fits_the_date_wins(day: int, price: int) -> None:
    assert unit_price(park().products["day"], "adult", date(2026, 12, day)) == price


@pytest.mark.parametrize(("count", "free"), [(10, 1), (11, 1), (19, 1), (20, 2), (21, 2)])
def test_one_in_ten_of_a_group_is_free(count: int, free: int) -> None:
    (line,) = price_lines(park(), [OrderLine("day", "group", count, DAY)], "window", TODAY)
    assert (line.free_count, line.total_minor) == (free, (count - free) * 6900)


def test_nine_are_no_group_and_nobody_sells_to_them() -> None:
    with pytest.raises(InvalidInputsError, match="10 persons or more, and these are 9"):
        price_lines(park(), [OrderLine("day", "group", 9, DAY)], "window", TODAY)


def test_the_free_ones_of_a_mixed_group_are_the_cheapest() -> None:
    lines = [OrderLine("day", "group", 6, DAY), OrderLine("fixed", "group", 5, DAY)]
    day, fixed = price_lines(park(), lines, "web", TODAY)
    assert (day.free_count, fixed.free_count) == (0, 1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_the_tickets_of_a_line_carry_its_total_exactly(counts: list[int]) -> None:
    counts[0] += 10
    lines = [OrderLine("day", "group", count, DAY) for count in counts]
    priced = price_lines(park(), lines, "window", TODAY)
    assert sum(line.free_count for line in priced) == sum(counts) // 10
    assert sum(sum(line.ticket_prices()) for line in priced) == (sum(counts) - sum(counts) // 10) * 6900
    assert all(len(line.ticket_prices()) == line.line.count for line in priced)


def test_quotas_count_persons_and_join_lines_of_one_key() -> None:
    lines = [
        OrderLine("show", "adult", 2, DAY, 1),
        OrderLine("show", "adult", 1, DAY, 1),
        OrderLine("day", "adult", 3, DAY),
    ]
    needs = {need.quota_key: (need.units, need.limit) for need in quota_needs(park(), lines)}
    assert needs == {"product=1;date=2026-12-10": (3, 100), "product=3;date=2026-12-10;slot=1": (6, 5)}


def test_all_faults_of_an_order_are_told_at_once() -> None:
    lines = [OrderLine("fixed", "nobody", 1001, DAY), OrderLine("day", "adult", 1, date(2026, 11, 30))]
    with pytest.raises(InvalidInputsError) as caught:
        price_lines(park(), lines, "moon", TODAY)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "channel",
        "lines[0].count",
        "lines[0].product_id",
        "lines[0].concession",
        "lines[1].visit_date",
    ]
