"""A whole installation in processes of its own, as `parkgate up` starts it, and what a test may do to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gateclient.client import GateClient, LinkConfig
from gateclient.credentials import load_credentials
from gateclient.link_events import SessionLimits
from ops import clients, enrolment, ports, state
from ops.files import write_atomic
from ops.pki import Kind
from ops.processes import Identity, descendants, identity, is_alive
from ops.services.cluster import socket_folder
from ops.settings import PORTS, Settings, load
from ops.stack import Endpoints

if TYPE_CHECKING:
    from parkgate.cluster.v1.control_pb2_grpc import ControlServiceAsyncStub
    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceAsyncStub

ROOT = Path(__file__).parents[2]
QUOTA = 30
"""Evening tickets a day in the test's catalogue: few enough to be sold out within seconds."""
PATIENT = SessionLimits(answer_ms=150_000, reply_ms=800)
"""A turnstile that asks on until it is told, so that a test hears the final verdict of every scan."""
METRICS_PORTS = 12
"""The cluster's actors take the ports from `cluster_metrics_port` on."""


def tell(text: str) -> None:
    """Shows a measured time; `pytest -s`, or the report of a failure, has it."""
    print(f"\n{text}")  # noqa: T201


class Stack:
    """One installation. `more` are further settings."""

    def __init__(self, data_dir: Path, **more: object) -> None:
        self.data_dir = data_dir
        first = ports.choose_row(len(PORTS) + METRICS_PORTS)
        others = [name for name in PORTS if name != "cluster_metrics_port"]
        chosen: dict[str, object] = {
            name: first + number for number, name in enumerate([*others, "cluster_metrics_port"])
        }
        lines = [f"{name} = {_toml(value)}" for name, value in (chosen | more).items()]
        write_atomic(self.data_dir / "parkgate.toml", "\n".join(lines).encode())
        self.settings: Settings = load(environ={"PARKGATE_DATA_DIR": str(self.data_dir)})
        self.endpoints = Endpoints(self.settings)
        self._ever: set[Identity] = set()
        self._outside = {socket_folder(data_dir)}
        _copy_catalogue(self.settings.catalogue_dir)

    # Life

    def up(self, environ: Mapping[str, str] | None = None) -> float:
        """Starts everything; returns after how many seconds it was ready."""
        began = time.monotonic()
        self.parkgate("up", "--detach", environ=environ)
        self.note_processes()
        return time.monotonic() - began

    def down(self) -> None:
        """Stops in order, and sees that no process and no port is left."""
        self.note_processes()
        self.parkgate("down")
        left = [who.pid for who in self._ever if is_alive(who)]
        assert not left, f"these outlived `parkgate down`: {[psutil.Process(pid).cmdline() for pid in left]}"
        taken = [port for port in self._ports() if not ports.is_free(port)]
        assert not taken, f"these ports are still taken: {taken}"
        outside = [folder for folder in self._outside if folder.exists() and self.data_dir not in folder.parents]
        assert not outside, f"these folders are left outside the data folder: {outside}"

    def kill_everything(self) -> None:
        """For a test that failed half-way: nothing may be left for the next."""
        subprocess.run(self._command("down"), capture_output=True, check=False, env=self._environ(), timeout=150)
        for who in self._ever:
            if is_alive(who):
                os.kill(who.pid, signal.SIGKILL)

    def parkgate(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        """What the command says. Raises: AssertionError when it fails."""
        done = subprocess.run(
            self._command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            env=self._environ() | dict(environ or {}),
            timeout=200,
        )
        assert done.returncode == 0, f"parkgate {arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "ops.cli", *arguments]

    def _environ(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PARKGATE_", "RAY_"))}
        path = os.pathsep.join([str(ROOT), str(ROOT / "protos"), own.get("PYTHONPATH", "")])
        return own | {"PARKGATE_DATA_DIR": str(self.data_dir), "PYTHONPATH": path}

    def _ports(self) -> list[int]:
        first = int(getattr(self.settings, PORTS[0]))
        return list(range(first, first + len(PORTS) + METRICS_PORTS))

    # Processes

    def supervisor(self) -> psutil.Process:
        """The live supervisor. Raises: LookupError while there is none."""
        last = state.read(self.data_dir)
        if last is None or not is_alive(last.supervisor):
            raise LookupError("no supervisor")
        return psutil.Process(last.supervisor.pid)

    def note_processes(self) -> None:
        """Remembers every process and folder of the stack, so that `down` can see whether they are gone."""
        with contextlib.suppress(FileNotFoundError):
            ray = json.loads((self.data_dir / "run" / "ray.json").read_bytes())
            self._outside.add(Path(ray["temp"]).parent if ray["private"] else Path(ray["temp"]))
        try:
            supervisor = self.supervisor()
            family = [supervisor.parent(), supervisor, *supervisor.children(recursive=True)]
        except (LookupError, psutil.Error):
            return
        ours = [one for one in family if one is not None and one.pid != 1]
        self._ever |= {who for one in ours if (who := identity(one.pid)) is not None}

    def process(self, name: str) -> Identity:
        """A process by what it is. Raises: LookupError while it is not there."""
        self.note_processes()
        try:
            found = self._find(name)
        except psutil.Error as error:
            raise LookupError(name) from error
        who = identity(found.pid) if found is not None else None
        if who is None:
            raise LookupError(f"no process {name}")
        return who

    def processes(self) -> list[Identity]:
        """All live processes of the stack, as far as they are known."""
        self.note_processes()
        return [who for who in self._ever if is_alive(who)]

    def pids(self) -> list[int]:
        """And their numbers."""
        return [who.pid for who in self.processes()]

    def output(self, *arguments: str) -> bytes:
        """All that a command of `parkgate` prints, whether it succeeds or not."""
        done = subprocess.run(
            self._command(*arguments), capture_output=True, check=False, env=self._environ(), timeout=100
        )
        return done.stdout + done.stderr

    def below(self, name: str) -> list[Identity]:
        """The processes that a process has started."""
        return descendants(self.process(name).pid)

    def _find(self, name: str) -> psutil.Process | None:
        supervisor = self.supervisor()
        if name == "supervisor":
            return supervisor
        if name == "watcher":
            parent = supervisor.parent()
            return parent if parent is not None and "ops.watcher" in parent.cmdline() else None
        last = state.read(self.data_dir)
        for known in last.processes if last is not None else ():
            if known.name == name and known.who is not None and is_alive(known.who):
                return psutil.Process(known.who.pid)
        for one in supervisor.children(recursive=True):
            if _is(one, name):
                return one
        return None

    def kill(self, name: str) -> Identity:
        """SIGKILL."""
        who = self.process(name)
        os.kill(who.pid, signal.SIGKILL)
        return who

    def all_running(self) -> bool:
        """Whether the supervisor calls every process running and healthy."""
        last = state.read(self.data_dir)
        if last is None or not is_alive(last.supervisor) or last.phase is not state.Phase.RUNNING:
            return False
        return all(one.stage is state.Stage.RUNNING and one.healthy for one in last.processes)

    # Clients

    def sales(self) -> AbstractAsyncContextManager[SalesServiceAsyncStub]:
        return clients.sales(self.settings)

    def control(self) -> AbstractAsyncContextManager[ControlServiceAsyncStub]:
        return clients.control(self.settings)

    def certificate(self, kind: Kind, name: str, gates: tuple[str, ...] = ()) -> Path:
        """A certificate folder, made by the real enrolment."""
        folder = self.data_dir / "enrolled" / name
        if not folder.exists():
            now = datetime.now(UTC)
            pair, _ = enrolment.enroll(self.data_dir, kind, name, gates, now)
            enrolment.save(pair, enrolment.authority(self.data_dir, now).certificate, name, folder)
        return folder

    def turnstile(self, gate: str) -> GateClient:
        """A patient client for a gate, not started."""
        credentials = load_credentials(self.certificate(Kind.GATE, f"device-{gate}", (gate,)))
        return GateClient(LinkConfig((gate,), (f"localhost:{self.settings.gate_port}",), credentials, limits=PATIENT))


def _is(process: psutil.Process, name: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    words = " ".join(command)
    match name:
        case "owner" | "quota" | "gateway" | "reporting actor":
            return words.startswith(f"ray::{name.removesuffix(' actor').capitalize()}Actor")
        case "raylet" | "gcs_server":
            return bool(command) and command[0].endswith(f"/{name}")
        case _:
            return False


def _copy_catalogue(folder: Path) -> None:
    """The shipped example park, with few evening tickets a day, a water park without re-entry, and on a clock far from
    midnight."""
    shutil.copytree(ROOT / "catalogue", folder)
    heading = 'id = "evening"\n'
    _replace(folder / "products.toml", heading, f"{heading}daily_quota = {QUOTA}\n")
    single_entry = 'zones = ["water-park"]\n'
    _replace(folder / "products.toml", f'{single_entry}reentry = "same_day"\n', single_entry)
    hours_ahead = 12 - datetime.now(UTC).hour
    # POSIX counts these zones westwards: Etc/GMT-5 is five hours ahead of UTC.
    _replace(folder / "park.toml", '"Europe/Zurich"', f'"Etc/GMT{-hours_ahead:+d}"')


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'
