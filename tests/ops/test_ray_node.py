"""The embedded Ray: loopback only, with a token, never a stranger's, and gone with its driver."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ops.embedded import ray_node
from ops.embedded.ray_node import EmbeddedRay
from ops.errors import BadInput, OpsError
from ops.files import FolderLock
from ops.processes import Identity, identity, wait_gone

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

DRIVER = """
import json, os, sys
from pathlib import Path
from ops.embedded.ray_node import EmbeddedRay

with EmbeddedRay(Path(sys.argv[1]), num_cpus=1) as node:
    import ray

    class Plain:
        def about(self):
            return os.getpid(), os.nice(0)

    actor = ray.remote(Plain).options(name="plain", lifetime="detached").remote()
    pid, nice = ray.get(actor.about.remote())
    print(json.dumps({"address": node.url, "ready": node.ready(), "actor": pid, "nice": nice}), flush=True)
    sys.stdin.readline()
"""

GUEST = """
import sys
from pathlib import Path
from ops.embedded import ray_node
ray_node.connect(sys.argv[1], Path(sys.argv[2]))
import ray
print(ray.get(ray.get_actor("plain").about.remote())[0])
ray_node.disconnect()
"""


class Driver:
    """An embedded Ray in a process that a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.about = json.loads(self.process.stdout.readline())
        record = json.loads((folder / "run" / "ray.json").read_text())
        self.temp = Path(record["temp"])

    def family(self) -> list[Identity]:
        found = [identity(one.pid) for one in psutil.Process(self.process.pid).children(recursive=True)]
        return [who for who in found if who is not None]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.communicate("\n", timeout=60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


@pytest.fixture
def driver(data_dir: Path) -> Iterator[Driver]:
    made = Driver(data_dir)
    yield made
    made.close()


def test_the_node_is_on_loopback_and_lets_in_only_who_has_the_token(
    driver: Driver, data_dir: Path, tmp_path: Path
) -> None:
    assert driver.about["ready"]
    assert driver.about["nice"] == 0
    family = {driver.process.pid, *(who.pid for who in driver.family())}
    listening = {
        link.laddr.ip.removeprefix("::ffff:")
        for link in psutil.net_connections("inet")
        if link.status == psutil.CONN_LISTEN and link.pid in family
    }
    assert listening == {"127.0.0.1"}
    assert ray_node.address(data_dir) == driver.about["address"]
    assert str(driver.about["actor"]) in guest(driver.about["address"], data_dir).stdout
    stranger = guest(driver.about["address"], tmp_path / "stranger")
    assert stranger.returncode != 0
    assert "Cannot join the Ray cluster" in stranger.stderr


def guest(address: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", GUEST, address, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_nothing_is_left_of_a_killed_driver_and_the_next_clears_its_folder(driver: Driver, data_dir: Path) -> None:
    family = driver.family()
    assert len(family) >= 4
    assert driver.temp.parent.stat().st_mode & 0o777 == 0o700
    driver.process.send_signal(signal.SIGKILL)
    driver.process.wait()
    assert [who for who in family if not wait_gone(who, 15.0)] == []
    with pytest.raises(OpsError, match="No Ray runs"):
        ray_node.address(data_dir)
    following = Driver(data_dir)
    try:
        assert following.about["address"]
        assert following.temp == driver.temp or not driver.temp.parent.exists()
    finally:
        following.close()
    assert following.process.returncode == 0
    assert not following.temp.exists()
    assert following.temp == data_dir / "ray" or not following.temp.parent.exists()
    assert (data_dir / "logs" / "ray-last-run").is_dir()


def test_a_long_data_folder_gets_a_short_private_folder_for_the_sockets(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60)
    temp, private = ray_node._temp_folder(long)
    try:
        assert private
        assert len(os.fsencode(temp)) <= ray_node.TEMP_PATH_MAX
        assert temp.parent.stat().st_mode & 0o777 == 0o700
    finally:
        temp.rmdir()
        temp.parent.rmdir()
    short = Path("/tmp/p")
    assert len(os.fsencode(short / "ray")) <= ray_node.TEMP_PATH_MAX


@pytest.mark.parametrize("address", ["", "auto", "local"])
def test_joining_a_cluster_without_naming_it_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match="names no cluster"):
        ray_node.connect(address)


def test_a_folder_in_use_is_refused(data_dir: Path) -> None:
    with FolderLock(data_dir / "run" / "ray.lock"), pytest.raises(OpsError, match="in use by a running stack"):
        EmbeddedRay(data_dir).start()
