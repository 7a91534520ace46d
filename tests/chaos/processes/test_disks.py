"""A disk that loses its power keeps what was synced and nothing else; and what the park has made durable there."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.backup.restore import _take_place
from ops.files import write_atomic
from ops.services.catalogue import EXAMPLE, adopt, ensure_catalogue
from ops.settings import Settings
from tests.chaos.processes import tools
from tests.chaos.processes.disks import SmallDisk, small_disk, using

pytestmark = pytest.mark.skipif(bool(tools.lacking()), reason=f"this machine lacks {tools.lacking()}")
KEPT = b"what was said to be on the disk"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "image", tmp_path / "disk", size_mb=48) as disk:
        yield disk


def lose_power(disk: SmallDisk) -> None:
    disk.cut_power()
    disk.unmount()
    disk.mount()


def test_what_was_synced_outlives_the_power_and_what_the_kernel_had_cached_does_not(disk: SmallDisk) -> None:
    write_atomic(disk.folder / "synced", KEPT)
    (disk.folder / "cached").write_bytes(KEPT)
    disk.cut_power()
    with pytest.raises(OSError, match="Input/output error"):
        (disk.folder / "later").write_bytes(KEPT)
    disk.unmount()
    disk.mount()
    assert (disk.folder / "synced").read_bytes() == KEPT
    cached = disk.folder / "cached"
    assert not cached.exists() or cached.read_bytes() == b""
    assert not (disk.folder / "later").exists()


def test_whoever_has_files_on_the_disk_is_found_and_nobody_else(disk: SmallDisk, tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        os.chdir(disk.folder)
        signal.pause()
        os._exit(0)
    try:
        while not (found := using(disk.folder)):
            pass
        assert [who.pid for who in found] == [pid]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert using(tmp_path) == []


def first_start(data: Path) -> Path:
    settings = Settings(data_dir=data)
    ensure_catalogue(settings)
    return settings.catalogue_dir


def published(data: Path) -> Path:
    settings = Settings(data_dir=data)
    ensure_catalogue(settings)
    mine = data.with_name("mine")
    shutil.copytree(EXAMPLE, mine)
    adopt(mine, settings)
    return settings.catalogue_dir


def restored(data: Path) -> Path:
    fresh = data.with_name("fresh")
    shutil.copytree(EXAMPLE, fresh / "catalogue")
    data.rmdir()
    _take_place(fresh, data)
    return data / "catalogue"


@pytest.mark.parametrize("make", [first_start, published, restored])
def test_a_catalogue_is_whole_after_a_power_cut(disk: SmallDisk, make: Callable[[Path], Path]) -> None:
    """Every start reads it: a park with empty files in its catalogue does not start."""
    data = disk.folder / "data"
    data.mkdir()
    os.sync()  # the folder was there before
    catalogue = make(data)
    lose_power(disk)
    found = {path.name: path.read_bytes() for path in catalogue.glob("*.toml")}
    assert found == {path.name: path.read_bytes() for path in EXAMPLE.glob("*.toml")}
