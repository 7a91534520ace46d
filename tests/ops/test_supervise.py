"""The supervisor and its watcher with real processes: what dies comes back, what stops leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_stack import CommandLine

from ops import state
from ops.children import spawn
from ops.embedded.base import Command
from ops.errors import FolderInUse
from ops.processes import Identity, descendants, end, identity, is_alive, send, wait_gone
from ops.state import Phase, ProcessState, StackState, Stage
from ops.supervise import Process, in_order
from ops.watcher import owner, stop_stack

PATIENCE_S = 30.0
UP_S = 60.0

SUPERVISOR = """
import sys
from pathlib import Path
from ops.embedded.base import Command
from ops.supervise import Process, Supervisor

folder = Path(sys.argv[1])

def python(code):
    return lambda: Command([sys.executable, "-c", code])

{processes}
print(Supervisor(processes, folder).run())
"""


class Stack:
    """A supervisor of small programs in a process of its own."""

    def __init__(self, folder: Path, processes: str) -> None:
        self.folder = folder
        folder.mkdir()
        script = SUPERVISOR.replace("{processes}", processes)
        self.process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)

    def wait_for(self, true_of: Callable[[StackState], bool]) -> StackState:
        return wait_for_state(self.folder, true_of)

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE_S)[0].strip()


def wait_for_state(folder: Path, true_of: Callable[[StackState], bool]) -> StackState:
    deadline = time.monotonic() + PATIENCE_S
    now = None
    while time.monotonic() < deadline:
        now = state.read(folder)
        if now is not None and true_of(now):
            return now
        time.sleep(0.02)
    raise AssertionError(f"never came true; last seen: {now}")


def one(now: StackState, name: str) -> ProcessState:
    return next(process for process in now.processes if process.name == name)


def pid_of(now: StackState, name: str) -> Identity:
    who = one(now, name).who
    assert who is not None
    return who


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[[str], Stack]]:
    stacks: list[Stack] = []

    def make(processes: str) -> Stack:
        stacks.append(Stack(data_dir, processes))
        return stacks[-1]

    yield make
    for stack in stacks:
        if stack.process.poll() is None:
            stack.stop()
        if stack.process.stdout is not None:
            stack.process.stdout.close()


SLEEPERS = """
a = Process("a", python("import time; time.sleep(600)"), lambda: (folder / "a-may").exists())
b = Process("b", python("import time; time.sleep(600)"), lambda: True, depends_on=("a",))
processes = [b, a]
"""


def test_a_process_starts_only_after_what_it_depends_on_is_ready(start: Callable[[str], Stack]) -> None:
    stack = start(SLEEPERS)
    before = stack.wait_for(lambda now: one(now, "a").stage is Stage.STARTING)
    assert one(before, "b").stage is Stage.WAITING
    (stack.folder / "a-may").touch()
    after = stack.wait_for(lambda now: now.phase is Phase.RUNNING)
    assert one(after, "b").since >= one(after, "a").since


def test_a_killed_process_is_started_again_and_the_other_is_left_alone(start: Callable[[str], Stack]) -> None:
    stack = start(SLEEPERS)
    (stack.folder / "a-may").touch()
    before = stack.wait_for(lambda now: now.phase is Phase.RUNNING)
    send(pid_of(before, "a"), signal.SIGKILL)
    after = stack.wait_for(lambda now: one(now, "a").restarts == 1 and one(now, "a").stage is Stage.RUNNING)
    assert pid_of(after, "a") != pid_of(before, "a")
    assert pid_of(after, "b") == pid_of(before, "b")
    assert one(after, "a").detail == "ended by SIGKILL"


def test_the_stack_goes_on_when_its_state_cannot_be_written(start: Callable[[str], Stack]) -> None:
    """As on a disk that is full: what the stack says of itself is old until there is room again."""
    stack = start(SLEEPERS)
    (stack.folder / "a-may").touch()
    before = stack.wait_for(lambda now: now.phase is Phase.RUNNING)
    written = state.path(stack.folder)
    written.unlink()
    written.mkdir()  # a file cannot take the place of a folder
    send(pid_of(before, "a"), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        stack.process.wait(1.5)
    written.rmdir()
    after = stack.wait_for(lambda now: one(now, "a").restarts == 1 and one(now, "a").stage is Stage.RUNNING)
    assert pid_of(after, "b") == pid_of(before, "b")


def test_processes_stop_in_the_reverse_order_and_none_is_left(start: Callable[[str], Stack]) -> None:
    stack = start(
        """
