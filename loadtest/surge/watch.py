"""CPU and memory of every process that takes part, once a second, under the names that people know them by."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtest.surge.pace import pace_ms
from ops import state

EVERY_S = 1.0
ACTORS = {
    "ray::GatewayActor": "gateway",
    "ray::OwnerActor": "partition owner",
    "ray::QuotaActor": "quota owner",
    "ray::ReportingActor": "reporting",
}
SERVICES = {
    "postgres": "Postgres",
    "valkey": "ledger (Valkey)",
    "sales": "sales",
    "reporting": "reporting",
    "cluster": "Ray",
}
GENERATOR = ("generator: gates", "generator: shop", "generator: conductor")


@dataclass(slots=True)
class Usage:
    """One process, or several of one name: share of a core, and MB that are theirs alone, by sample."""

    cpu: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Watched:
    """All samples. `times` are monotonic; `machine` is the share of all cores that was busy, whoever it was; `pace_ms`
    what a fixed piece of work took."""

    times: list[float] = field(default_factory=list)
    machine: list[float] = field(default_factory=list)
    pace_ms: list[float] = field(default_factory=list)
    by_name: dict[str, Usage] = field(default_factory=dict)


class Watch:
    """Samples in a thread until it is stopped. `data_dir` None: a system elsewhere, only the generator is seen."""

    def __init__(self, data_dir: Path | None) -> None:
        self.watched = Watched()
        self.generator: dict[int, str] = {os.getpid(): GENERATOR[2]}
        """Our own processes, by pid."""
        self._data_dir = data_dir
        self._known: dict[int, psutil.Process] = {}
        self._cpu_s: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> Watched:
        """Ends, and answers all samples."""
        self._ended.set()
        self._thread.join()
        return self.watched

    def _run(self) -> None:
        before = time.monotonic()
        psutil.cpu_percent()
        while not self._ended.wait(EVERY_S):
            now = time.monotonic()
            self._sample(now, now - before)
            before = now

    def _sample(self, now: float, elapsed_s: float) -> None:
        cpu: defaultdict[str, float] = defaultdict(float)
        memory: defaultdict[str, float] = defaultdict(float)
        for pid, name in self._processes().items():
            with contextlib.suppress(psutil.Error):
                process = self._known.setdefault(pid, psutil.Process(pid))
                times, sizes = process.cpu_times(), process.memory_info()
                spent = times.user + times.system
                cpu[name] += max(spent - self._cpu_s.get(pid, spent), 0.0) / elapsed_s
                memory[name] += (sizes.rss - sizes.shared) / 1e6
                self._cpu_s[pid] = spent
        self.watched.times.append(now)
        self.watched.machine.append(psutil.cpu_percent() / 100)
        self.watched.pace_ms.append(pace_ms())
        for name in cpu.keys() | self.watched.by_name.keys():
            usage = self.watched.by_name.setdefault(name, self._new())
            usage.cpu.append(cpu.get(name, 0.0))
            usage.memory_mb.append(memory.get(name, 0.0))

    def _new(self) -> Usage:
        """A name that was not there before had nothing until now."""
        before = len(self.watched.times) - 1
        return Usage([0.0] * before, [0.0] * before)

    def _processes(self) -> dict[int, str]:
        found = dict(self.generator)
        last = state.read(self._data_dir) if self._data_dir else None
        if last is None or not last.alive:
            return found
        services = {one.who.pid: SERVICES.get(one.name, one.name) for one in last.processes if one.who}
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(last.supervisor.pid)
            found[top.pid] = "supervisor"
            for child in top.children():
                self._add(child, services.get(child.pid, "supervisor"), found)
        return found

    def _add(self, process: psutil.Process, name: str, found: dict[int, str]) -> None:
        found[process.pid] = name
        with contextlib.suppress(psutil.Error):
            for child in process.children(recursive=True):
                found[child.pid] = self._name(child, name)

    def _name(self, process: psutil.Process, parent: str) -> str:
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            words = command[0] if command else ""
            for prefix, name in ACTORS.items():
                if words.startswith(prefix):
                    return name
        return parent


def actor(data_dir: Path, prefix: str) -> psutil.Process | None:
    """A live process of the system by the beginning of its command, for a fault on demand."""
    last = state.read(data_dir)
    if last is None or not last.alive:
        return None
    for child in psutil.Process(last.supervisor.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = child.cmdline()
            if command and command[0].startswith(prefix):
                return child
    return None
