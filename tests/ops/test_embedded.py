"""The embedded servers, real ones: what they kept, whom they refuse, and what is left when their parent is killed."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.embedded import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey
from ops.embedded.account import NOBODY
from ops.embedded.base import ChildServer
from ops.errors import FolderInUse, OpsError
from ops.processes import identity, wait_gone

KINDS = pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])


def remember(server: ChildServer, value: int) -> None:
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.url) as link:
            link.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
            link.execute("INSERT INTO kept VALUES (%s)", (value,))
    elif isinstance(server, EmbeddedValkey):
        with redis.Redis.from_url(server.url) as client:
            client.rpush("kept", value)


def recall(server: ChildServer) -> list[int]:
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.url) as link:
            return [row[0] for row in link.execute("SELECT value FROM kept ORDER BY value").fetchall()]
    assert isinstance(server, EmbeddedValkey)
    with redis.Redis.from_url(server.url) as client:
        return [int(value) for value in client.lrange("kept", 0, -1)]


@KINDS
def test_a_server_keeps_its_data_port_and_secret_over_a_restart(kind: type[ChildServer], data_dir: Path) -> None:
    with kind(data_dir) as first:
        remember(first, 1)
        url = first.url  # type: ignore[attr-defined]
    with kind(data_dir) as second:
        assert recall(second) == [1]
        assert second.url == url  # type: ignore[attr-defined]


@KINDS
def test_a_server_killed_with_sigkill_comes_back_whole(kind: type[ChildServer], data_dir: Path) -> None:
    with kind(data_dir) as server:
        for round_number in range(3):
            remember(server, round_number)
            server.kill()
            assert not server.ready()
            server.start()
        assert recall(server) == [0, 1, 2]


@KINDS
def test_two_stacks_run_side_by_side(kind: type[ChildServer], tmp_path: Path) -> None:
    with kind(tmp_path / "one") as one, kind(tmp_path / "two") as two:
        remember(one, 1)
        remember(two, 2)
        assert (recall(one), recall(two)) == ([1], [2])


@KINDS
def test_a_folder_in_use_by_a_live_stack_is_refused_at_once(kind: type[ChildServer], data_dir: Path) -> None:
    with kind(data_dir) as first:
        remember(first, 1)
        began = time.monotonic()
        with pytest.raises(FolderInUse, match=f"in use by a running stack \\(process {os.getpid()}\\)"):
            kind(data_dir).start()
        assert time.monotonic() - began < 1.0
        assert recall(first) == [1]


@KINDS
def test_a_server_whose_port_was_taken_meanwhile_chooses_another(kind: type[ChildServer], data_dir: Path) -> None:
    import socket

    with kind(data_dir) as first:
        remember(first, 1)
        port = first.port  # type: ignore[attr-defined]
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        with kind(data_dir) as second:
            assert second.port != port  # type: ignore[attr-defined]
            assert recall(second) == [1]


STARTER = """
import sys, time
from pathlib import Path
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
server = {kind}(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@KINDS
def test_a_server_dies_with_its_parent_and_the_next_stack_finds_its_data(
    kind: type[ChildServer], data_dir: Path
) -> None:
    with kind(data_dir) as server:
        remember(server, 7)
    with start_in_another_process(kind, data_dir) as parent:
        assert parent.stdout is not None
        child = identity(int(parent.stdout.readline()))
        assert child is not None
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    with kind(data_dir) as server:  # at once: waits for the remains instead of failing on them
        assert identity(child.pid) != child
        assert recall(server) == [7]


def start_in_another_process(kind: type[ChildServer], folder: Path) -> "subprocess.Popen[str]":
    script = STARTER.format(kind=kind.__name__)
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)


@KINDS
def test_secrets_are_private_and_never_on_a_command_line(kind: type[ChildServer], data_dir: Path) -> None:
    with kind(data_dir) as server:
        path = data_dir / "secrets" / server.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        words = Path(f"/proc/{server.pid}/cmdline").read_bytes() + Path(f"/proc/{server.pid}/environ").read_bytes()
        assert path.read_bytes() not in words


