"""Peers on a link that send what they must not: they are believed, but nobody dies of them (I7, I8)."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.gate_session import Dispatcher
from cluster.link import Connection, ScanAnswer
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_owner import Desk
from tests.cluster.small_park import scan, token

NO_FRAME = b"\xff\xff"
CODES = [token("day", number) for number in (1, 2)]


class Saying:
    """A link whose owner answers every group with the same bytes."""

    broken = False

    def __init__(self, said: bytes) -> None:
        self._said = said

    def scan(self, _frame: bytes, _heads: bytes, _gates: list[int], answer: ScanAnswer) -> int:
        answer(link_pb2.VerdictGroup(server_frame=self._said))
        return 1


class Table:
    """Routes to these links."""

    def __init__(self, *links: Saying) -> None:
        self._links = list(links)

    def sole(self) -> None:
        return None

    def table(self) -> list[Saying]:
        return self._links


def said(*reasons: gate_pb2.Reason.ValueType) -> bytes:
    verdicts = [gate_pb2.Verdict(decision=gate_pb2.DECISION_REJECT, reason=reason) for reason in reasons]
    return gate_pb2.ServerFrame(verdicts=verdicts).SerializeToString()


@pytest.mark.parametrize("nonsense", [NO_FRAME, said(), said(gate_pb2.REASON_EXPIRED, gate_pb2.REASON_EXPIRED)])
async def test_an_answer_that_does_not_fit_its_scans_is_an_unknown_outcome_and_spoils_no_other(nonsense: bytes) -> None:
    """I7: of a frame for two owners, the other's answer still counts."""
    routes: Any = Table(Saying(nonsense), Saying(said(gate_pb2.REASON_ALREADY_USED)))
    dispatcher = Dispatcher(routes, 2.0)
    frame, answers = gate_pb2.ClientFrame(scans=[scan(code, 1) for code in CODES]), list[bytes]()
    dispatcher.send(frame.SerializeToString(), frame, [11], answers.append)
    (answer,) = map(gate_pb2.ServerFrame.FromString, answers)
    told = {(verdict.decision, verdict.reason) for verdict in answer.verdicts}
    assert told == {
        (gate_pb2.DECISION_RETRY, gate_pb2.REASON_TIMEOUT),
        (gate_pb2.DECISION_REJECT, gate_pb2.REASON_ALREADY_USED),
    }


class Pipe:
    """A link's transport, of which only its end matters."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, _name: str) -> None:
        return None


async def test_a_group_that_holds_no_client_frame_ends_its_link_and_not_the_owner(desk: Desk) -> None:
    """I8"""
    connection, pipe = Connection(desk.owner.request), Pipe()
    connection.framing.connection_made(pipe)  # type: ignore[arg-type]
    request = link_pb2.LinkRequest()
    request.scans.groups.add(group_id=1, client_frame=NO_FRAME)
    raw = request.SerializeToString()
    connection.framing.data_received(len(raw).to_bytes(4, "big") + raw)
    assert pipe.aborted
    await desk.register(CODES[0])
    assert (await desk.send(desk.scan(CODES[0])))[0].decision == gate_pb2.DECISION_ADMIT


async def test_a_dry_run_of_a_lane_that_is_none_is_a_wrong_gate_and_of_no_frame_a_fault(desk: Desk) -> None:
    """I8: the owner decides it in its turn, where an error would be its end."""
    beyond = gate_pb2.ClientFrame(scans=[desk.scan(CODES[0], lane=7)]).SerializeToString()
    answer = await desk.ask(dry_run=link_pb2.ScanGroup(client_frame=beyond, gate_numbers=[11]))
    (verdict,) = gate_pb2.ServerFrame.FromString(answer.dry_run.server_frame).verdicts
    assert verdict.reason == gate_pb2.REASON_WRONG_GATE
    fault = (await desk.ask(dry_run=link_pb2.ScanGroup(client_frame=NO_FRAME, gate_numbers=[11]))).fault
    assert "ClientFrame" in fault
    assert desk.owner.failure is None
