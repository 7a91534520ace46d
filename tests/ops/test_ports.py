"""Ports that are chosen: free, and nobody else's who chooses, also before anybody listens on them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops import ports
from ops.errors import OpsError

FEW = range(32_100, 32_160)
"""Where nothing else chooses."""
CHOOSER = """
import sys
from ops import ports
ports.FIRST, ports.LAST = int(sys.argv[1]), int(sys.argv[2])
print(*(ports.choose() for _ in range(10)), flush=True)
sys.stdin.readline()
"""


def chooser(first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHOOSER, str(first), str(last)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def chosen_by(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(port) for port in process.stdout.readline().split()]


def test_processes_that_choose_from_few_ports_at_once_never_meet() -> None:
    """Of 60 ports three choose ten each: at random, two of them would meet in all but one case of hundreds."""
    with ExitStack() as running:
        choosers = [running.enter_context(chooser(FEW[0], FEW[-1])) for _ in range(3)]
        found = [port for one in choosers for port in chosen_by(one)]
        assert len(found) == len(set(found)) == 30
        assert set(found) <= set(FEW)
        assert all(map(ports.is_free, found)), "nobody listens there"


def test_a_port_is_anybodys_again_when_the_process_that_chose_it_has_ended(tmp_path: Path) -> None:
    note = tmp_path / "port"
    with chooser(ports.FIRST, ports.LAST) as other:
        port = chosen_by(other)[0]
        note.write_text(str(port))
        kept = ports.kept_or_chosen(note)
        assert kept != port
        assert ports.noted(note) == kept
        other.kill()
    note.write_text(str(port))
    assert ports.kept_or_chosen(note) == port
    assert ports.kept_or_chosen(note) == port, "what is one's own is kept"


def test_a_row_is_of_neighbours_of_which_each_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ports.choose_row(20)
    monkeypatch.setattr(ports, "FIRST", first)
    monkeypatch.setattr(ports, "LAST", first + 19)
    with pytest.raises(OpsError, match=f"No free TCP port from {first} to {first + 19}"):
        ports.choose()
