"""What the embedded servers share: one Protocol, and the life of one child process.

A server is started directly (no wrapper, no shell), dies with its parent (`setpriv --pdeathsig`), and shares the lock
of its folder with its parent. `prepare` + `command` are enough for a supervisor that keeps children itself; `start` and
`stop` are the same with the child kept here, for tests and tools.

The kernel ties "dies with its parent" to the *thread* that started the child: start servers from the main thread.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from ops.errors import OpsError, StartFailed
from ops.files import FolderLock, make_folder
from ops.processes import POLL_S

REMAINS_TIMEOUT_S = 20.0
"""How long a start waits for the dying children of a killed stack: Postgres ends within a second or two."""


@dataclass(frozen=True, slots=True)
class Command:
    """One child process to start."""

    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()


class EmbeddedServer(Protocol):
    """A server of which this installation owns program, settings and data."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str:
        """Where clients connect, with the password in it: for handing on, never for printing."""

    @property
    def pid(self) -> int | None: ...

    def prepare(self) -> Command:
        """Makes the folder fit for a start (also after SIGKILL) and returns what to run. Repeatable."""

    def start(self) -> None:
        """Prepares, starts and waits until ready."""

    def ready(self) -> bool:
        """Whether it answers now."""

    def stop(self) -> None:
        """Ends it in good order; harmless when it does not run."""


class ChildServer:
    """The life of one embedded server's process. A server adds `url`, `prepare` and `ready`."""

    name = "server"
    stop_signal = signal.SIGTERM
    stop_timeout_s = 30.0
    ready_timeout_s = 30.0

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self._lock = FolderLock(self.folder / "run" / f"{self.name}.lock")
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def log_path(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    def prepare(self) -> Command:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Raises: FolderInUse; StartFailed with the end of the server's own log."""
        if self.pid is not None:
            return
        try:
            command = self.prepare()
            with self._open_log() as log:
                self._child = subprocess.Popen(
                    command.argv,
                    env=command.env or None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=command.pass_fds,
                    cwd="/",
                    start_new_session=True,  # a Ctrl-C at the terminal is for the parent, which stops in order
                )
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(self.stop_signal)
            try:
                child.wait(self.stop_timeout_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._child = None
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL, as a power cut of this one process would be; `start` then brings it back. For rehearsals."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def relock(self) -> None:
        """Takes the folder's lock anew: waits until the last process of an earlier run has let go of it."""
        make_folder(self.folder)
        self._lock.release()
        self._lock.acquire(REMAINS_TIMEOUT_S)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self.ready_timeout_s
        while not self.ready():
            if self._child is None or self._child.poll() is not None:
                raise StartFailed(f"{self.name} ended at its start. {self.log_tail()}", f"See {self.log_path}.")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.name} was not ready within {self.ready_timeout_s:.0f} s. {self.log_tail()}",
                    f"See {self.log_path}.",
                )
            time.sleep(POLL_S)

    def _open_log(self) -> IO[bytes]:
        make_folder(self.log_path.parent)
        return self.log_path.open("ab")

    def log_tail(self, lines: int = 3) -> str:
        """The last words of the server, for an error message."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "Its log ends: " + " / ".join(line.strip() for line in text.strip().splitlines()[-lines:])


def dying_with_parent(sig: signal.Signals) -> list[str]:
    """The prefix of a command whose process gets this signal when its parent is gone, however that went."""
    return [tool("setpriv"), "--pdeathsig", sig.name.removeprefix("SIG")]


def own_module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours, the same wherever the user is.

    Plain `-m` would put the working directory before everything that is installed: a folder `parkgate` there would hide
    the package, and any file with a library's name would be run.
    """
    return [sys.executable, "-P", "-m", name, *arguments]


def tool(name: str) -> str:
    """The path of a system program. Raises: OpsError that names the package."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise OpsError(f"The program {name} is missing.", "Install the package util-linux.")
    return path
