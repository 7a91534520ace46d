"""Ray: an embedded head node of this process, or a connection to a cluster that exists.

Always an explicit address: without one Ray looks for clusters on the machine and joins a stranger's. Token
authentication stays on, with a token of our own in `secrets/`; the embedded node listens on loopback.

Ray reads its settings from the environment, also in the processes that it starts, so `environment` must be in place
before `ray` is imported: `EmbeddedRay.start` and `connect` see to that for this process.
"""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ops.embedded.base import own_module
from ops.errors import BadInput, OpsError, StartFailed
from ops.files import FolderLock, make_folder, secret, write_atomic
from ops.processes import Identity, children, end_all_in, first_ended, program, wait_gone, working_in

NAMESPACE = "parkgate"
OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Scans never travel through the object store; this is room for Ray's own needs."""
TEMP_PATH_MAX = 40
"""Linux ends a Unix socket's path at 107 bytes, and Ray appends `/session_<date>_<pid>/sockets/plasma_store` (66)."""
SHORT = "/tmp"  # noqa: S108 - what is made there is private
REMAINS_TIMEOUT_S = 20.0
SERVERS = ("gcs_server", "raylet")

EMBEDDED_ENVIRONMENT: Mapping[str, str] = {
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # by default workers run at nice 15 and starve under load
    # A dead node is noticed, and its actors move, in 3.7 s instead of 17.6 s.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "2",
    # An actor that stands still cannot hear that it shall end: it is killed after this, not after 5 s.
    "RAY_kill_worker_timeout_milliseconds": "1000",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A machine with this off is never part of a larger cluster, and then Ray listens on 127.0.0.1 only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def environment(folder: Path) -> dict[str, str]:
    """What a process needs in its environment to be part of the embedded Ray. It holds a path, not the token."""
    secret(folder, "ray")
    return {**EMBEDDED_ENVIRONMENT, "RAY_AUTH_TOKEN_PATH": str(Path(folder).absolute() / "secrets" / "ray")}


@dataclass(frozen=True, slots=True)
class _Record:
    """What `run/ray.json` says of the node: where it is, and which folder to clear after a SIGKILL.

    `private`: the folder is inside of one of its own outside the data folder, which is cleared with it.
    """

    address: str
    temp: str
    private: bool


class EmbeddedRay:
    """A Ray head in this process' care: its servers end with this process, however that ends.

    Start it from the main thread: the kernel ties Ray's servers to the thread that started them.
    """

    name = "ray"

    def __init__(self, folder: Path, num_cpus: int | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._num_cpus = num_cpus
        self._lock = FolderLock(self.folder / "run" / "ray.lock")
        self._record: _Record | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._servers: Mapping[str, Identity] = {}

    @property
    def url(self) -> str:
        """The address to `connect` to from other processes. Raises: OpsError when it does not run."""
        return address(self.folder)

    @property
    def pid(self) -> int | None:
        """The process that lives and dies with the node: this one."""
        return os.getpid() if self._record is not None else None

    def start(self) -> None:
        """Raises: FolderInUse; StartFailed."""
        if self._record is not None:
            return
        self._lock.acquire(REMAINS_TIMEOUT_S)
        try:
            self._clear_remains()
            self._record = self._start_head()
        except BaseException:
            self._end_guard()
            self._lock.release()
            raise

    async def ended_server(self) -> str:
        """The name of a server of the node, once one has ended: the node is of no use without it."""
        return await first_ended(self._servers)

    def ready(self) -> bool:
        if self._record is None:
            return False
        import ray

        return ray.is_initialized() and bool(ray.cluster_resources())  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Ends the node and every actor in it, and waits until its processes are gone; harmless when it is stopped."""
        if self._record is None:
            return
        import ray

        processes = working_in(self._record.temp)
        ray.shutdown()
        left = [who.pid for who in processes if not wait_gone(who, REMAINS_TIMEOUT_S)]
        self._end_guard()
        self._clear_remains()
        self._record = None
        self._lock.release()
        if left:
            raise OpsError(f"Ray did not end its processes {left}.", "End them by hand.")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_head(self) -> _Record:
        os.environ.update(environment(self.folder))
        temp, private = _temp_folder(self.folder)
        record_path = self.folder / "run" / "ray.json"
        _write_record(record_path, _Record("", str(temp), private))
        self._guard = subprocess.Popen(
            own_module("ops.embedded.ray_guard", str(os.getpid()), str(temp)),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        import ray

        try:
            with _without_api_server_and_autoscaler():
                context: Any = ray.init(
                    address="local",
                    namespace=NAMESPACE,
                    num_cpus=self._num_cpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    logging_level=logging.WARNING,
                    _temp_dir=str(temp),
                    _node_ip_address="127.0.0.1",
                )
        except Exception as error:
            raise StartFailed(f"Ray did not start: {error}", f"See the newest session's logs in {temp}.") from error
        self._servers = {name: who for who in children(os.getpid()) if (name := program(who)) in SERVERS}
        record = _Record(str(context["gcs_address"]), str(temp), private)
        _write_record(record_path, record)
        return record

    def _end_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None

    def _clear_remains(self) -> None:
        """Removes what a run left in Ray's folder, but keeps its logs for whoever asks why it ended."""
        record = _read_record(self.folder / "run" / "ray.json")
        if record is None:
            return
        end_all_in(record.temp)
        temp = Path(record.temp)
        logs = next(iter(sorted(temp.glob("session_2*/logs"), reverse=True)), None)
        if logs is not None:
            kept = make_folder(self.folder / "logs") / "ray-last-run"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(logs, kept, symlinks=True)
        shutil.rmtree(temp.parent if record.private else temp, ignore_errors=True)
        (self.folder / "run" / "ray.json").unlink()


@contextlib.contextmanager
def _without_api_server_and_autoscaler() -> Iterator[None]:
    """Ray's head starts both even without its dashboard: 2 s of CPU and 180 MB at every start, for nobody here.

    No setting leaves them out. A Ray that names these methods otherwise starts them, and nothing else changes.
    """
    from ray._private.node import Node

    unused = [name for name in ("start_api_server", "start_monitor") if hasattr(Node, name)]
    kept = {name: getattr(Node, name) for name in unused}
    for name in unused:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(Node, name, method)


def address(folder: Path) -> str:
    """The address of the Ray that runs embedded in this data folder. Raises: OpsError when none runs."""
    folder = Path(folder).absolute()
    record = _read_record(folder / "run" / "ray.json")
    if record is None or not record.address or FolderLock(folder / "run" / "ray.lock").owner() is None:
        raise OpsError(f"No Ray runs for {folder}.", "Start the stack first: parkgate up.")
    return record.address


def connect(to: str, folder: Path | None = None, *, hear_logs: bool = True) -> None:
    """Joins this process to an existing cluster as a driver in our namespace.

    `hear_logs`: what actors print is printed here too.

    `folder`: the data folder whose token the cluster uses; without it Ray's own rules for the token apply
    (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token). Raises: BadInput; StartFailed.
    """
    if to in ("", "auto", "local"):
        raise BadInput(f"Ray's address {to!r} names no cluster.", "Name it as host:port, for example 10.0.0.5:6379.")
    os.environ.update(environment(folder) if folder is not None else {"RAY_USAGE_STATS_ENABLED": "0"})
    import ray

    try:
        ray.init(address=to, namespace=NAMESPACE, logging_level=logging.WARNING, log_to_driver=hear_logs)
    except Exception as error:
        raise StartFailed(
            f"Cannot join the Ray cluster at {to}: {error}",
            "Check PARKGATE_RAY_ADDRESS, that the cluster runs the same Ray and Python, and its token.",
        ) from error


def disconnect() -> None:
    """Leaves the cluster; harmless when not connected."""
    import ray

    ray.shutdown()


def _temp_folder(folder: Path) -> tuple[Path, bool]:
    """Ray's folder: in the data folder, or, where the sockets' paths would be too long, a private one elsewhere."""
    own = folder / "ray"
    if len(os.fsencode(own)) <= TEMP_PATH_MAX:
        return make_folder(own), False
    # Ray opens the folder that it is given to everybody (0777), so it gets one inside of one that stays closed (0700).
    return make_folder(Path(tempfile.mkdtemp(prefix="pg-", dir=SHORT)) / "r"), True


def _write_record(path: Path, record: _Record) -> None:
    fields = {"address": record.address, "temp": record.temp, "private": record.private}
    write_atomic(path, json.dumps(fields).encode())


def _read_record(path: Path) -> _Record | None:
    try:
        fields = json.loads(path.read_bytes())
        return _Record(str(fields["address"]), str(fields["temp"]), bool(fields["private"]))
    except (FileNotFoundError, ValueError, KeyError):
        return None  # nothing ran, or it was killed before it had anything to clear