def test_postgres_refuses_a_wrong_password_and_keeps_fsync_on(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        with psycopg.connect(server.url) as link:
            assert link.execute("SHOW fsync").fetchone() == ("on",)
            assert link.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"postgresql://parkgate:wrong@127.0.0.1:{server.port}/parkgate")


def test_valkey_refuses_strangers_and_fsyncs_before_it_answers(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir) as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with (
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_postgres_starts_when_its_stale_pid_file_names_a_living_stranger(data_dir: Path) -> None:
    """After a reboot the pid of the old Postgres may be anybody's: here, this test's own."""
    with EmbeddedPostgres(data_dir) as server:
        remember(server, 1)
        pid_file = server.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with EmbeddedPostgres(data_dir) as server:
        assert recall(server) == [1]


def test_a_cluster_whose_making_was_killed_half_way_is_made_again(data_dir: Path) -> None:
    half = data_dir / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as server:
        remember(server, 1)
        assert recall(server) == [1]
        assert not half.exists()


def test_data_of_another_postgres_version_is_refused_with_the_way_out(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(OpsError, match=r"was written by Postgres 15, and this is 18.*Dump it"):
        EmbeddedPostgres(data_dir).start()


def test_valkey_with_a_damaged_log_does_not_start_and_says_where_to_look(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir) as server:
        for value in range(100):
            remember(server, value)
    log = next((data_dir / "ledger" / "appendonlydir").glob("*.incr.aof"))
    log.write_bytes(log.read_bytes()[:400] + b"damage" + log.read_bytes()[406:])
    with pytest.raises(OpsError, match=r"valkey ended at its start.*Bad file format"):
        EmbeddedValkey(data_dir).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@KINDS
def test_a_server_runs_for_an_ordinary_user(kind: type[ChildServer], reachable: Callable[[], Path]) -> None:
    folder = reachable()
    os.chown(folder, NOBODY, NOBODY)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    script = STARTER.format(kind=kind.__name__).replace("time.sleep(600)", "server.stop()")
    command = [*as_nobody, sys.executable, "-c", script, str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    if "Permission denied" in done.stderr and str(folder) not in done.stderr:
        pytest.skip("the interpreter is in a folder closed to ordinary users")
    assert done.returncode == 0, done.stderr
    assert (folder / "data").stat().st_uid == NOBODY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_root_without_user_namespaces_falls_back_to_nobody(
    reachable: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some containers forbid user namespaces: here `unshare` is a program that refuses."""
    folder = reachable()
    (folder / "bin").mkdir()
    (folder / "bin" / "unshare").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    server = EmbeddedPostgres(folder / "data")
    try:
        server.start()
    except OpsError as error:
        if "nobody else can reach" in str(error):
            pytest.skip(str(error))
        raise
    try:
        remember(server, 1)
        server.kill()
        server.start()
        assert recall(server) == [1]
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
        assert server.data.stat().st_uid == NOBODY
    finally:
        server.stop()


@pytest.fixture
def reachable() -> "Callable[[], Path]":
    """A folder that every user may pass through (pytest's own are private)."""
    import tempfile

    made: list[Path] = []

    def make() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="parkgate-test-"))
        folder.chmod(0o755)
        made.append(folder)
        return folder

    yield make  # type: ignore[misc]
    for folder in made:
        shutil.rmtree(folder)


def test_both_keep_the_common_protocol(data_dir: Path) -> None:
    servers: list[EmbeddedServer] = [EmbeddedPostgres(data_dir), EmbeddedValkey(data_dir)]
    assert [server.pid for server in servers] == [None, None]
    assert not any(server.ready() for server in servers)
    for server in servers:
        server.stop()  # harmless when it does not run


def test_stop_leaves_no_process_of_the_server_behind(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        assert server.pid is not None
        children = [identity(pid) for pid in children_of(server.pid)]
        assert len(children) >= 3
    assert all(child is not None and wait_gone(child, 1.0) for child in children)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
