"""System programs that the nemesis works with, and whether this machine has them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = {
    "ip": "iproute2",
    "nft": "nftables",
    "strace": "strace",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
}
"""Programs, each with its Debian package."""


def clean_up_when_told_to_end() -> None:
    """SIGTERM becomes what Ctrl-C is: whatever was started, mounted and cut is ended, unmounted and mended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def lacking() -> str:
    """What this machine lacks of what the faults need, for people; empty if it has everything."""
    programs = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    found = [f"{name} (install the package {NEEDED[name]})" for name in programs]
    return ", ".join(found if os.geteuid() == 0 else [*found, "the rights of root (run it as root)"])


def tool(name: str) -> str:
    """Where a program is."""
    return shutil.which(name, path=PATH) or name


def run(*command: str) -> str:
    """Runs a program to its end; answers what it said.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    # Programs of root call each other by name (`ip netns exec ... nft`), and a user's path may leave theirs out.
    environment = os.environ | {"PATH": PATH}
    call = [tool(command[0]), *command[1:]]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
