"""System programs that the nemesis works with, and whether this machine has them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = ("ip", "nft", "strace", "mkfs.ext4", "mount")


def clean_up_when_told_to_end() -> None:
    """SIGTERM becomes what Ctrl-C is: whatever was started, mounted and cut is ended, unmounted and mended."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def missing() -> list[str]:
    """What this machine lacks of what the faults need."""
    lacking = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    return lacking if os.geteuid() == 0 else [*lacking, "the rights of root"]


def tool(name: str) -> str:
    """Where a program is."""
    return shutil.which(name, path=PATH) or name


def run(*command: str) -> None:
    """Runs a program to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    # Programs of root call each other by name (`ip netns exec ... nft`), and a user's path may leave theirs out.
    environment = os.environ | {"PATH": PATH}
    call = [tool(command[0]), *command[1:]]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
