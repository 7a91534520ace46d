"""Bundles: shares to the cent, by the rule, whatever the prices."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ticketcore.park import document
from ticketcore.bundles import share_fee
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import parse_catalogue
from ticketcore.errors import InvalidInputError, InvalidInputsError
from ticketcore.lines import OrderLine, PricedLine
from ticketcore.money import share_by_weight
from ticketcore.pricing import price_lines, quota_needs

THURSDAY = date(2026, 12, 10)
TODAY = date(2026, 12, 1)


def bundle(**fields: Any) -> dict[str, Any]:
    return {
        "id": "both",
        "name": "Day and show",
        "parts": [{"product": "day"}, {"product": "show"}],
        "prices": [{"concession": "adult", "price": "100.00"}],
    } | fields


def park(**fields: Any) -> Catalogue:
    return parse_catalogue(document() | {"bundles": [bundle(**fields)]})


def line(count: int = 1, slot: int = 1) -> OrderLine:
    return OrderLine("both", "adult", count, THURSDAY, slot)


def priced(catalogue: Catalogue, *lines: OrderLine) -> tuple[PricedLine, ...]:
    return price_lines(catalogue, lines or (line(),), "window", TODAY)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=16))
def test_shares_sum_to_the_whole_and_none_is_a_unit_off_its_proportion(total: int, weights: list[int]) -> None:
    shares = share_by_weight(total, weights)
    assert sum(shares) == total
    if sum(weights):
        assert all(
            abs(share * sum(weights) - total * weight) < sum(weights)
            for share, weight in zip(shares, weights, strict=True)
        )
    else:
        assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (100, [1, 1, 1], (34, 33, 33)),
        (101, [1, 1, 1], (34, 34, 33)),
        (100, [2, 3, 3], (25, 38, 37)),
        (1, [0, 0, 5], (0, 0, 1)),
        (5, [0, 0], (3, 2)),
        (0, [1, 2], (0, 0)),
    ],
)
def test_cents_go_to_the_largest_remainder_and_of_equal_ones_to_the_first(
    total: int, weights: list[int], shares: tuple[int, ...]
) -> None:
    assert share_by_weight(total, weights) == shares


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, []), (1, [2, -1])])
def test_what_cannot_be_shared_is_refused(total: int, weights: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be shared"):
        share_by_weight(total, weights)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=16), st.integers(0, 100))
def test_a_shared_fee_is_never_more_than_a_tickets_price(prices: list[int], percent: int) -> None:
    fee = sum(prices) * percent // 100
    fees = share_fee(fee, prices)
    assert sum(fees) == fee
    assert all(0 <= part <= price for part, price in zip(fees, prices, strict=True))


def test_without_weights_the_products_own_prices_decide() -> None:
    catalogue = park()
    own = [p.prices[0].price_minor for p in (catalogue.products["day"], catalogue.products["show"])]
    found = priced(catalogue, line(count=3))
    assert [item.unit_price_minor for item in found] == list(share_by_weight(10_000, own))
    assert sum(item.total_minor for item in found) == 3 * 10_000
    assert [(item.product_number, item.line.slot, item.line.count) for item in found] == [(1, 0, 3), (3, 1, 3)]


def test_weights_decide_where_they_are_given_and_each_ticket_has_its_share() -> None:
    parts = [{"product": "day", "count": 2, "weight": 1}, {"product": "show", "weight": 1}]
    found = priced(park(parts=parts))
    assert [item.unit_price_minor for item in found] == [3_334, 3_333, 3_333]


def test_bundles_are_numbered_through_the_order_and_stand_beside_products() -> None:
    alone = OrderLine("day", "adult", 1, THURSDAY)
    found = priced(park(), line(count=2), alone, line())
    assert [(item.bundle_id, item.first_bundle) for item in found] == [
        ("both", 1), ("both", 1), ("", 0), ("both", 3), ("both", 3),
    ]  # fmt: skip
    assert found[2].unit_price_minor == 7_900


def test_a_bundle_takes_the_quotas_of_all_its_parts() -> None:
    catalogue = park()
    needs = quota_needs(catalogue, [item.line for item in priced(catalogue, line(count=2))])
    assert {need.quota_key: need.units for need in needs} == {
        "product=1;date=2026-12-10": 2,
        "product=3;date=2026-12-10;slot=1": 2 * 2,  # each for two persons
    }


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (line(slot=0), "slot: 0 does not exist for 'show'"),
        (line(slot=2), "slot: 2 does not exist for 'show'"),
        (line(count=0), "count: is 0"),
        (replace(line(), concession="group"), "'both' has no price for 'group'"),
        (replace(line(), concession="elf"), "concession: 'elf' does not exist"),
        (replace(line(), visit_date=date(2026, 11, 30)), "is not within"),
        (replace(line(), product_id="bth"), "known are both, day, fixed, show"),
    ],
)
def test_a_bundle_that_cannot_be_sold_says_why(bad: OrderLine, words: str) -> None:
    with pytest.raises(InvalidInputsError) as caught:
        priced(park(), bad)
    assert words in str(caught.value)


def test_a_bundle_is_not_sold_where_its_channels_or_a_parts_prices_do_not_allow_it() -> None:
    with pytest.raises(InvalidInputsError, match="'both' is not sold in channel 'window'"):
        priced(park(channels=["web"]))
    spoiled = document() | {"bundles": [bundle()]}
    spoiled["products"][0]["prices"] = [{"concession": "adult", "price": "79.00", "last_day": "2026-12-09"}]
    with pytest.raises(InvalidInputsError, match="'day', a part, has no price for it on 2026-12-10"):
        priced(parse_catalogue(spoiled))


@pytest.mark.parametrize(("lines", "fits"), [(32, True), (33, False)])
def test_an_order_holds_64_lines_with_its_bundles_opened(lines: int, fits: bool) -> None:
    wanted = [line()] * lines
    if fits:
        assert len(priced(park(), *wanted)) == 64
    else:
        with pytest.raises(InvalidInputsError, match="lines: are 66, expected 1 to 64"):
            priced(park(), *wanted)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": "day"}, "'day' is a product's id too"),
        ({"parts": [{"product": "day"}]}, "expected 2 to 16 tickets"),
        ({"parts": [{"product": "day", "count": 16}, {"product": "show"}]}, "expected 2 to 16 tickets"),
        ({"parts": [{"product": "day"}, {"product": "day"}]}, "names a product twice"),
        ({"parts": [{"product": "day"}, {"product": "shw"}]}, "names 'shw', which does not exist"),
        ({"parts": [{"product": "day", "weight": 1}, {"product": "show"}]}, "a 'weight' for every part, or for none"),
        ({"prices": []}, "is empty, expected at least one price"),
        ({"prices": [{"concession": "group", "price": "1.00"}]}, "a bundle is not sold to groups"),
        ({"channels": ["wb"]}, "names 'wb', which does not exist"),
        ({"refund_policy": "none"}, "names 'none', which does not exist"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_faulty_bundle_is_told_with_its_path(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputsError) as caught:
        park(**fields)
    assert any(problem.startswith("bundles") and words in problem for problem in caught.value.problems)


def test_every_part_is_priced_for_each_concession_of_the_bundle() -> None:
    spoiled = document() | {"bundles": [bundle()]}
    spoiled["concessions"].append({"id": "child", "name": "Child"})
    spoiled["bundles"][0]["prices"].append({"concession": "child", "price": "50.00"})
    with pytest.raises(InvalidInputsError, match=r"has a concession that \['day', 'show'\] has no price for"):
        parse_catalogue(spoiled)
