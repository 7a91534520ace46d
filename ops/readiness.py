"""How a service tells its supervisor that it serves: a file with the identity of the process that wrote it.

The service knows best when it is ready; a file of a process that is gone says nothing.
"""

import json
from pathlib import Path

from ops.files import write_atomic
from ops.processes import Identity, is_alive, own_identity


def mark_ready(data_dir: Path, name: str) -> None:
    """Called by the service once it serves."""
    own = own_identity()
    write_atomic(_path(data_dir, name), json.dumps({"pid": own.pid, "started": own.started}).encode())


def is_ready(data_dir: Path, name: str) -> bool:
    """Whether the process that called itself ready still lives."""
    try:
        fields = json.loads(_path(data_dir, name).read_bytes())
        return is_alive(Identity(int(fields["pid"]), str(fields["started"])))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _path(data_dir: Path, name: str) -> Path:
    return data_dir / "run" / f"{name}.ready"
