"""Sizes as people read them."""

import pytest

from ops.screen import size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (120_000, "120 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (45_000_000, "45 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1.0 GB"),
        (3_240_000_000, "3.2 GB"),
    ],
)
def test_a_size_has_the_unit_that_fits_it(count: int, text: str) -> None:
    assert size(count) == text
