"""Money: integers, named rounding, shares that sum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketcore.errors import InvalidInputError
from ticketcore.money import MAX_MINOR, Money, Rounding, format_minor, parse_minor, percent_of, share_evenly


@pytest.mark.parametrize(
    ("text", "digits", "minor"),
    [("79.00", 2, 7900), ("79", 2, 7900), ("0.5", 2, 50), ("-1.25", 2, -125), ("79", 0, 79), ("1.234", 3, 1234)],
)
def test_an_amount_is_read_to_the_minor_unit(text: str, digits: int, minor: int) -> None:
    assert parse_minor(text, digits) == minor


@pytest.mark.parametrize(
    "text", ["79,00", "", "1.", ".5", "1e3", " 1", "1.234", "٣", "1_0", "9" * 17, "99999999999999.00"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_minor(text, 2)


@given(st.integers(-MAX_MINOR, MAX_MINOR), st.integers(0, 4))
def test_an_amount_survives_being_written_and_read(minor: int, digits: int) -> None:
    assert parse_minor(format_minor(minor, digits), digits) == minor


@pytest.mark.parametrize(
    ("minor", "half_up", "half_even", "towards_zero"),
    [(49, 0, 0, 0), (50, 1, 0, 0), (51, 1, 1, 0), (149, 1, 1, 1), (150, 2, 2, 1), (151, 2, 2, 1), (-50, -1, 0, 0)],
)
def test_rounding_is_what_its_name_says_around_a_half(
    minor: int, half_up: int, half_even: int, towards_zero: int
) -> None:
    assert [percent_of(minor, 1, rounding) for rounding in Rounding] == [half_up, half_even, towards_zero]


@given(st.integers(0, MAX_MINOR), st.integers(1, 1000))
def test_shares_sum_to_the_total_and_differ_by_one_unit_at_most(total: int, parts: int) -> None:
    shares = share_evenly(total, parts)
    assert (sum(shares), len(shares)) == (total, parts)
    assert shares[0] - shares[-1] in {0, 1}
    assert list(shares) == sorted(shares, reverse=True)


def test_two_currencies_never_mix() -> None:
    francs = Money(500, "CHF")
    assert francs * 2 - francs + -francs == Money(0, "CHF")
    with pytest.raises(InvalidInputError, match="CHF and EUR"):
        francs + Money(1, "EUR")
