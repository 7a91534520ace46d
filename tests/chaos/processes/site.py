"""Two hosts: this machine, with the servers and Ray's head, and another, a network namespace with a second node.

Postgres and Valkey are the embedded ones, made to listen on the wire too, and started again by `Site` as a service
manager would. Whatever is started here is ended by `close`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from cluster.link import Address
from ops import ports
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.embedded.base import Command
from ops.embedded.ray_node import EMBEDDED_ENVIRONMENT
from ops.files import secret
from ops.polling import PLAIN_POLLING
from ops.processes import Identity, children, descendants, end_all_in, send
from tests.chaos.processes.clock import Clock
from tests.chaos.processes.namespace import Namespace, Way
from tests.chaos.processes.park import Park, installation
from tests.system.stack import ROOT

HEALTH_CHECK = {"RAY_health_check_failure_threshold": "4", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
"""As docs/operations.md names it for several nodes; and Ray listens to other hosts too."""
NODE = ["--num-cpus=2", "--object-store-memory=104857600", "--disable-usage-stats", "--block"]
STARTED_WITHIN_S, STARTS = 60.0, 3


class _WiredValkey(EmbeddedValkey):
    """Listens on the wire too."""

    def __init__(self, folder: Path, host: str) -> None:
        super().__init__(folder)
        self._host = host

    def prepare(self) -> Command:
        command, config = super().prepare(), self.data / "valkey.conf"
        config.write_text(config.read_text().replace("bind 127.0.0.1", f"bind 127.0.0.1 {self._host}"))
        return command

    @property
    def url(self) -> str:
        return super().url.replace("127.0.0.1", self._host)


class _WiredPostgres(EmbeddedPostgres):
    """Listens on the wire too."""

    def __init__(self, folder: Path, host: str) -> None:
        super().__init__(folder)
        self._host = host

    def prepare(self) -> Command:
        command = super().prepare()
        for name, old, new in (
            ("postgresql.conf", "listen_addresses = '127.0.0.1'", f"listen_addresses = '127.0.0.1,{self._host}'"),
            ("pg_hba.conf", "127.0.0.1/32", f"{self._host}/30"),
        ):
            path = self.data / name
            path.write_text(path.read_text().replace(old, new))
        return command

    @property
    def url(self) -> str:
        return super().url.replace("127.0.0.1", self._host)


class Site:
    """Servers, Ray's two nodes, and the installation on them."""

    def __init__(self, folder: Path) -> None:
        self.namespace = Namespace()
        self.namespace.make()
        self.valkey = _WiredValkey(folder / "ledger", self.namespace.here)
        self.postgres = _WiredPostgres(folder / "books", self.namespace.here)
        self.clock = Clock(folder / "clock")
        self._temp = Path(tempfile.mkdtemp(prefix="pgr-", dir="/tmp"))  # Ray's sockets need a short path
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._head_port = ports.choose()
        self._left: list[Identity] = []
        secret(folder, "ray")
        self.environ = {
            **EMBEDDED_ENVIRONMENT,
            **HEALTH_CHECK,
            **PLAIN_POLLING,
            "RAY_AUTH_TOKEN_PATH": str(folder / "secrets" / "ray"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")]),
        }

    def open(self) -> Park:
        """Starts everything."""
        self.valkey.start()
        self.postgres.start()
        self.start_head()
        self.join()
        stack = installation(
            self._folder / "data",
            ray_address=f"{self.namespace.here}:{self._head_port}",
            ledger_url=self.valkey.url,
            postgres_url=self.postgres.url,
        )
        port = stack.settings.gate_port
        stack.up(self.environ)
        return Park(stack, addresses=(f"localhost:{port}", f"{self.namespace.there}:{port}"))

    # Nodes

    def start_head(self) -> None:
        """Ray's head, which knows of no other node and no actor: it keeps nothing outside of itself.

        As by a unit of systemd: what is left of an earlier one is ended first. On one machine Ray would take the raylet
        of the other node for the head that its file names, and refuse to start another.
        """
        for who in self._left:
            send(who, signal.SIGKILL)
        (self._temp / "ray_current_cluster").unlink(missing_ok=True)
        head = ["--head", f"--port={self._head_port}", f"--temp-dir={self._temp}", "--include-dashboard=false"]
        self._head = self._start_node(self.namespace.here, head, [], {})

    def kill_head(self) -> None:
        """Ray's servers of the head at once. Its actors are left to notice."""
        self._left = descendants(self._head.pid)
        servers = children(self._head.pid)
        self._head.kill()
        for who in servers:
            send(who, signal.SIGKILL)
        self._head.wait()

    def join(self) -> None:
        """The second node joins."""
        address = [f"--address={self.namespace.here}:{self._head_port}"]
        path = os.pathsep.join([str(self.clock.folder), self.environ["PYTHONPATH"]])
        self._start_node(self.namespace.there, address, self.namespace.enter(), {"PYTHONPATH": path})

    def _start_node(
        self, host: str, more: list[str], prefix: list[str], environ: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        """As a unit with `Restart=always` does: a start of Ray gives up by itself where the machine is busy.

        Raises:
            TimeoutError: none of some starts came to its end.
        """
        command = [*prefix, str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={host}", *more]
        for _ in range(STARTS):
            said = len(self._node_log())
            with (self._folder / "nodes.log").open("ab") as log:
                node = subprocess.Popen(
                    [*command, *NODE],
                    env={**os.environ, **self.environ, **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._nodes.append(node)
            if self._started(node, said):
                return node
        raise TimeoutError(f"a node of Ray did not start {STARTS} times: {self._node_log()[-2_000:]}")

    def _started(self, node: subprocess.Popen[bytes], said: int) -> bool:
        """Whether it says so before it ends, or its time does; then nothing is left of it."""
        deadline = time.monotonic() + STARTED_WITHIN_S
        while "Ray runtime started" not in self._node_log()[said:]:
            if node.poll() is not None or time.monotonic() > deadline:
                for who in descendants(node.pid):
                    send(who, signal.SIGKILL)
                node.kill()
                return False
            time.sleep(0.2)
        return True

    def _node_log(self) -> str:
        path = self._folder / "nodes.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill_second(self) -> None:
        """All processes of the second node, at once."""
        for who in self.namespace.processes():
            send(who, signal.SIGKILL)

    # Where things are

    def addresses(self, park: Park) -> dict[str, Address]:
        """Where the owner of each partition listens; those that are being taken over are left out."""
        names = [*(f"p{number}" for number in range(park.stack.settings.partitions)), "q0"]
        with redis.Redis.from_url(self.valkey.url) as client:
            heads = {name: client.hget(f"pg:{{{name}}}:head", "address") for name in names}
        return {name: Address.decode(bytes(head).decode()) for name, head in heads.items() if head}  # type: ignore[arg-type]

    def is_spread(self, park: Park) -> bool:
        """Whether both hosts have ticket partitions."""
        everything = len(self.addresses(park)) == park.stack.settings.partitions + 1
        return everything and self.hosts(park) == {self.namespace.here, self.namespace.there}

    def hosts(self, park: Park) -> set[str]:
        """The hosts that have ticket partitions."""
        return {address.host for name, address in self.addresses(park).items() if name != "q0"}

    def gateways_serve(self, park: Park) -> bool:
        """Whether there is a gateway on both hosts."""
        for address in park.addresses:
            host, _, port = address.rpartition(":")
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                return False
        return True

    def link_ways(self, park: Park) -> list[Way]:
        """The links between gateways and owners of both hosts."""
        inside = self.namespace.there
        return list({Way(one.port, one.host == inside) for one in self.addresses(park).values()})

    @property
    def ledger_way(self) -> Way:
        return Way(self.valkey.port)

    @property
    def postgres_way(self) -> Way:
        return Way(self.postgres.port)

    def close(self) -> None:
        """Ends everything."""
        self.namespace.remove()
        for node in self._nodes:
            node.terminate()
        end_all_in(str(self._temp))
        for node in self._nodes:
            node.kill()
            node.wait()
        self.valkey.stop()
        self.postgres.stop()
        shutil.rmtree(self._temp, ignore_errors=True)


@contextmanager
def two_nodes() -> Iterator[tuple[Site, Park]]:
    """An installation on two hosts. Nothing of it is left, however this ends."""
    with tempfile.TemporaryDirectory(prefix="pgchaos-") as folder:
        site, park = Site(Path(folder)), None
        try:
            park = site.open()
            yield site, park
            park.stack.down()
        finally:
            if park is not None:
                park.stack.kill_everything()
            site.close()
