"""What a command needs of the stack that runs on a data folder: that it runs, and where its services listen."""

from __future__ import annotations

from pathlib import Path

from ops import state
from ops.errors import OpsError
from ops.state import Phase, StackState


def require_running(data_dir: Path) -> StackState:
    """The running stack. Raises: OpsError that says how to start it."""
    now = state.read(data_dir)
    where = "" if data_dir == Path("parkgate-data").absolute() else f" --data-dir {data_dir}"
    if now is None or not now.alive:
        raise OpsError(f"Nothing runs on {data_dir}.", f"Start it with `parkgate up --detach{where}`.")
    if now.phase is not Phase.RUNNING:
        raise OpsError(
            f"The stack on {data_dir} is {now.phase.value}.", f"`parkgate status{where}` tells when it is up."
        )
    return now


def port(now: StackState, purpose: str) -> int:
    """The port of a purpose, for example "sales_port". Raises: OpsError when no process has it."""
    for one in now.processes:
        if purpose in one.ports:
            return one.ports[purpose]
    raise OpsError(f"No process of the stack listens for {purpose}.", "`parkgate status` shows what runs.")
