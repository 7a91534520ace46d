"""Codes from text: standard input or a file, one to a line. Bytes are read a bounded piece at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

from gateclient.readers.base import MAX_LINE_BYTES, ReadCode, split_gate
from gateclient.readers.framing import decode_text

QUEUE_CODES = 256
"""Lines read ahead of the turnstile; a faster writer waits in its pipe."""


class Lines(Protocol):
    """An open binary stream."""

    def readline(self, size: int, /) -> bytes:
        """At most `size` bytes, up to a line's end; empty at the stream's."""
        ...


class LineReader:
    """Codes from an open binary stream. Lines without a code and lines that begin with `#` are passed over."""

    def __init__(self, stream: Lines, name: str) -> None:
        self._stream = stream
        self._name = name

    async def codes(self) -> AsyncIterator[ReadCode]:
        """See Reader. A thread reads, so that a silent pipe holds up nothing; it does not keep the process alive."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[ReadCode | None] = asyncio.Queue(QUEUE_CODES)
        gone = threading.Event()

        def pump() -> None:
            for code in _read(self._stream, self._name):
                if not _put(queue, code, loop, gone):
                    return
            _put(queue, None, loop, gone)

        threading.Thread(target=pump, name=f"read {self._name}", daemon=True).start()
        try:
            while (code := await queue.get()) is not None:
                yield code
        finally:
            gone.set()


def _put(
    queue: asyncio.Queue[ReadCode | None], code: ReadCode | None, loop: asyncio.AbstractEventLoop, gone: threading.Event
) -> bool:
    """Puts from the thread, waiting while the queue is full; False when nobody reads any more."""
    if gone.is_set() or loop.is_closed():
        return False
    future = asyncio.run_coroutine_threadsafe(queue.put(code), loop)
    while not gone.is_set():
        try:
            future.result(timeout=0.2)
        except TimeoutError:
            continue
        return True
    future.cancel()
    return False


def _read(stream: Lines, name: str) -> Iterator[ReadCode]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        whole = line
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
            whole = whole[: MAX_LINE_BYTES + 1]
        text = decode_text(whole)
        code = split_gate(text[:MAX_LINE_BYTES], f"{name} line {number}")
        if code.text and not text.startswith("#"):
            yield code


def read_text_file(path: Path) -> Iterator[ReadCode]:
    """The codes of a text file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        yield from _read(stream, path.name)
