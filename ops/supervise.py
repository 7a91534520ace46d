"""The supervisor: keeps a declared list of processes alive, and leaves nothing behind.

Start in the order of their dependencies; restart whatever dies, waiting longer each time; stop in the reverse order,
with deadlines. It reaps all that its children leave (`PR_SET_CHILD_SUBREAPER`), and its children die with it.

Before the whole stack was up once, a process that keeps failing fails the stack: the person at the keyboard is there to
mend it. After that it is restarted for ever: nobody may be there.

One thread, one loop: children must be started by the thread that lives as long as they do, see `ops.embedded.base`.
"""

import math
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops import state
from ops.children import become_subreaper, last_words, log_path, spawn
from ops.embedded.base import Command
from ops.errors import OpsError
from ops.processes import Identity, children, descendants, end, identity, is_alive, own_identity, send
from ops.state import Phase, ProcessState, StackState, Stage

TICK_S = 0.1
HEALTH_PERIOD_S = 2.0
FIRST_ATTEMPTS = 3
"""Enough for a lost race for a port, few enough for somebody who waits."""
NEVER = math.inf
BACKOFF_FIRST_S, BACKOFF_CAP_S = 0.2, 10.0
STABLE_S = 30.0
"""A process that ran this long starts again with the shortest wait."""
ORPHAN_GRACE_S = 5.0
"""What loses its parent (Ray's workers) mostly ends by itself; after this it is ended."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process to keep alive.

    `command` is called before every start and may prepare files; `ready` says whether it serves; `depends_on` names
    processes that must have been ready before the first start. Afterwards each stands alone: gates do without Postgres.
    """

    name: str
    command: Callable[[], Command]
    ready: Callable[[], bool]
    depends_on: tuple[str, ...] = ()
    ports: Callable[[], Mapping[str, int]] = dict
    ready_timeout_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 20.0


@dataclass(slots=True)
class _Child:
    process: Process
    stage: Stage = Stage.WAITING
    popen: "subprocess.Popen[bytes] | None" = None
    who: Identity | None = None
    since: float = 0.0
    started: float = 0.0
    ready_after_s: float = 0.0
    restarts: int = 0
    failures: int = 0
    next_start: float = 0.0
    next_probe: float = 0.0
    was_ready: bool = False
    healthy: bool = False
    detail: str = ""
    killed_for: str = ""

    def snapshot(self) -> ProcessState:
        live = self.stage in (Stage.STARTING, Stage.RUNNING, Stage.STOPPING)
        return ProcessState(
            name=self.process.name,
            stage=self.stage,
            who=self.who if live else None,
            since=self.since,
            restarts=self.restarts,
            healthy=self.healthy,
            ports=dict(self.process.ports()) if live else {},
            detail=self.detail,
            ready_after_s=round(self.ready_after_s, 3),
        )


@dataclass(frozen=True, slots=True)
class Options:
    """`versions` go into the state. `first_attempts`: failures in a row before the first start is given up."""

    versions: Mapping[str, str] = field(default_factory=dict)
    first_attempts: float = FIRST_ATTEMPTS


