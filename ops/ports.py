"""Choosing and keeping TCP ports on loopback."""

import random
import socket
from collections.abc import Collection
from pathlib import Path

from ops.errors import OpsError
from ops.files import write_atomic

FIRST, LAST = 20000, 32000
"""Below Linux' range for outgoing connections (32768 and up), so that no client socket takes the port by chance."""
ATTEMPTS = 200
_kept: set[int] = set()
"""Ports that are this process' until it ends."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def require_free(port: int, setting: str, may_hold: str = "") -> None:
    """Lets programs whose names begin with `may_hold` have it.

    Raises: OpsError that names the program on the port and the setting to change.
    """
    if is_free(port):
        return
    by = holder(port)
    if may_hold and by.startswith(f" by {may_hold}"):
        return
    raise OpsError(
        f"Port {port} is taken{by}.",
        f"End that program, or choose another port with {setting} (PARKGATE_{setting.upper()}).",
    )


def holder(port: int) -> str:
    """` by NAME (process PID)` of the program that listens there; empty when this user may not see it."""
    import psutil

    try:
        for link in psutil.net_connections("tcp"):
            if link.status == psutil.CONN_LISTEN and link.laddr and link.laddr.port == port and link.pid:
                return f" by {psutil.Process(link.pid).name()} (process {link.pid})"
    except psutil.Error:
        return ""
    return ""


def held_by(pids: Collection[int]) -> set[int]:
    """The TCP ports on which these processes listen, as far as this user may see."""
    import psutil

    try:
        links = psutil.net_connections("tcp")
    except psutil.Error:
        return set()
    return {link.laddr.port for link in links if link.laddr and link.status == psutil.CONN_LISTEN and link.pid in pids}


def choose() -> int:
    """A free port on loopback, kept for this process: no other that chooses is given it while this one lives."""
    return choose_row(1)


def choose_row(length: int) -> int:
    """The first of so many neighbouring ones."""
    for _ in range(ATTEMPTS):
        first = random.randint(FIRST, LAST + 1 - length)  # noqa: S311 - spreading, not secrecy
        row = range(first, first + length)
        if _kept.isdisjoint(row) and all(is_free(port) and _keep(port) for port in row):
            return first
    raise OpsError(f"No free TCP port from {FIRST} to {LAST} on 127.0.0.1.", "End the programs that hold them.")


def kept_or_chosen(path: Path) -> int:
    """The port noted in the file when it is still free, or else a new one, noted."""
    port = noted(path)
    if port is None or not (is_free(port) and _keep(port)):
        port = choose()
        write_atomic(path, str(port).encode())
    return port


def _keep(port: int) -> bool:
    """Keeps the port for this process; false when another has.

    Between choosing and listening there are seconds, in which the port is free for everybody. The sign that it is
    somebody's is a socket with a name of its own in the kernel's list of them, which is a network namespace's as the
    ports are: it ends with the process, however that ends, and is no file.
    """
    if port in _kept:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sign:
        try:
            sign.bind(f"\0parkgate-port-{port}")
        except OSError:
            return False
        sign.detach()
    _kept.add(port)
    return True


def noted(path: Path) -> int | None:
    """The port noted in the file; `None` when there is none or it is not a port."""
    try:
        port = int(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return port if 0 < port < 65536 else None
