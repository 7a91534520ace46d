"""Settings of trials: an installation on one host or two, and what is tried on it there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import tools
from tests.chaos.processes.disks import disk_faults, small_disk
from tests.chaos.processes.faults import ONE_NODE, Fault
from tests.chaos.processes.hosts import two_host_faults
from tests.chaos.processes.park import Park, installation
from tests.chaos.processes.site import two_nodes
from tests.chaos.processes.takeover import Loss, killed_owner, lost_node

LEDGER = "ledger"
"""Where an installation keeps its ledger, in its data folder."""


@dataclass(frozen=True, slots=True)
class Setting:
    """An installation, its faults, and the loss of an owner: who that is, is looked up when it is to happen."""

    park: Park
    faults: Sequence[Fault]
    loss: Callable[[], Loss]


@contextmanager
def setting(hosts: int) -> Iterator[Setting]:
    """An installation on so many hosts, and all that is tried on it here."""
    if hosts == 2:
        with two_nodes() as (site, park):
            wire = site.namespace
            yield Setting(park, two_host_faults(site), lambda: lost_node(park, wire.there, wire.cut_all_but))
    elif tools.lacking():
        with one_node() as park:
            yield Setting(park, ONE_NODE, lambda: killed_owner(park))
    else:
        with tempfile.TemporaryDirectory(prefix="pgchaos-") as folder:
            place, data = Path(folder), Path(folder) / "data"
            with (
                small_disk(place / "disk", data) as books,
                small_disk(place / "ledger-disk", data / LEDGER) as ledger,
                running(data) as park,
            ):
                yield Setting(park, [*ONE_NODE, *disk_faults(books, ledger)], lambda: killed_owner(park))


@contextmanager
def one_node() -> Iterator[Park]:
    """An installation on this machine, on whatever disk temporary files are."""
    with tempfile.TemporaryDirectory(prefix="pgchaos-") as folder, running(Path(folder) / "data") as park:
        yield park


@contextmanager
def running(data: Path) -> Iterator[Park]:
    """An installation in this folder. Nothing of it is left running, however this ends."""
    stack = installation(data)
    try:
        stack.up()
        yield Park(stack)
        stack.down()
    finally:
        stack.kill_everything()
