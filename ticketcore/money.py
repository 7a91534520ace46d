"""Money: integer minor units with a currency. Never a float; every rounding is named.

An amount without its currency is called `*_minor` and belongs to the venue's currency; `Money` carries it along and
refuses to mix two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ticketcore.errors import InvalidInputError

MAX_MINOR = 10**15
"""Ten thousand times a national holiday's takings: far inside 64 bits, far outside any price."""

_AMOUNT = re.compile(r"(-?)([0-9]{1,16})(?:\.([0-9]+))?")


class Rounding(Enum):
    """How a fraction of a minor unit is rounded. HALF_UP rounds a half away from zero, as tills do."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    TOWARDS_ZERO = "towards_zero"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount: `minor` units of `currency` (ISO 4217)."""

    minor: int
    currency: str

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._same(other).minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._same(other).minor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __mul__(self, count: int) -> Money:
        return Money(self.minor * count, self.currency)

    def _same(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise InvalidInputError(f"{self.currency} and {other.currency} cannot be added: convert one first")
        return other


def parse_minor(text: str, digits: int) -> int:
    """Minor units of a decimal amount such as "79.00"; `digits` is how many the currency has.

    Raises:
        InvalidInputError: not a plain decimal number, or finer than the currency's minor unit.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"{text!r} is no amount; write it like {format_minor(7900, digits)!r}")
    sign, whole, fraction = match.group(1), match.group(2), match.group(3) or ""
    if len(fraction) > digits:
        raise InvalidInputError(f"{text!r} has {len(fraction)} decimals, and the currency has {digits}")
    minor = int(whole + fraction.ljust(digits, "0"))
    if minor > MAX_MINOR:
        raise InvalidInputError(f"{text!r} is more than any price or total can be")
    return -minor if sign else minor


def format_minor(minor: int, digits: int) -> str:
    """The decimal text of minor units: 7900 with two digits is "79.00"."""
    sign, text = "-" if minor < 0 else "", str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{text[: len(text) - digits]}.{text[len(text) - digits :]}" if digits else f"{sign}{text}"


def percent_of(minor: int, percent: int, rounding: Rounding) -> int:
    """`percent` hundredths of an amount, rounded to a minor unit."""
    return _divide(minor * percent, 100, rounding)


def _divide(dividend: int, divisor: int, rounding: Rounding) -> int:
    quotient, rest = divmod(abs(dividend), divisor)
    match rounding:
        case Rounding.HALF_UP:
            quotient += 2 * rest >= divisor
        case Rounding.HALF_EVEN:
            quotient += 2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1)
        case Rounding.TOWARDS_ZERO:
            pass
    return -quotient if dividend < 0 else quotient


def share_by_weight(total_minor: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Splits a total (not negative) in proportion to weights (not negative; all zero: evenly); sums to it exactly.

    Whole units by the largest remainder, of equal ones the first. No part is rounded further than to its next unit.
    """
    if not weights or total_minor < 0 or min(weights) < 0:
        raise InvalidInputError(f"a total of {total_minor} cannot be shared by {list(weights)}")
    whole = sum(weights)
    if not whole:
        return share_evenly(total_minor, len(weights))
    parts = [divmod(total_minor * weight, whole) for weight in weights]
    left = total_minor - sum(quotient for quotient, _ in parts)
    first = sorted(range(len(parts)), key=lambda index: (-parts[index][1], index))[:left]
    return tuple(quotient + (index in first) for index, (quotient, _) in enumerate(parts))


def share_evenly(total_minor: int, parts: int) -> tuple[int, ...]:
    """Splits a total (not negative) over `parts` (at least 1) that differ by at most one unit and sum to it exactly.

    The larger parts come first.
    """
    if parts < 1 or total_minor < 0:
        raise InvalidInputError(f"a total of {total_minor} cannot be shared over {parts}")
    each, rest = divmod(total_minor, parts)
    return (each + 1,) * rest + (each,) * (parts - rest)