class Supervisor:
    """Runs the processes until SIGTERM or SIGINT. Call `run` from the main thread."""

    def __init__(self, processes: Sequence[Process], data_dir: Path, options: Options | None = None) -> None:
        self._children = {process.name: _Child(process) for process in in_order(processes)}
        self._data_dir = data_dir
        self._options = options or Options()
        self._own = own_identity()
        self._phase = Phase.STARTING
        self._error = ("", "")
        self._stopping = False
        self._orphans: dict[Identity, float] = {}
        self._next_orphans = 0.0
        self._written: StackState | None = None
        self._on_disk = False

    def run(self) -> bool:
        """True when it was asked to stop and stopped in order; False when the stack could not be started."""
        become_subreaper()
        wake = self._listen_to_signals()
        while not self._stopping and self._phase is not Phase.FAILED:
            self._tick(time.monotonic())
            self._publish()
            select.select([wake], [], [], TICK_S)
            _drain(wake)
        failed = self._phase is Phase.FAILED
        self._stop_all()
        self._phase = Phase.FAILED if failed else Phase.STOPPED
        self._publish()
        return not failed

    def written(self) -> StackState | None:
        """The state as of the last tick; safe to ask from another thread."""
        return self._written

    def _tick(self, now: float) -> None:
        self._reap(now)
        self._watch_orphans(now)
        for child in self._children.values():
            if child.stage in (Stage.WAITING, Stage.BACKOFF):
                self._start_when_due(child, now)
            elif child.stage is Stage.STARTING:
                self._await_ready(child, now)
            elif child.stage is Stage.RUNNING and now >= child.next_probe:
                child.healthy = _probe(child.process)
                child.next_probe = now + HEALTH_PERIOD_S
        if self._phase is Phase.STARTING and all(child.was_ready for child in self._children.values()):
            self._phase = Phase.RUNNING

    def _start_when_due(self, child: _Child, now: float) -> None:
        needed = (self._children[name] for name in child.process.depends_on)
        if now < child.next_start or not all(other.was_ready for other in needed):
            return
        try:
            command = child.process.command()
            child.popen = spawn(child.process.name, command, self._data_dir)
        except (OpsError, OSError) as error:
            self._failed(child, now, str(error), getattr(error, "mend", ""))
            return
        child.who = identity(child.popen.pid)
        child.killed_for = ""
        child.stage, child.since, child.started = Stage.STARTING, time.time(), time.monotonic()

    def _await_ready(self, child: _Child, now: float) -> None:
        if _probe(child.process):
            child.stage, child.was_ready, child.healthy = Stage.RUNNING, True, True
            child.ready_after_s = time.monotonic() - child.started
            child.next_probe = now + HEALTH_PERIOD_S
        elif now > child.started + child.process.ready_timeout_s and child.popen is not None:
            child.killed_for = f"not ready within {child.process.ready_timeout_s:.0f} s"
            child.popen.kill()  # its death is then met by `_reap` like any other

    def _reap(self, now: float) -> None:
        """Takes every dead child off the kernel's list; it alone waits, so that no exit status is lost."""
        by_pid = {child.popen.pid: child for child in self._children.values() if child.popen is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = by_pid.get(pid)
            if child is not None and child.popen is not None:
                child.popen.returncode = os.waitstatus_to_exitcode(status)
                self._died(child, now, child.popen.returncode)

    def _died(self, child: _Child, now: float, code: int) -> None:
        child.popen = None
        child.healthy = False
        if self._stopping or self._phase is Phase.FAILED:
            child.stage = Stage.STOPPED
            return
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if child.stage is Stage.RUNNING and now - child.started > STABLE_S:
            child.failures = 0
        log = log_path(self._data_dir, child.process.name)
        self._failed(child, now, (child.killed_for or how) + (last_words(log) if code > 0 else ""), f"See {log}.")

    def _failed(self, child: _Child, now: float, detail: str, mend: str) -> None:
        child.failures += 1
        child.restarts += 1
        child.detail = detail
        child.stage = Stage.BACKOFF
        child.next_start = now + min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(child.failures - 1, 10))
        if self._phase is Phase.STARTING and not child.was_ready and child.failures >= self._options.first_attempts:
            self._phase = Phase.FAILED
            self._error = (f"{child.process.name} does not start: {detail.removesuffix(mend).strip()}", mend)

    def _watch_orphans(self, now: float) -> None:
        if now < self._next_orphans:
            return
        self._next_orphans = now + HEALTH_PERIOD_S
        known = {child.popen.pid for child in self._children.values() if child.popen is not None}
        for who in children(self._own.pid):
            if who.pid not in known and now > self._orphans.setdefault(who, now) + ORPHAN_GRACE_S:
                end(who, [(signal.SIGTERM, 0.5), (signal.SIGKILL, 0.0)])
        self._orphans = {who: seen for who, seen in self._orphans.items() if is_alive(who)}

    def _stop_all(self) -> None:
        self._stopping = True
        if self._phase is not Phase.FAILED:
            self._phase = Phase.STOPPING
        for child in reversed(self._children.values()):
            self._stop(child)
        self._end_orphans()

    def _stop(self, child: _Child) -> None:
        if child.popen is None:
            child.stage = Stage.STOPPED
            return
        child.stage = Stage.STOPPING
        self._publish()
        for number, timeout_s in ((child.process.stop_signal, child.process.stop_timeout_s), (signal.SIGKILL, 5.0)):
            child.popen.send_signal(number)
            deadline = time.monotonic() + timeout_s
            while not self._is_gone(child) and time.monotonic() < deadline:
                self._reap(time.monotonic())
                time.sleep(TICK_S / 5)
            if self._is_gone(child):
                return

    @staticmethod
    def _is_gone(child: _Child) -> bool:
        return child.popen is None

    def _end_orphans(self) -> None:
        """What still has no parent but us: a moment to end by itself, then a request, then an order."""
        steps: tuple[tuple[signal.Signals | None, float], ...] = ((None, 2), (signal.SIGTERM, 3), (signal.SIGKILL, 3))
        for number, timeout_s in steps:
            for who in descendants(self._own.pid) if number is not None else ():
                if number is not None:
                    send(who, number)
            deadline = time.monotonic() + timeout_s
            while children(self._own.pid) and time.monotonic() < deadline:
                self._reap(time.monotonic())
                time.sleep(TICK_S / 5)
        self._reap(time.monotonic())

    def _publish(self) -> None:
        children = tuple(child.snapshot() for child in self._children.values())
        now = StackState(self._phase, self._own, children, self._options.versions, *self._error)
        if now == self._written and self._on_disk:
            return
        self._written = now
        # A full disk: nobody can be told anything, and the processes need their supervisor more than ever. It goes on,
        # and writes as soon as there is room.
        try:
            state.write(self._data_dir, now)
            self._on_disk = True
        except (OpsError, OSError):
            self._on_disk = False

    def _listen_to_signals(self) -> socket.socket:
        """Signals wake the loop. No mask is blocked: children would inherit it."""
        wake, alarm = socket.socketpair()
        wake.setblocking(False)
        alarm.setblocking(False)
        self._alarm = alarm
        signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        return wake

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True


def in_order(processes: Sequence[Process]) -> list[Process]:
    """Dependencies first. Raises: ValueError for an unknown one or a circle: a mistake in the declaration."""
    left = {process.name: process for process in processes}
    if len(left) != len(processes):
        raise ValueError("two processes have the same name")
    ordered: list[Process] = []
    while left:
        done = {process.name for process in ordered}
        ready = [process for process in left.values() if done.issuperset(process.depends_on)]
        if not ready:
            raise ValueError(f"these depend on unknown processes or on each other: {', '.join(left)}")
        ordered += ready
        for process in ready:
            del left[process.name]
    return ordered


def _probe(process: Process) -> bool:
    try:
        return process.ready()
    except (OpsError, OSError):
        return False


def _drain(wake: socket.socket) -> None:
    try:
        while wake.recv(512):
            pass
    except BlockingIOError:
        return
