"""What a reader is: something that yields the text of codes, one at a time, until it has no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

MAX_LINE_BYTES = 1_024
"""Our codes have 122 characters; what is longer than this is no code, and is not kept in memory."""


@dataclass(frozen=True, slots=True)
class ReadCode:
    """A code as it was read. `gate_id` is set when the source itself says which gate it was shown at."""

    text: str
    origin: str = ""
    gate_id: str = ""


class Reader(Protocol):
    """A source of codes."""

    def codes(self) -> AsyncIterator[ReadCode]:
        """The codes, in the order in which they are read. Ends when the source does; a device never ends."""
        ...


def split_gate(line: str, origin: str) -> ReadCode:
    """A line is a code, or a gate's id, a tab and a code. (Base45 has no tab.)"""
    gate_id, tab, code = line.partition("\t")
    return ReadCode(code, origin, gate_id.strip()) if tab else ReadCode(line, origin)
