"""The ledger in a backup: its server's own image of one instant, streamed as to a replica, put back as its log's base.

Works with any Redis or Valkey that lets a client replicate, embedded or not. The server forks for it and goes on.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast
from urllib.parse import unquote, urlsplit

import redis

from ops.embedded import EmbeddedValkey
from ops.errors import OpsError

ANSWER_TIMEOUT_S = 60.0
"""Up to 5 s pass on a server that waits for more replicas before it forks; a fork of gigabytes takes a second more."""
MARK_LENGTH = 40
PIECE = 1024 * 1024
MANIFEST = "appendonly.aof.manifest"
BASE = "appendonly.aof.1.base.rdb"
DELAY = "repl-diskless-sync-delay"


class LedgerImage:
    """One image: `begin` fixes its instant, `finish` fetches it. Raises: OpsError when the server does not give one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._link = _connect(url)
        self._stream: IO[bytes] = self._link.makefile("rb")
        self._mark = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._link.close()

    def begin(self) -> None:
        """Returns once the server has forked: what is appended from now on is not in the image."""
        with redis.Redis.from_url(self._url) as client:
            before = _set_delay(client, "0")
            try:
                self._say("REPLCONF capa eof")
                self._say("REPLCONF rdb-only 1")  # not known to older servers, and not needed by them
                self._link.sendall(b"SYNC\r\n")
                self._mark = self._heading()
            finally:
                if before is not None:
                    _set_delay(client, before)

    def finish(self, path: Path) -> None:
        """Writes the image to a file."""
        with path.open("wb") as out:
            waiting = b""
            while True:
                try:
                    piece = self._link_read()
                except OSError as error:
                    raise OpsError(f"The ledger's server ended its image early: {error}.", "Try again.") from error
                waiting += piece
                if waiting.endswith(self._mark):
                    out.write(waiting[:-MARK_LENGTH])
                    return
                out.write(waiting[:-MARK_LENGTH])
                waiting = waiting[-MARK_LENGTH:]

    def _link_read(self) -> bytes:
        piece = self._stream.read1(PIECE)  # type: ignore[attr-defined]
        if not piece:
            raise OSError("the connection was closed")
        return bytes(piece)

    def _say(self, command: str) -> bytes:
        self._link.sendall(command.encode() + b"\r\n")
        return self._stream.readline()

    def _heading(self) -> bytes:
        """`$EOF:` and the mark that ends the image; empty lines before it say that the server is still alive."""
        line = b"\n"
        while line in (b"\n", b"\r\n"):
            line = self._stream.readline()
        if not line.startswith(b"$EOF:") or len(line.strip()) != len(b"$EOF:") + MARK_LENGTH:
            said = line.decode(errors="replace").strip()
            raise OpsError(f"The ledger's server gives no image of itself: {said or 'it hung up'}.", "See its log.")
        return line.strip()[len(b"$EOF:") :]


def first_entries(url: str, partitions: Mapping[str, int]) -> dict[str, int]:
    """The sequence that each partition's log begins with, of those that have one."""
    with redis.Redis.from_url(url) as client:
        rows: dict[str, Any] = {name: client.xrange(f"pg:{{{name}}}:log", count=1) for name in partitions}
    return {name: int(found[0][0].split(b"-")[0]) for name, found in rows.items() if found}


def place(image: Path, server: EmbeddedValkey) -> None:
    """Makes an image the base of the log of a server that never ran."""
    folder = server.data / "appendonlydir"
    folder.mkdir(mode=0o700, parents=True)
    image.rename(folder / BASE)
    (folder / MANIFEST).write_text(f"file {BASE} seq 1 type b\n", encoding="ascii")


def renew(url: str, offsets: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Makes a restored ledger one that starts anew beside a Postgres that has read up to `offsets`.

    Answers the first and last sequence of each log.
    """
    with redis.Redis.from_url(url) as client, client.pipeline(transaction=True) as pipe:
        heads = [key.decode()[len("pg:{") : -len("}:head")] for key in client.scan_iter("pg:{*}:head")]
        for name in heads:
            pipe.hincrby(f"pg:{{{name}}}:head", "epoch", 1)
            pipe.hdel(f"pg:{{{name}}}:head", "address", "owner", "damage")
            pipe.set(f"pg:{{{name}}}:reported", offsets.get(name, 0))
        for half_written in client.scan_iter("pg:{*}:snapshot:*"):
            pipe.delete(half_written)
        pipe.execute()
        return {name: _bounds(client, name) for name in heads}


def _bounds(client: redis.Redis, name: str) -> tuple[int, int]:
    key = f"pg:{{{name}}}:log"
    first, last = cast(Any, client.xrange(key, count=1)), cast(Any, client.xrevrange(key, count=1))
    return (int(first[0][0].split(b"-")[0]), int(last[0][0].split(b"-")[0])) if first else (0, 0)


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    where = (parts.hostname or "localhost", parts.port or 6379)
    try:
        link = socket.create_connection(where, ANSWER_TIMEOUT_S)
        if parts.scheme == "rediss":
            link = ssl.create_default_context().wrap_socket(link, server_hostname=where[0])
        if parts.password:
            words = ["AUTH", *([unquote(parts.username)] if parts.username else []), unquote(parts.password)]
            link.sendall((" ".join(words) + "\r\n").encode())
            answer = link.recv(256)
            if not answer.startswith(b"+OK"):
                raise OpsError("The ledger's server refuses the password.", "Look at ledger_url.")
    except OSError as error:
        raise OpsError(f"The ledger cannot be reached: {error}.", "`parkgate status` shows what runs.") from error
    return link


def _set_delay(client: redis.Redis, value: str) -> str | None:
    """Sets how long the server waits before it forks; answers what it was, None where that is not ours to set."""
    try:
        before = client.config_get(DELAY).get(DELAY)
        client.config_set(DELAY, value)
    except redis.ResponseError:
        return None
    return before
