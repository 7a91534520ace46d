"""The watcher: runs the supervisor as its child and restarts it when it is killed. And how a stack is stopped.

The watcher is thin so that little can go wrong in it. When it is SIGKILLed itself the supervisor goes on serving, and
`stop_stack` stops that too. `python -m ops.watcher` is `parkgate up --detach`'s.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops import state
from ops.embedded.base import own_module
from ops.errors import OpsError
from ops.files import FolderLock
from ops.processes import Identity, end, is_alive, send, wait_gone
from ops.settings import load
from ops.state import Phase
from ops.supervisor import AGAIN, lock_path

BACKOFF_FIRST_S, BACKOFF_CAP_S = 0.2, 10.0
STABLE_S = 30.0
STOP_TIMEOUT_S = 120.0
"""The sum of the deadlines of an ordered stop; after it the remains are killed by their identities."""
TICK_S = 0.1


@dataclass(slots=True)
class Watch:
    """The watch over one folder's supervisor. `tick` is called while it goes on: for progress on a screen."""

    data_dir: Path
    tick: Callable[[], None] = lambda: None
    stopping: bool = False

    def run(self) -> int:
        """The supervisor's exit code once it ends in order or fails; restarts a killed one. Raises: FolderInUse."""
        with FolderLock(_watch_lock(self.data_dir)):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._ask_to_stop)
            return self._watch()

    def _watch(self) -> int:
        failures, arguments = 0, list[str]()
        while True:
            began = time.monotonic()
            code = self._supervise_once(arguments)
            if code >= 0 or self.stopping:
                return max(code, 0)
            last = state.read(self.data_dir)
            arguments = [AGAIN] if arguments or (last is not None and last.phase is Phase.RUNNING) else []
            failures = 1 if time.monotonic() - began > STABLE_S else failures + 1
            self._pause(min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10)))

    def _supervise_once(self, arguments: list[str]) -> int:
        child = subprocess.Popen(
            own_module("ops.supervisor", *arguments),
            env={**os.environ, "PARKGATE_DATA_DIR": str(self.data_dir)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        asked = False
        while child.poll() is None:
            if self.stopping and not asked:
                child.terminate()
                asked = True
            self.tick()
            time.sleep(TICK_S)
        return child.returncode

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < deadline:
            time.sleep(TICK_S)

    def _ask_to_stop(self, *_: object) -> None:
        self.stopping = True


def owner(data_dir: Path) -> Identity | None:
    """The live supervisor or watcher of that folder, if there is one."""
    return FolderLock(lock_path(data_dir)).owner() or _watcher(data_dir)


def stop_stack(data_dir: Path, tick: Callable[[], None] = lambda: None) -> bool:
    """Stops whatever runs on that folder, in order. False when nothing ran. Raises: OpsError when something stays."""
    watcher, last = _watcher(data_dir), state.read(data_dir)
    supervisor = FolderLock(lock_path(data_dir)).owner()
    everyone = [who for who in (watcher, supervisor) if who is not None]
    everyone += [one.who for one in (last.processes if last else ()) if one.who is not None and is_alive(one.who)]
    if not everyone:
        return False
    leader = watcher or supervisor
    if leader is not None:
        send(leader, signal.SIGTERM)
        _wait(everyone, STOP_TIMEOUT_S, tick)
    left = [who.pid for who in everyone if not end(who, [(signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)])]
    if left:
        raise OpsError(f"These processes do not end: {left}.", "They hang in the kernel, mostly on a disk; see dmesg.")
    return True


def _wait(everyone: list[Identity], timeout_s: float, tick: Callable[[], None]) -> None:
    deadline = time.monotonic() + timeout_s
    while any(is_alive(who) for who in everyone) and time.monotonic() < deadline:
        tick()
        wait_gone(everyone[0], TICK_S)
        time.sleep(TICK_S / 5)


def _watcher(data_dir: Path) -> Identity | None:
    return FolderLock(_watch_lock(data_dir)).owner()


def _watch_lock(data_dir: Path) -> Path:
    return data_dir / "run" / "watch.lock"


def main() -> int:
    try:
        return Watch(load().data_dir).run()
    except OpsError as error:
        print(f"parkgate: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