code = (
    "import pathlib, signal, sys, time\\n"
    "def stop(*_): open({order!r}, 'a').write({name!r}); sys.exit(0)\\n"
    "signal.signal(signal.SIGTERM, stop); pathlib.Path({ready!r}).touch(); time.sleep(600)"
)
def noting(name, *needs):
    ready = folder / f"{name}-ready"
    program = python(code.format(order=str(folder / "order"), name=name, ready=str(ready)))
    return Process(name, program, ready.exists, depends_on=needs)
processes = [noting("a"), noting("b", "a")]
"""
    )
    now = stack.wait_for(lambda now: now.phase is Phase.RUNNING)
    assert stack.stop() == "True"
    assert (stack.folder / "order").read_text() == "ba"
    assert not any(is_alive(pid_of(now, name)) for name in "ab")
    end_state = state.read(stack.folder)
    assert end_state is not None
    assert end_state.phase is Phase.STOPPED
    assert not end_state.alive


def test_a_process_that_ignores_the_request_is_killed_at_its_deadline(start: Callable[[str], Stack]) -> None:
    stack = start(
        """
deaf = "import signal, time, pathlib; signal.signal(15, signal.SIG_IGN); pathlib.Path(%r).touch(); time.sleep(600)"
heard = folder / "deaf"
processes = [Process("deaf", python(deaf % str(heard)), heard.exists, stop_timeout_s=0.5)]
"""
    )
    now = stack.wait_for(lambda now: now.phase is Phase.RUNNING)
    assert stack.stop() == "True"
    assert not is_alive(pid_of(now, "deaf"))


def test_grandchildren_that_lose_their_parent_are_adopted_and_ended(start: Callable[[str], Stack]) -> None:
    stack = start(
        """
parent = (
    "import subprocess, sys, time\\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\\n"
    "open(sys.argv[1] if len(sys.argv) > 1 else %r, 'w').write(str(child.pid))\\n"
    "time.sleep(600)"
)
note = folder / "grandchild"
processes = [Process("parent", python(parent % str(note)), lambda: note.exists() and note.read_text() != "")]
"""
    )
    now = stack.wait_for(lambda now: now.phase is Phase.RUNNING)
    grandchild = identity(int((stack.folder / "grandchild").read_text()))
    assert grandchild is not None
    send(pid_of(now, "parent"), signal.SIGKILL)
    assert wait_gone(grandchild, 15.0)


def test_a_stack_whose_process_never_starts_fails_with_its_last_words(start: Callable[[str], Stack]) -> None:
    stack = start('processes = [Process("broken", python("raise SystemExit(\'no such turnstile\')"), lambda: False)]')
    failed = stack.wait_for(lambda now: now.phase is Phase.FAILED)
    assert "broken does not start: ended with code 1" in failed.error
    assert "no such turnstile" in failed.error
    assert "broken.log" in failed.mend
    assert stack.process.communicate(timeout=PATIENCE_S)[0].strip() == "False"


def test_a_process_that_is_not_ready_in_time_is_started_again(start: Callable[[str], Stack]) -> None:
    stack = start(
        'processes = [Process("slow", python("import time; time.sleep(600)"), lambda: False, ready_timeout_s=0.3)]'
    )
    said = stack.wait_for(lambda now: one(now, "slow").detail.startswith("not ready within"))
    assert one(said, "slow").restarts >= 1


def test_dependencies_are_put_in_order_and_mistakes_are_refused() -> None:
    def process(name: str, *needs: str) -> Process:
        return Process(name, lambda: Command([]), lambda: True, depends_on=needs)

    ordered = in_order([process("c", "b"), process("b", "a"), process("a")])
    assert [each.name for each in ordered] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="depend on unknown processes or on each other: a, b"):
        in_order([process("a", "b"), process("b", "a")])
    with pytest.raises(ValueError, match="unknown"):
        in_order([process("a", "nobody")])
    with pytest.raises(ValueError, match="same name"):
        in_order([process("a"), process("a")])


def test_a_long_log_is_put_aside_at_a_start(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.children.LOG_MAX_BYTES", 10)
    log = data_dir / "logs" / "x.log"
    log.parent.mkdir(parents=True)
    log.write_text("more than ten bytes")
    spawn("x", Command([sys.executable, "-c", "print('new')"]), data_dir).wait()
    assert log.read_text() == "new\n"
    assert log.with_suffix(".log.1").read_text() == "more than ten bytes"


def test_a_recycled_pid_is_never_signalled() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    who = identity(child.pid)
    assert who is not None
    stranger = Identity(who.pid, who.started + "0")
    assert not send(stranger, signal.SIGKILL)
    assert end(stranger, [(signal.SIGKILL, 1.0)])  # the one that was meant is gone
    assert child.poll() is None
    child.kill()
    child.wait()
    assert not is_alive(who)


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A folder for a whole stack, with ports of its own; whatever the tests leave of it is ended."""
    made = CommandLine(tmp_path_factory.mktemp("park") / "data")
    yield made
    stop_stack(made.data_dir)


