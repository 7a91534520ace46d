"""Starting children of a supervisor, and what becomes of their output and of their orphans."""

import ctypes
import os
import subprocess
from pathlib import Path

from ops.embedded.base import Command
from ops.errors import OpsError
from ops.files import make_folder

LOG_MAX_BYTES = 10 * 1024 * 1024
"""A log that is longer at a start is put aside as `.log.1`: a crash loop cannot fill the disk."""
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Descendants whose parent dies become children of this process, instead of init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OpsError(
            f"The kernel refuses a child subreaper: {os.strerror(ctypes.get_errno())}.", "Use Linux 3.4 or later."
        )


def log_path(data_dir: Path, name: str) -> Path:
    return data_dir / "logs" / f"{name}.log"


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, for one line of an error; empty when there is nothing."""
    try:
        tail = log.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()[-lines:]
    except FileNotFoundError:
        return ""
    return "; its log ends: " + " / ".join(line.strip() for line in tail) if tail else ""


def spawn(name: str, command: Command, data_dir: Path) -> "subprocess.Popen[bytes]":
    """Starts it in a session of its own (a Ctrl-C is for the parent), its output at the end of its log."""
    log = log_path(data_dir, name)
    make_folder(log.parent)
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command.argv,
            env=command.env or None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=command.pass_fds,
            cwd="/",
            start_new_session=True,
        )
