"""A script over a connection of its own, against a real Valkey: each caller hears what became of its own call."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError, ResponseError

from cluster.held_script import HeldScript
from tests.cluster.harness import Pki

ECHO = "redis.call('INCR', KEYS[1]) return ARGV[1]"
SLOW = "local n = 0 for i = 1, tonumber(ARGV[2]) do n = n + i end redis.call('INCR', KEYS[1]) return ARGV[1]"
TURNS = str(30_000_000)
"""Of a loop in Lua: some tenths of a second in which the server does nothing else."""


@pytest.fixture
async def echo(valkey_url: str) -> AsyncIterator[HeldScript]:
    script = HeldScript(valkey_url, ECHO, 2.0)
    yield script
    await script.close()


def calls_done(valkey_url: str) -> int:
    with redis.Redis.from_url(valkey_url) as client:
        return int(client.get("calls") or 0)


async def test_callers_that_come_together_each_hear_their_own_answer(echo: HeldScript, valkey_url: str) -> None:
    answers = await asyncio.gather(*(echo(keys=["calls"], args=[str(number)]) for number in range(200)))
    assert answers == [str(number).encode() for number in range(200)]
    assert calls_done(valkey_url) == 200


async def test_a_call_is_on_its_way_before_anybody_awaits_its_answer(echo: HeldScript, valkey_url: str) -> None:
    await echo(keys=["calls"], args=["1"])
    call = echo(keys=["calls"], args=["2"])
    for _ in range(200):
        if calls_done(valkey_url) == 2:
            break
        await asyncio.sleep(0.01)
    assert calls_done(valkey_url) == 2
    assert await call == b"2"


async def test_a_call_that_nobody_awaits_keeps_its_answer_to_itself(echo: HeldScript, valkey_url: str) -> None:
    """I2: an owner that is stopped leaves the answer to its last append behind."""
    await echo(keys=["calls"], args=["1"])
    echo(keys=["calls"], args=["2"])
    assert await echo(keys=["calls"], args=["3"]) == b"3"
    assert calls_done(valkey_url) == 3


async def test_a_server_that_has_forgotten_the_script_is_told_it_again(echo: HeldScript, valkey_url: str) -> None:
    await echo(keys=["calls"], args=["1"])
    with redis.Redis.from_url(valkey_url) as client:
        client.script_flush()
    assert await echo(keys=["calls"], args=["2"]) == b"2"
    assert calls_done(valkey_url) == 2


async def test_a_broken_connection_is_told_once_and_made_again(echo: HeldScript, valkey_url: str) -> None:
    await echo(keys=["calls"], args=["1"])
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises((RedisError, OSError)):
        await echo(keys=["calls"], args=["2"])
    assert await echo(keys=["calls"], args=["3"]) == b"3"


@pytest.mark.parametrize("how", ["time-out", "cancelled", "cancelled at once"])
async def test_the_answer_to_a_call_that_was_given_up_is_never_that_to_the_next(valkey_url: str, how: str) -> None:
    """I2: an append that is done would else be taken for another one that is not."""
    script = HeldScript(valkey_url, SLOW, 2.0)
    await script(keys=["calls"], args=["1", "1"])
    if how == "time-out":
        script._timeout_s = 0.05  # for this call only: on a busy machine an ordinary one may take as long
        with pytest.raises(TimeoutError):
            await script(keys=["calls"], args=["2", TURNS])
        script._timeout_s = 2.0
    elif how == "cancelled at once":
        call = asyncio.ensure_future(script(keys=["calls"], args=["2", TURNS]))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.05)
    else:
        call = asyncio.ensure_future(script(keys=["calls"], args=["2", TURNS]))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    with redis.Redis.from_url(valkey_url) as client:
        client.ping()  # the server is free again
    assert await script(keys=["calls"], args=["3", "1"]) == b"3"
    assert calls_done(valkey_url) == 3, "it was done all the same"
    await script.close()


async def test_a_script_that_fails_is_told_and_the_connection_is_as_good_as_before(valkey_url: str) -> None:
    script = HeldScript(
        valkey_url, "if ARGV[1] == 'bad' then return redis.error_reply('OOM no room') end return ARGV[1]", 2
    )
    for _ in range(2):
        with pytest.raises(ResponseError, match="OOM no room"):
            await script(keys=["calls"], args=["bad"])
        assert await script(keys=["calls"], args=["good"]) == b"good"
    with redis.Redis.from_url(valkey_url) as client:
        assert len([one for one in client.client_list() if one["cmd"] == "evalsha"]) == 1
    await script.close()


async def test_an_answer_that_comes_in_many_pieces_is_whole(echo: HeldScript) -> None:
    large = bytes(range(256)) * 20_000
    assert await echo(keys=["calls"], args=[large]) == large


async def test_user_and_password_are_those_of_the_url(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.acl_setuser("gate%", enabled=True, passwords=["+p@ss"], keys=["calls"], commands=["+@all"])
        host = valkey_url.rpartition("@")[2]
        scripts = [HeldScript(f"redis://{who}@{host}", ECHO, 2.0) for who in ("gate%25:p%40ss", "gate%25:wrong", "")]
        mine, wrong, nobody = scripts
        assert await mine(keys=["calls"], args=["1"]) == b"1"
        for refused, says in ((wrong, "WRONGPASS"), (nobody, "NOAUTH")):
            with pytest.raises(RedisError, match=says):
                await refused(keys=["calls"], args=["1"])
        for script in scripts:
            await script.close()
        client.acl_deluser("gate%")


class Front:
    """Stands before a Valkey, in a form that it has not itself."""

    def __init__(self, valkey_url: str) -> None:
        self.secret, _, address = valkey_url.removeprefix("redis://").rpartition("@")
        self.host, self._port = address.removesuffix("/0").split(":")
        self.ended = asyncio.Event()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection(self.host, int(self._port))
        await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer))
        self.ended.set()


async def test_a_server_that_wants_tls_is_spoken_to_in_tls(valkey_url: str, tmp_path: Path) -> None:
    """In front of a Valkey that has none: what a managed one ends in its own front."""
    files = Pki(tmp_path).server()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.key)
    front = Front(valkey_url)
    async with await asyncio.start_server(front.forward, front.host, 0, ssl=tls) as server:
        url = f"rediss://{front.secret}@localhost:{server.sockets[0].getsockname()[1]}/0"
        strange, known = HeldScript(url, ECHO, 2.0), HeldScript(f"{url}?ssl_ca_certs={files.ca}", ECHO, 2.0)
        with pytest.raises(ssl.SSLCertVerificationError):
            await strange(keys=["calls"], args=["1"])
        assert await known(keys=["calls"], args=["1"]) == b"1"
        await known.close()
        await strange.close()
        await front.ended.wait()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(4_096):
            writer.write(data)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_server_on_a_unix_socket_is_spoken_to_there(valkey_url: str, tmp_path: Path) -> None:
    """In front of a Valkey that listens on a port."""
    front = Front(valkey_url)
    path = tmp_path / "valkey.sock"
    async with await asyncio.start_unix_server(front.forward, path):
        script = HeldScript(f"unix://{front.secret}@{path}?db=0", ECHO, 2.0)
        assert await script(keys=["calls"], args=["1"]) == b"1"
        await script.close()
        await front.ended.wait()


async def test_an_answer_beside_the_one_that_was_asked_for_is_never_that_to_the_next() -> None:
    """I2: whatever stands between, no append is ever told what became of another."""

    gone = asyncio.Semaphore(0)

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"$5\r\nasked\r\n$7\r\nunasked\r\n")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.release()

    async with await asyncio.start_server(answer_twice, "127.0.0.1", 0) as server:
        script = HeldScript(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", ECHO, 2.0)
        for _ in range(2):
            with pytest.raises(RedisError, match="nobody has asked for"):
                await script(keys=["calls"], args=["1"])
            await gone.acquire()
        await script.close()


async def test_after_it_was_closed_nothing_is_asked_any_more(echo: HeldScript, valkey_url: str) -> None:
    await echo(keys=["calls"], args=["1"])
    await echo.close()
    with pytest.raises(RedisError, match="has hung up"):
        await echo(keys=["calls"], args=["2"])
    assert calls_done(valkey_url) == 1


class Slow:
    """A server that answers each command after its own delay in seconds; None: never."""

    def __init__(self, *delays_s: float | None) -> None:
        self._delays_s = iter(delays_s)
        self._asked = 0
        self.serving: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        with suppress(ConnectionError):
            while await reader.read(65_536):
                self._asked += 1
                delay_s = next(self._delays_s)
                if delay_s is not None:
                    await asyncio.sleep(delay_s)
                    writer.write(b":%d\r\n" % self._asked)
        writer.close()


@asynccontextmanager
async def slow(*delays_s: float | None) -> AsyncIterator[HeldScript]:
    there = Slow(*delays_s)
    async with await asyncio.start_server(there.serve, "127.0.0.1", 0) as server:
        script = HeldScript(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", ECHO, 1.0)
        yield script
        await script.close()
        await asyncio.gather(*filter(None, there.serving))


async def test_each_call_has_its_own_time_whatever_that_of_the_one_before_was() -> None:
    """The watch of the first call is over while the third waits for its answer, and the fourth is never answered."""
    time = asyncio.get_running_loop().time
    async with slow(0, 0, 0.6, None) as script:
        await script(keys=["calls"], args=["1"])
        await asyncio.sleep(0.6)
        assert [await script(keys=["calls"], args=[number]) for number in ("2", "3")] == [2, 3]
        began = time()
        with pytest.raises(TimeoutError):
            await script(keys=["calls"], args=["4"])
        assert time() - began > 0.95


async def test_a_call_that_waits_for_another_has_its_own_time_and_leaves_the_other_its_answer() -> None:
    async with slow(0, 0.5, 0) as script:
        await script(keys=["calls"], args=["1"])
        first = script(keys=["calls"], args=["2"])
        script._timeout_s = 0.1
        with pytest.raises(TimeoutError):
            await script(keys=["calls"], args=["3"])
        script._timeout_s = 1.0
        assert await first == 2
        assert await script(keys=["calls"], args=["4"]) == 3


async def test_closed_while_it_connects_it_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with slow(0) as script:
        connect, connected, go_on = script._connect, asyncio.Event(), asyncio.Event()

        async def held(deadline: float) -> object:
            wire = await connect(deadline)
            connected.set()
            await go_on.wait()
            return wire

        monkeypatch.setattr(script, "_connect", held)
        call = asyncio.ensure_future(script(keys=["calls"], args=["1"]))
        await connected.wait()
        await script.close()
        go_on.set()
        with pytest.raises(RedisError, match="has hung up"):
            await call
        assert script._wire is not None
        assert script._wire.closed
