"""The head of a Ray cluster that exists: notices that it was lost and is there again.

Ray's own client asks on for a minute for a head that is gone, and without end or a word once another answers at its
address: a head that kept nothing outside of itself knows neither our actors nor us. With one that did, starting anew
costs nothing: the actors are detached and go on. So whoever was connected to a head that was away starts anew once it
is back. While it is away there is nothing to do: what lives on other nodes goes on without it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import structlog

LOOK_EVERY_S = 0.5
"""No head is started again within this: it takes seconds."""
ANSWER_S = 2.0
log = structlog.get_logger("ops.ray_head")


def when_back(address: str, call: Callable[[], None], every_s: float = LOOK_EVERY_S) -> threading.Event:
    """Calls once, from a thread of its own, when the head at this address was away and answers again.

    A thread, for a call of Ray may hold up whoever waits for a head that is gone. Setting what is returned ends it.
    """
    stop = threading.Event()
    threading.Thread(target=_look, args=(address, call, every_s, stop), name="ray-head", daemon=True).start()
    return stop


def _look(address: str, call: Callable[[], None], every_s: float, stop: threading.Event) -> None:
    away = False
    while not stop.wait(every_s):
        answers = _answers(address)
        if answers and away and not stop.is_set():
            log.warning("Ray's head is back", address=address)
            call()
            return
        if not answers and not away:
            log.error("Ray's head is away: actors that end are not made again until it is back", address=address)
        away = not answers


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError:
        return False
    return True
