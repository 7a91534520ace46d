"""The link's framing: whatever way the bytes are cut, and bytes that are no frames (I7, I8)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.gate_session import Dispatcher
from cluster.link import (
    FEW_GROUPS,
    MAX_BATCH,
    MAX_FRAME,
    MAX_UNSENT,
    Address,
    Connection,
    LinkClient,
    LinkServer,
    _Framing,
)
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.small_park import scan, token
from ticketcore.errors import UnavailableError, UnknownOutcomeError


class Transport(asyncio.Transport):
    """Remembers that it was broken off."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


def framing(frames: list[bytes]) -> tuple[_Framing, Transport]:
    made, transport = _Framing(frames.append, lambda: None), Transport()
    made.connection_made(transport)
    return made, transport


def wire(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_come_out_whole_however_the_bytes_are_cut(frames: list[bytes], data: st.DataObject) -> None:
    received: list[bytes] = []
    made, _ = framing(received)
    rest = wire(*frames)
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        made.data_received(rest[:cut])
        rest = rest[cut:]
    assert received == frames


@pytest.mark.parametrize(("length", "broken"), [(MAX_FRAME, False), (MAX_FRAME + 1, True), (2**32 - 1, True)])
def test_a_frame_longer_than_any_of_ours_breaks_the_link_before_it_is_read(length: int, broken: bool) -> None:
    """I8"""
    received: list[bytes] = []
    made, transport = framing(received)
    made.data_received(wire(b"fine") + length.to_bytes(4, "big") + b"x")
    assert received == [b"fine"]
    assert transport.aborted is broken


class Echo:
    """An owner that answers every group with its own frame."""

    def __init__(self) -> None:
        self.requests: list[link_pb2.LinkRequest] = []
        self.answering = True

    def request(self, connection: Connection, request: link_pb2.LinkRequest) -> None:
        self.requests.append(request)
        if not self.answering:
            return
        response = link_pb2.LinkResponse(call_id=request.call_id)
        for group in request.scans.groups:
            response.verdicts.groups.add(group_id=group.group_id, server_frame=group.client_frame[:10])
        if not request.scans.groups:
            response.status.SetInParent()
        connection.send(response)


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[tuple[Echo, LinkServer, Address]]:
    owner = Echo()
    server = LinkServer(owner.request)
    path = str(tmp_path / "link.sock")
    await server.listen(path, "", None)
    yield owner, server, Address("here", path, "", 0)
    await server.close()


async def test_groups_of_one_turn_travel_together_and_a_crowd_of_large_ones_in_several_frames(
    echo: tuple[Echo, LinkServer, Address],
) -> None:
    """I7: one link frame of them all would have been longer than the link bears, and broken it for everybody."""
    owner, _, address = echo
    link = await LinkClient.connect(address, "here", None)
    answers: list[link_pb2.VerdictGroup | None] = []
    for number in range(10):
        link.scan(b"%010d" % number, b"", [1], answers.append)
    await _until(lambda: len(answers) == 10)
    assert [len(request.scans.groups) for request in owner.requests] == [1, 9], "the first waits for nobody"
    for number in range(40):
        link.scan(b"%010d" % number + bytes(1024 * 1024), b"", [1], answers.append)
    await _until(lambda: len(answers) == 50)
    assert all(answer is not None for answer in answers)
    assert len(owner.requests) >= 40 * 1024 * 1024 // (MAX_BATCH + 2 * 1024 * 1024)
    link.close()


async def test_what_comes_one_by_one_in_a_crowd_travels_together(
    echo: tuple[Echo, LinkServer, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.link.GATHER_S", 0.2)
    owner, _, address = echo
    owner.answering = False
    link = await LinkClient.connect(address, "here", None)
    for number in range(FEW_GROUPS + 20):
        link.scan(b"%010d" % number, b"", [1], lambda _: None)
        await asyncio.sleep(0)
    await _until(lambda: sum(len(request.scans.groups) for request in owner.requests) == FEW_GROUPS + 20)
    assert len(owner.requests) == FEW_GROUPS + 1
    link.close()


async def test_a_turnstile_or_two_wait_for_nobody(
    echo: tuple[Echo, LinkServer, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.link.GATHER_S", 60.0)
    _, _, address = echo
    link = await LinkClient.connect(address, "here", None)
    answers: list[link_pb2.VerdictGroup | None] = []
    for scans in range(1, 10):
        for _ in range(FEW_GROUPS):
            link.scan(b"frame", b"", [1], answers.append)
            await asyncio.sleep(0)
        await _until(lambda wanted=scans * FEW_GROUPS: len(answers) == wanted)  # type: ignore[misc]
    assert [answer is not None and answer.server_frame for answer in answers] == [b"frame"] * 9 * FEW_GROUPS
    link.close()


@dataclass
class Table:
    """Routes to these links, by turns; to the one alone, if there is one."""

    links: list[LinkClient]

    def sole(self) -> LinkClient | None:
        return self.links[0] if len(self.links) == 1 else None

    def table(self) -> list[LinkClient]:
        return self.links

    def look_up_soon(self) -> None: ...


@pytest.mark.parametrize("owners", [1, 2])
async def test_frames_that_were_never_answered_are_no_crowd_for_ever(
    echo: tuple[Echo, LinkServer, Address], monkeypatch: pytest.MonkeyPatch, owners: int
) -> None:
    """A lone turnstile would be made to wait, and the memory of the gateway would grow."""
    monkeypatch.setattr("cluster.link.GATHER_S", 60.0)
    owner, _, address = echo
    owner.answering = False
    links = [await LinkClient.connect(address, "here", None) for _ in range(owners)]
    dispatcher, answers = Dispatcher(Table(links), 2.0), list[bytes]()  # type: ignore[arg-type]
    frame = gate_pb2.ClientFrame(scans=[scan(token("day", number), number) for number in (1, 2)])
    for _ in range(FEW_GROUPS):
        dispatcher.send(frame.SerializeToString(), frame, [11], answers.append)
    await _until(lambda: sum(len(request.scans.groups) for request in owner.requests) == owners * FEW_GROUPS)
    assert [len(link._groups) for link in links] == [FEW_GROUPS] * owners
    assert dispatcher.expire(asyncio.get_running_loop().time() + 2.1) == len(answers) == FEW_GROUPS
    assert [len(link._groups) for link in links] == [0] * owners
    owner.answering = True
    told: list[link_pb2.VerdictGroup | None] = []
    links[0].scan(b"frame", b"", [1], told.append)
    await _until(lambda: bool(told))
    for link in links:
        link.close()


async def test_calls_to_an_owner_that_does_not_read_are_refused_before_they_pile_up(tmp_path: Path) -> None:
    """Registrations of a megabyte, asked again and again, would fill the gateway's memory."""
    hung = asyncio.Event()

    async def never_read(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await hung.wait()
        writer.close()

    path = str(tmp_path / "link.sock")
    server = await asyncio.start_unix_server(never_read, path)
    link = await LinkClient.connect(Address("here", path, "", 0), "here", None)
    register = {"tickets": [{"token": bytes(1024 * 1024)}]}
    calls = [asyncio.create_task(link.call(link_pb2.LinkRequest(register=register), 0.3)) for _ in range(40)]  # type: ignore[arg-type]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert link._framing.transport is not None
    assert link._framing.transport.get_write_buffer_size() < MAX_UNSENT + 2 * 1024 * 1024
    assert {type(error) for error in errors} == {UnknownOutcomeError, UnavailableError}
    assert all("nothing was sent" in str(error) for error in errors if isinstance(error, UnavailableError))
    link.close()
    hung.set()
    server.close()


async def test_whoever_waits_when_a_link_breaks_is_told_that_the_outcome_is_unknown(
    echo: tuple[Echo, LinkServer, Address],
) -> None:
    """I7"""
    owner, server, address = echo
    owner.answering = False
    link = await LinkClient.connect(address, "here", None)
    answers: list[link_pb2.VerdictGroup | None] = []
    link.scan(b"frame", b"", [1], answers.append)
    call = asyncio.create_task(link.call(link_pb2.LinkRequest(status={}), 5))
    await _until(lambda: len(owner.requests) == 2)
    await server.close()
    with pytest.raises(UnknownOutcomeError):
        await call
    await _until(lambda: link.broken)
    assert answers == [None]
    link.scan(b"later", b"", [1], answers.append)
    assert answers == [None, None]
    with pytest.raises(UnknownOutcomeError):
        await link.call(link_pb2.LinkRequest(status={}), 5)


async def test_a_call_that_is_answered_too_late_is_unknown_and_its_answer_is_nobodys(
    echo: tuple[Echo, LinkServer, Address],
) -> None:
    owner, _, address = echo
    owner.answering = False
    link = await LinkClient.connect(address, "here", None)
    with pytest.raises(UnknownOutcomeError, match="did not answer"):
        await link.call(link_pb2.LinkRequest(status={}), 0.05)
    owner.answering = True
    assert (await link.call(link_pb2.LinkRequest(status={}), 5)).HasField("status")
    link.close()


async def test_bytes_that_are_no_request_break_their_own_link_only(echo: tuple[Echo, LinkServer, Address]) -> None:
    """I8"""
    _, _, address = echo
    good = await LinkClient.connect(address, "here", None)
    for garbage in (wire(b"\xff\xff\xff"), b"\xff" * 100, wire(b"\x0a\x05abc")):
        reader, writer = await asyncio.open_unix_connection(address.path)
        writer.write(garbage)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    assert (await good.call(link_pb2.LinkRequest(status={}), 5)).HasField("status")
    good.close()


async def test_an_owner_that_answers_nonsense_is_hung_up_on(tmp_path: Path) -> None:
    """I7"""

    over = asyncio.Event()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire(b"\xff\xff\xff"))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        over.set()

    path = str(tmp_path / "nonsense.sock")
    server = await asyncio.start_unix_server(nonsense, path)
    link = await LinkClient.connect(Address("here", path, "", 0), "here", None)
    await _until(lambda: link.broken)
    await over.wait()
    server.close()
    with pytest.raises(UnknownOutcomeError, match="broken"):
        await link.call(link_pb2.LinkRequest(status={}), 1)


async def test_an_address_where_nobody_listens_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        await LinkClient.connect(Address("here", str(tmp_path / "nobody.sock"), "", 0), "here", None)


def test_an_address_comes_back_from_the_ledger_as_it_was_published() -> None:
    address = Address("node-1", "/run/x.sock", "10.0.0.1", 4711)
    assert Address.decode(address.encode()) == address


async def _until(holds: object) -> None:
    async with asyncio.timeout(10):
        while not holds():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.001)
