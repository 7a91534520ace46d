"""One running stack for all tests of a session that only use it or kill parts of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.stack import Stack, tell


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is up and logs all it can, in a folder whose path is too long for sockets, so that those are in
    private ones in /tmp. At the end it is stopped, and nothing of it may be left."""
    made = Stack(tmp_path_factory.mktemp("stack") / "data", log_level="debug")
    try:
        tell(f"up after {made.up():.1f} s")
        yield made
        made.down()
    finally:
        made.kill_everything()
