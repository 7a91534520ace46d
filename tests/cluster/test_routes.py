"""Where scans and questions go when owners are replaced and hosts are lost without a word (I7, I10)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster import link as link_module
from cluster.ledger import Head
from cluster.link import LOST_HOST_S, Address, LinkClient, LinkServer
from cluster.routes import Routes
from cluster.tls import client_context, server_context
from ops.pki import Kind
from parkgate.cluster.v1 import link_pb2
from tests.cluster.harness import Pki
from ticketcore.errors import UnavailableError, UnknownOutcomeError

NODE, NAMES = "node", [f"p{index}" for index in range(16)]


@dataclass
class Heads:
    """Stands for the ledger: where owners listen, as the test says."""

    addresses: dict[str, str] = field(default_factory=dict)

    async def heads(self, names: list[str]) -> dict[str, Head]:
        return {name: Head(1, 0, self.addresses[name], "owner") for name in names if name in self.addresses}


@dataclass
class Owners:
    """Links that listen and never answer."""

    folder: Path
    servers: list[LinkServer] = field(default_factory=list)

    async def open(self) -> str:
        path = self.folder / f"{len(self.servers)}.sock"
        self.servers.append(LinkServer(lambda *_: None))
        await self.servers[-1].listen(str(path), "", None)
        return Address(NODE, str(path), "", 0).encode()


@pytest.fixture
async def owners() -> AsyncIterator[Owners]:
    folder = Path("/tmp") / f"pg-{os.getpid()}-{os.urandom(3).hex()}"
    folder.mkdir(mode=0o700)
    made = Owners(folder)
    yield made
    for server in made.servers:
        await server.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


async def test_the_silent_link_to_a_replaced_owner_is_closed_and_who_waits_on_it_is_told(owners: Owners) -> None:
    """Else each question for capacity would wait its whole time for a host that is lost."""
    lost, kept, new = [await owners.open() for _ in range(3)]
    ledger = Heads({"p0": lost, "p1": kept})
    routes = Routes(ledger, NAMES[:2], NODE, None)  # type: ignore[arg-type]
    await routes.look_up()
    silent, other = routes.links()
    groups: list[object] = []
    silent.scan(b"scans", b"", [1], groups.append)
    call = asyncio.create_task(silent.call(link_pb2.LinkRequest(), 5.0))
    await asyncio.sleep(0)
    ledger.addresses["p0"] = new
    await routes.look_up()
    assert routes.links() == [routes.link("p0"), other]
    assert routes.link("p0") is not silent
    with pytest.raises(UnknownOutcomeError, match="broke"):
        await asyncio.wait_for(call, 1.0)
    assert groups == [None]
    routes.close()


async def test_a_partition_that_is_being_taken_leads_nowhere_and_its_other_partitions_stay(owners: Owners) -> None:
    address = await owners.open()
    ledger = Heads({"p0": address, "p1": address})
    routes = Routes(ledger, NAMES[:2], NODE, None)  # type: ignore[arg-type]
    await routes.look_up()
    link = routes.link("p0")
    ledger.addresses["p0"] = ""
    await routes.look_up()
    assert (routes.link("p0"), routes.link("p1"), routes.links()) == (None, link, [link])
    routes.close()


async def test_only_owners_of_ticket_partitions_are_asked_for_units(owners: Owners) -> None:
    ledger = Heads({"p0": await owners.open(), "q0": await owners.open()})
    routes = Routes(ledger, NAMES[:1], NODE, None)  # type: ignore[arg-type]
    await routes.look_up()
    assert routes.links() == [routes.link("p0")]
    assert routes.link("q0") not in (None, *routes.links())
    routes.close()


async def test_a_lost_host_is_tried_once_a_look_up_while_all_others_are_connected(
    owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway starts only after its first look-up."""
    good, gone = (
        [await owners.open() for _ in range(2)],
        [Address("far", "", f"10.0.0.{n}", 1).encode() for n in (1, 2)],
    )
    tried: Counter[str] = Counter()
    connect, given_up = LinkClient.connect, asyncio.Event()

    async def counted(address: Address, node: str, tls: None) -> LinkClient:
        tried[address.encode()] += 1
        if address.node == "far":
            await given_up.wait()
            raise UnavailableError("two seconds later")
        return await connect(address, node, tls)

    monkeypatch.setattr(LinkClient, "connect", counted)
    ledger = Heads({name: (gone + good)[index % 4] for index, name in enumerate(NAMES)})
    routes = Routes(ledger, NAMES, NODE, None)  # type: ignore[arg-type]
    looking = asyncio.create_task(routes.look_up())
    while len(routes.links()) < 2:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)
    assert None not in (routes.link(name) for name in NAMES[2:4])
    given_up.set()
    await looking
    assert tried == Counter([*gone, *good])
    assert len(routes.links()) == 2
    routes.close()


async def test_who_gives_up_a_look_up_knows_the_owners_that_were_found(
    owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capacity owner does, under a zone's lock."""
    ledger = Heads({"p0": await owners.open(), "p1": Address("far", "", "10.0.0.1", 1).encode()})
    connect = LinkClient.connect

    async def slow(address: Address, node: str, tls: None) -> LinkClient:
        if address.node == "far":
            await asyncio.Event().wait()
        return await connect(address, node, tls)

    monkeypatch.setattr(LinkClient, "connect", slow)
    routes = Routes(ledger, NAMES[:2], NODE, None)  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(routes.look_up(), 0.05)
    assert routes.links() == [routes.link("p0")]
    routes.close()


async def test_the_kernel_watches_the_host_at_the_other_end_of_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Pki(tmp_path).client(Kind.SERVICE, "cluster")
    seen: list[list[int]] = []
    watch = link_module._watch_host

    def watched(transport: asyncio.Transport) -> None:
        watch(transport)
        end = transport.get_extra_info("socket")
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)]
        seen.append([end.getsockopt(*option) for option in options])

    monkeypatch.setattr(link_module, "_watch_host", watched)
    server = LinkServer(lambda *_: None)
    port = await server.listen("", "127.0.0.1", server_context(files))
    link = await LinkClient.connect(Address("far", "", "127.0.0.1", port), NODE, client_context(files))
    while len(seen) < 2:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)
    assert seen == [[1, LOST_HOST_S * 1_000]] * 2
    link.close()
    await server.close()
