"""An owner that stands still for good and has been replaced, its connections open: who asks it looks for another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.batch import WaitingScan
from cluster.config import ClusterConfig
from cluster.control_service import ControlService
from cluster.gate_session import Dispatcher
from cluster.hosting import OwnerHost
from cluster.leasing import Leasing
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_owner import until
from tests.cluster.small_park import scan, token
from ticketcore.errors import UnknownOutcomeError


class Silent:
    """A link on which no answer ever comes."""

    broken = False

    def scan(self, *_: object) -> int:
        return 1

    def forget(self, _group_id: int) -> None: ...

    async def call(self, *_: object) -> Any:
        raise UnknownOutcomeError("the owner did not answer within 5 s")


class SilentForLong(Silent):
    """Whose time is not over yet."""

    async def call(self, *_: object) -> Any:
        await asyncio.Event().wait()


@dataclass
class Routes:
    """Finds the silent one, and counts how often it was asked to look again."""

    looked: int = 0
    link: Any = field(default_factory=Silent)

    async def wait(self, *_: object) -> Any:
        return self.link

    def sole(self) -> Any:
        return self.link

    def look_up_soon(self) -> None:
        self.looked += 1


@pytest.fixture
def routes() -> Routes:
    return Routes()


async def test_a_frame_that_nobody_answers_is_retried_elsewhere(routes: Routes) -> None:
    """I7, I10"""
    dispatcher = Dispatcher(routes, 2.0)  # type: ignore[arg-type]
    frame, answers = gate_pb2.ClientFrame(scans=[scan(token("day", 1), 1)]), list[bytes]()
    dispatcher.send(frame.SerializeToString(), frame, [11], answers.append)
    now = asyncio.get_running_loop().time()
    assert (dispatcher.expire(now + 1.9), routes.looked) == (0, 0)
    assert (dispatcher.expire(now + 2.1), routes.looked) == (1, 1)
    (verdict,) = gate_pb2.ServerFrame.FromString(answers[0]).verdicts
    assert (verdict.decision, verdict.reason) == (gate_pb2.DECISION_RETRY, gate_pb2.REASON_TIMEOUT)


async def test_a_call_to_a_silent_quota_owner_looks_for_another(routes: Routes) -> None:
    """I10"""
    service = ControlService(ClusterConfig("", None), None, None, routes, None)  # type: ignore[arg-type]
    with pytest.raises(UnknownOutcomeError):
        await service._ask_quota(link_pb2.LinkRequest())
    assert routes.looked == 1


async def test_another_owner_is_looked_for_also_when_the_caller_gives_up_before_the_call_does(routes: Routes) -> None:
    """I10: sales wait five seconds, as calls to owners do, and theirs begin first."""
    routes.link = SilentForLong()
    service = ControlService(ClusterConfig("", None), None, None, routes, None)  # type: ignore[arg-type]
    for ask in (service._ask_quota(link_pb2.LinkRequest()), service._ask_all([routes.link], [link_pb2.LinkRequest()])):
        asking = asyncio.create_task(ask)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert routes.looked == 2


async def test_scans_that_wait_for_a_silent_capacity_owner_are_told_retry_and_it_is_looked_for(routes: Routes) -> None:
    """I4, I7"""
    resumed: list[Any] = []
    leasing = Leasing({}, routes, lambda waiting, answer: resumed.append(answer))  # type: ignore[arg-type]
    waiting = WaitingScan(None, 0, "p0", 2, 1)  # type: ignore[arg-type]
    leasing.want([waiting])
    while not resumed:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)
    assert (resumed, routes.looked) == ([None], 1)


class Mad(Silent):
    """A link that fails in a way that nobody expects."""

    async def call(self, *_: object) -> Any:
        raise ValueError("nobody expects this")


async def test_an_owner_whose_question_for_capacity_has_died_is_to_be_made_anew(routes: Routes) -> None:
    """I10: later scans of the zone would join its queue and wait for ever."""
    routes.link = Mad()
    host = OwnerHost("owner-0", ClusterConfig("redis://nowhere", Path("/nowhere")), "node")
    host.owner.leasing = leasing = Leasing({}, routes, lambda *_: None)  # type: ignore[arg-type]
    assert host.failure is None
    leasing.want([WaitingScan(None, 0, "p0", 2, 1)])  # type: ignore[arg-type]
    await until(lambda: host.failure is not None)
    assert "nobody expects this" in str(host.failure)
    await host.close()
