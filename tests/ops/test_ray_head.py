"""The watch over the head of a Ray cluster: here a port that is open, shut, and open again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from ops.services import ray_head

EVERY_S = 0.01
SOON_S = 10.0


class Head:
    """Answers at one port, again and again. It counts who comes, so that a test knows that it was looked for."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def asked(self, times: int) -> None:
        self._server.settimeout(SOON_S)
        for _ in range(times):
            self._server.accept()[0].close()

    def lost(self) -> None:
        self._server.close()

    def back(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))


class Heard(threading.Event):
    """Set by what the watch says of a head that is away."""

    def error(self, said: str, **_: object) -> None:
        self.set()

    def warning(self, said: str, **_: object) -> None:
        """It is back."""


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr(ray_head, "log", heard)
    return heard


@pytest.fixture
def head() -> Iterator[Head]:
    head = Head()
    yield head
    head.lost()


def test_a_head_that_was_away_is_noticed_when_it_is_back(head: Head, away: Heard) -> None:
    back = threading.Event()
    stop = ray_head.when_back(f"127.0.0.1:{head.port}", back.set, EVERY_S)
    head.asked(3)
    assert not back.is_set(), "it is there and was never away"
    head.lost()
    assert away.wait(SOON_S)
    assert not back.is_set(), "it is away"
    head.back()
    assert back.wait(SOON_S)
    stop.set()


def test_a_watch_that_is_ended_calls_nobody(head: Head, away: Heard) -> None:
    back = threading.Event()
    stop = ray_head.when_back(f"127.0.0.1:{head.port}", back.set, EVERY_S)
    head.lost()
    assert away.wait(SOON_S)
    stop.set()
    head.back()
    assert not back.wait(20 * EVERY_S)
