"""A cluster in the test's own event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.harness import LocalCluster
from tests.cluster.plain_owner import Desk


@pytest.fixture
async def cluster(valkey_url: str, tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """One owner, one gateway, the shipped example park."""
    cluster = LocalCluster(valkey_url, tmp_path)
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def two_owners(valkey_url: str, tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """Two owners that share the partitions, one gateway."""
    cluster = LocalCluster(valkey_url, tmp_path, owners=2)
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def desk(valkey_url: str) -> AsyncIterator[Desk]:
    """A plain owner of two partitions of the small park, its clock standing at noon."""
    desk = await Desk(valkey_url).start()
    yield desk
    await desk.stop()
