"""As whom Postgres runs, which refuses to be root.

not root                                 as the same user
root, user namespaces work               in a namespace that shows root as `nobody`: files stay root's own, private
                                         folders stay private, and no user is made
root, no user namespaces (some           as the real `nobody`, its files handed over; every folder above must let
containers)                              it pass
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.base import tool
from ops.errors import OpsError

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Account:
    """How to start a program under this account, and whose its files must be (`None`: the caller's)."""

    prefix: tuple[str, ...]
    owner: tuple[int, int] | None = None

    def give(self, *paths: Path) -> None:
        """Hands files over to the account."""
        if self.owner is not None:
            for path in paths:
                os.chown(path, *self.owner)


def choose_account(folder: Path, program: Path) -> Account:
    """For a program and its data folder. Raises: OpsError when root has no way to run it as another user there."""
    if os.geteuid() != 0:
        return Account(prefix=())
    namespace = (tool("unshare"), "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    if works(namespace, program):
        return Account(prefix=namespace)
    return _nobody(folder, program)


def works(prefix: tuple[str, ...], program: Path) -> bool:
    """Whether the program starts under that prefix on this kernel, in this container."""
    return subprocess.run([*prefix, str(program), "--version"], capture_output=True, check=False).returncode == 0


def _nobody(folder: Path, program: Path) -> Account:
    nobody = pwd.getpwnam("nobody")
    prefix = (
        tool("setpriv"),
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
    )
    closed = [str(parent) for parent in folder.parents if not parent.stat().st_mode & 0o001]
    if closed or not works(prefix, program):
        raise OpsError(
            f"Postgres does not run as root, and here nobody else can reach {', '.join(closed) or program}.",
            "Run parkgate as an ordinary user, or choose folders that everybody may pass through.",
        )
    folder.chmod(0o711)  # pass through, not look inside; what is in it stays 0700 and 0600
    return Account(prefix=prefix, owner=(nobody.pw_uid, nobody.pw_gid))
