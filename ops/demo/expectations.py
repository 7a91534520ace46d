"""What must come of a step, compared with what did."""

from __future__ import annotations


class Mismatch(Exception):
    """Something else came of a step than must."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"{what}: expected {expected}, got {actual}")


def expect(what: str, expected: str, actual: str) -> None:
    """Raises: Mismatch."""
    if expected != actual:
        raise Mismatch(what, expected, actual)
