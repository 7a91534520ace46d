"""What `make chaos` says while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.chaos.table import TELL_EVERY_S, teller


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_gets_a_line_now_and_then_and_a_screen_all_of_them(terminal: bool) -> None:
    now, screen = 5.0, list[str]()
    log = io.StringIO()
    tell = teller(Console(file=log, force_terminal=terminal), screen.append, lambda: now)
    said = []
    for text in ("first", "[at once]", "later [1]"):
        tell(text)
        said.append(text)
        now += TELL_EVERY_S / 2
    assert screen == (said if terminal else [])
    assert log.getvalue() == ("" if terminal else "0 s: first\n20 s: later [1]\n")