@pytest.fixture
def running(park: CommandLine) -> CommandLine:
    """The stack in it, up and well: what a test has stopped is started again."""
    now = state.read(park.data_dir)
    if now is None or not (now.alive and now.phase is Phase.RUNNING):
        stop_stack(park.data_dir)
        park.ok("up", "--detach", timeout=UP_S)
    return park


@pytest.mark.system
def test_any_process_of_the_stack_may_be_killed_and_heals(running: CommandLine) -> None:
    data_dir = running.data_dir
    before = state.read(data_dir)
    assert before is not None
    for name in ("postgres", "valkey"):
        times = one(before, name).restarts + 1
        send(pid_of(before, name), signal.SIGKILL)
        wait_for_state(data_dir, lambda now, name=name, times=times: is_back(now, name, times))  # type: ignore[misc]
    send(before.supervisor, signal.SIGKILL)
    after = wait_for_state(data_dir, lambda now: now.supervisor != before.supervisor and now.phase is Phase.RUNNING)
    assert all(process.healthy for process in after.processes)


def is_back(now: StackState, name: str, times: int) -> bool:
    return one(now, name).restarts == times and one(now, name).healthy


@pytest.mark.system
def test_a_second_stack_on_the_folder_is_refused(running: CommandLine) -> None:
    again = running.run("up", "--detach", timeout=UP_S)
    assert again.returncode == 1
    assert "runs on" in again.stderr
    assert "parkgate down" in again.stderr
    assert "Traceback" not in again.stderr
    now = state.read(running.data_dir)
    assert now is not None
    assert now.phase is Phase.RUNNING


@pytest.mark.system
def test_a_killed_watcher_leaves_the_stack_serving_and_down_stops_it(running: CommandLine) -> None:
    data_dir = running.data_dir
    now = state.read(data_dir)
    assert now is not None
    watcher = owner_of(data_dir / "run" / "watch.lock")
    family = [watcher, now.supervisor, *descendants(now.supervisor.pid)]
    assert len(family) >= 4
    send(watcher, signal.SIGKILL)
    assert wait_gone(watcher, 5.0)
    assert is_alive(now.supervisor)
    assert owner(data_dir) == now.supervisor
    assert stop_stack(data_dir)
    assert not any(is_alive(who) for who in family)
    assert not stop_stack(data_dir)


def owner_of(lock: Path) -> Identity:
    record = json.loads(lock.read_text())
    return Identity(record["pid"], record["started"])


def test_a_lock_is_refused_while_its_owner_lives(data_dir: Path) -> None:
    from ops.files import FolderLock

    with FolderLock(data_dir / "run" / "x.lock"), pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
        FolderLock(data_dir / "run" / "x.lock").acquire()
    with FolderLock(data_dir / "run" / "x.lock") as free:
        assert free.held
