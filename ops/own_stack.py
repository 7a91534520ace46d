"""A stack of one's own, for a demo or a rehearsal: its data in one folder, ports that are free, the same processes as
`parkgate up`.

It is started so that it ends with this process, whatever ends that; in good order when there is time for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ops import ports, state
from ops.embedded.base import dying_with_parent, own_module
from ops.errors import StartFailed
from ops.files import make_folder, write_atomic
from ops.settings import FILE_NAME, PORTS, PREFIX, Settings, load
from ops.state import Phase, StackState
from ops.watcher import stop_stack

START_S = 85.0
TICK_S = 0.05
CLUSTER_PORTS = 8
"""The cluster takes a port a process, from its first one on."""


class OwnStack:
    """`start` and `stop` belong on the main thread: the kernel ties a child's life to the thread that started it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = make_folder(data_dir)
        write_settings(self.data_dir)
        self.settings: Settings = load(environ=self._environment(only_ours=True))
        self._watcher: subprocess.Popen[bytes] | None = None

    def start(self, tick: Callable[[StackState], None]) -> None:
        """Returns once everything is up. Raises: StartFailed."""
        log = make_folder(self.data_dir / "logs") / "watcher.log"
        with log.open("wb") as output:
            self._watcher = subprocess.Popen(
                [*dying_with_parent(signal.SIGTERM), *own_module("ops.watcher")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            now = state.read(self.data_dir)
            if now is not None:
                tick(now)
                if now.phase is Phase.RUNNING:
                    return
            if now is not None and now.phase is Phase.FAILED:
                raise StartFailed(now.error, now.mend)
            if self._watcher.poll() is not None:
                raise StartFailed(f"The stack ended at its start. {log.read_text('utf-8').strip()}")
            time.sleep(TICK_S)
        raise StartFailed(f"The stack was not up within {START_S:g} s.", "`parkgate doctor` looks at this machine.")

    def stop(self) -> None:
        """Stops everything in order. A second Ctrl-C does not interrupt it."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            stop_stack(self.data_dir)
            if self._watcher is not None:
                self._watcher.wait(timeout=10)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _environment(self, *, only_ours: bool = False) -> dict[str, str]:
        """Without the settings of another installation that may stand in the environment."""
        ours = {f"{PREFIX}DATA_DIR": str(self.data_dir)}
        if only_ours:
            return ours
        return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | ours


def write_settings(data_dir: Path) -> None:
    """A settings file in the data folder: free ports, everything on loopback."""
    lines = [f"{name} = {port}" for name, port in _distinct_ports().items()]
    lines += ['gate_host = "127.0.0.1"', 'sales_host = "127.0.0.1"', 'reporting_host = "127.0.0.1"']
    write_atomic(data_dir / FILE_NAME, ("\n".join(lines) + "\n").encode())


def _distinct_ports() -> dict[str, int]:
    return {name: ports.choose_row(CLUSTER_PORTS if name == "cluster_metrics_port" else 1) for name in PORTS}
