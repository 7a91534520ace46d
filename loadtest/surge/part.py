"""A part of the generator as the conductor sees it: a process with two pipes, that dies with the conductor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from loadtest.surge.parts import Order, Progress, heard
from ops.embedded.base import dying_with_parent, own_module
from ops.errors import OpsError

PIPE_LIMIT = 2**20
END_S = 20.0
SHOWN_CHARS = 80
"""Of a line that is no message: enough to find who prints it."""


class Part:
    """`python -m loadtest.surge.NAME`. Its standard error goes to a file, for when it fails."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.values: dict[str, float] = {}
        self.evening = False
        """Whether it says that its day is over; the last answers may be on their way."""
        self._process = process
        self._log = log
        self._said: asyncio.Queue[Progress] = asyncio.Queue()
        self._ended = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, name: str, order: Order, log: Path) -> Part:
        """Starts it and gives it its order."""
        pipe = asyncio.subprocess.PIPE
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *dying_with_parent(signal.SIGKILL),
                *own_module(f"loadtest.surge.{name}"),
                stdin=pipe,
                stdout=pipe,
                stderr=errors,
                limit=PIPE_LIMIT,
                env={**os.environ, "GRPC_VERBOSITY": "NONE"},
                start_new_session=True,  # Ctrl-C is the conductor's to hear: the parts end in order
            )
        assert process.stdin is not None
        process.stdin.write(order.line())
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def says(self, kind: str) -> Progress:
        """The next thing that it says of what it was told. Raises: OpsError when it ends before."""
        said = asyncio.create_task(self._said.get())
        try:
            await asyncio.wait({said, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if not said.done():
                self._ended.result()
                raise OpsError(f"The generator's {self.name} ended before they were {kind}. {self._tail()}")
        finally:
            said.cancel()
        progress = said.result()
        if progress.kind != kind:
            raise OpsError(f"The generator's {self.name} said {progress.kind} and not {kind}.")
        return progress

    def tell(self, line: str) -> None:
        """Gives it a command; one that has ended hears nothing any more."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode() + b"\n")

    async def done(self) -> None:
        """Waits for its end. Raises: OpsError when it failed."""
        await self._ended

    async def end(self) -> None:
        """Ends it, if it is still there."""
        if self._process.returncode is None:
            self._process.terminate()
        self._ended.cancel()
        await asyncio.gather(self._ended, return_exceptions=True)
        await asyncio.wait_for(self._process.wait(), END_S)

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self._hear(self._message(line))
        if await self._process.wait():
            raise OpsError(f"The generator's {self.name} failed. {self._tail()}", f"All of it is in {self._log}.")

    def _message(self, line: bytes) -> Progress:
        try:
            return heard(line)
        except (ValueError, TypeError) as error:
            text = line.decode(errors="replace").strip()[:SHOWN_CHARS]
            raise OpsError(
                f"The generator's {self.name} wrote a line that is none of its messages: {text!r}.",
                f"Some module of it prints; what else it said is in {self._log}.",
            ) from error

    def _hear(self, progress: Progress) -> None:
        match progress.kind:
            case "ready" | "settled" | "stepped":
                self._said.put_nowait(progress)
            case "failed":
                raise OpsError(f"The generator's {self.name} failed: {progress.text}.")
            case "evening":
                self.evening = True
            case "gates" | "shop":
                self.values = progress.values
            case _:
                pass

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def result_of(path: Path) -> dict[str, Any]:
    """What a part wrote at its end."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found
