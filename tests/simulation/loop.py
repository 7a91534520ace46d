"""An event loop on virtual time, whose processes can be killed and stopped like real ones.

Time jumps to the next timer when nothing is ready, so a minute of waiting costs nothing, and the order of everything
follows from the seed alone. What runs belongs to a `Process`, found by a context variable that tasks and timers
inherit: a killed process simply never runs again (SIGKILL: no clean-up, no farewell), a stopped one keeps what comes
due and does it all when it is continued (SIGSTOP, SIGCONT).

The libraries that run asyncio on virtual time (looptime, async-solipsism) have no processes, and that is what makes
zombies; the loop itself is the smaller part of this file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from typing import Any

MAX_STEPS = 2_000_000
"""A day takes some ten thousand; beyond this something spins without time moving."""


class State(Enum):
    """How a process is."""

    RUNNING = "running"
    STOPPED = "stopped"
    DEAD = "dead"


class Process:
    """What lives and dies together."""

    def __init__(self, name: str, pid: int = 0) -> None:
        self.name, self.pid = name, pid
        self.state = State.RUNNING
        self.parked: list[Handle] = []
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return f"{self.name} ({self.state.value})"


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Handle:
    """A callback that is due, now or at an instant: what asyncio's own handles are, less what nobody here asks of them.
    A day makes some ten thousand, and asyncio's cost more than most of what they call."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., Any] | None, args: tuple[Any, ...], context: Context) -> None:
        self.callback, self.args, self.context = callback, args, context

    def cancel(self) -> None:
        """It is skipped when its time comes."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None


class VirtualLoop(asyncio.AbstractEventLoop):
    """Just what tasks, futures, timers and our transports need."""

    def __init__(self) -> None:
        self.network: Any = None
        self.crashes: list[BaseException] = []
        self.steps = 0
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._order = count()
        self._tasks: list[asyncio.Task[Any]] = []
        """All ever made: one that a killed process leaves behind must not be collected in the middle of the day."""

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now

    get_debug = staticmethod(bool)  # False; every future and task asks for it

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, copy_context() if context is None else context)
        heappush(self._timers, (self._now + delay, next(self._order), handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, copy_context() if context is None else context)
        heappush(self._timers, (when, next(self._order), handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Of the garbage that killed processes leave behind."""

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, path)

    async def create_unix_server(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        return self.network.listen(protocol_factory, path)

    # Running

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Runs `main` to its end and everything else until then."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            self._run_until(task)
            return task.result()
        finally:
            self._sweep()
            asyncio._set_running_loop(None)

    def _run_until(self, task: asyncio.Task[Any]) -> None:
        # All in one function: some ten thousand steps a day make its calls a share of the day that can be seen.
        ready, timers, running, stopped = self._ready, self._timers, State.RUNNING, State.STOPPED
        process_of: Any = PROCESS
        while not task.done():
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise RuntimeError(f"the day does not end: {self.steps} steps at {self._now:.3f} s")
            if ready:
                handle = ready.popleft()
                if handle.callback is None:
                    continue
            else:
                when, _, handle = heappop(timers)
                if handle.callback is None:
                    continue
                if when > self._now:  # noqa: PLR1730 - without a call
                    self._now = when
            process = handle.context.get(process_of)
            if process is None or process.state is running:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - a callback that raises is a crash of its process
                    self.crashes.append(error)
            elif process.state is stopped:
                process.parked.append(handle)

    def _sweep(self) -> None:
        """Ends what is left, with its clean-up, so that nothing is collected after the loop has gone."""
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.cancel()
        self._timers.clear()
        for _ in range(20 * len(left) + len(self._ready) + 1_000):
            if not self._ready:
                break
            handle = self._ready.popleft()
            if handle.callback is not None:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except Exception as error:  # noqa: BLE001 - as above
                    self.crashes.append(error)
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # seen
        self._tasks.clear()

    # Processes

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.state = State.DEAD
        process.parked.clear()
        self.network.process_died(process)

    def stop_process(self, process: Process) -> None:
        """SIGSTOP."""
        if process.state is State.RUNNING:
            process.state = State.STOPPED

    def continue_process(self, process: Process) -> None:
        """SIGCONT: all that came due meanwhile is done now."""
        if process.state is State.STOPPED:
            process.state = State.RUNNING
            self._ready.extend(process.parked)
            process.parked.clear()

    def start(self, process: Process, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs a coroutine as a part of a process."""
        return process.context.run(self.create_task, main)
