"""How far reporting is behind, and the alarm before the ledger is full (I10)."""

from __future__ import annotations

import pytest
import redis
from structlog.testing import capture_logs

from cluster.backlog import Backlog
from cluster.ledger import Append, Ledger
from parkgate.cluster.v1 import control_pb2
from tests.cluster.harness import LocalCluster, scan

ENTRIES = 200


@pytest.fixture
async def filled(valkey_url: str) -> Ledger:
    """A log of entries of one kilobyte each."""
    ledger = Ledger(valkey_url)
    epoch = (await ledger.take("p0", "a")).epoch
    for sequence in range(1, ENTRIES + 1):
        await ledger.append([Append("p0", epoch, sequence, sequence.to_bytes(8, "big"), bytes(1_000))])
    return ledger


def reported(url: str, sequence: int) -> None:
    with redis.Redis.from_url(url) as client:
        client.set("pg:{p0}:reported", sequence)


async def test_the_alarm_comes_at_half_at_80_and_at_100_percent_once_each_and_ends(
    filled: Ledger, valkey_url: str
) -> None:
    whole = (await filled.unreported("p0"))[1]
    assert 1_000 * ENTRIES < whole < 1_500 * ENTRIES
    backlog, heard = Backlog(filled, ["p0", "p1"], whole), []
    for behind in (40, 49, 51, 60, 79, 81, 99, 100, 100, 70, 3):
        reported(valkey_url, ENTRIES - ENTRIES * behind // 100)
        with capture_logs() as logs:
            await backlog.look()
        heard.append([entry["log_level"] for entry in logs])
    assert heard == [[], [], ["warning"], [], [], ["warning"], [], ["critical"], [], ["warning"], ["info"]]
    assert backlog.now.entries == 6
    await filled.close()


async def test_the_control_service_tells_how_much_is_unreported_and_the_limit(cluster: LocalCluster) -> None:
    before = await cluster.control().GetStatus(control_pb2.GetStatusRequest())
    gate, tokens = await cluster.gate("main-1"), [cluster.token("day") for _ in range(50)]
    await cluster.register(*tokens)
    await gate.send(*map(scan, tokens))
    after = await cluster.control().GetStatus(control_pb2.GetStatusRequest())
    assert after.unreported_limit_bytes == 1 << 30
    assert after.unreported_bytes > before.unreported_bytes
