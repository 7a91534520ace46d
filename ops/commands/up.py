"""`parkgate up`: starts the stack and shows how it comes up."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import Config, DataDir

if TYPE_CHECKING:
    from ops.processes import Identity
    from ops.settings import Settings
    from ops.state import ProcessState, StackState

TICK_S = 0.1
DETACH_TIMEOUT_S = 300.0
"""Longer than every ready time-out of the stack together: what fails, fails by its own deadline and says why."""
Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Return once everything is up; it goes on in the background.")
]


def up(data_dir: DataDir = None, config: Config = None, detach: Detach = False) -> None:
    """Start everything and keep it running: a process that dies is started again.

    Without --detach it stays here; Ctrl-C stops everything in order.
    """
    from ops.commands.options import settings
    from ops.errors import FolderInUse
    from ops.files import make_folder
    from ops.watcher import owner

    found = settings(data_dir, config)
    make_folder(found.data_dir)
    running = owner(found.data_dir)
    if running is not None:
        raise FolderInUse(
            f"A stack runs on {found.data_dir} already (process {running.pid}).",
            "See it with `parkgate status`, stop it with `parkgate down`, or choose another folder with --data-dir.",
        )
    progress = Progress(found.data_dir)
    code = _detached(found, progress) if detach else _here(found, progress)
    progress.raise_failure()
    raise typer.Exit(code)


def _here(settings: "Settings", progress: "Progress") -> int:
    from ops.screen import OUT
    from ops.watcher import Watch

    watch = Watch(settings.data_dir, progress.tick)
    code = watch.run()
    if watch.stopping:
        OUT.print("Stopped.")
    return code


def _detached(settings: "Settings", progress: "Progress") -> int:
    from ops.embedded.base import own_module
    from ops.errors import StartFailed
    from ops.files import make_folder

    log = make_folder(settings.data_dir / "logs") / "watcher.log"
    with log.open("wb") as output:
        watcher = subprocess.Popen(
            own_module("ops.watcher"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ,
            start_new_session=True,
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    while not progress.up and time.monotonic() < deadline:
        code = watcher.poll()
        progress.tick()
        if code is not None:
            progress.raise_failure()
            raise StartFailed(f"It ended at its start. {log.read_text(encoding='utf-8').strip()}", f"See {log}.")
        time.sleep(TICK_S)
    watcher.returncode = 0  # it is to outlive us: no warning that it does
    return 0 if progress.up else 1


@dataclass(slots=True)
class Progress:
    """Tells on the screen what the state file says is new."""

    data_dir: Path
    before: "Identity | None" = None
    began: float = field(default_factory=time.monotonic)
    up: bool = False
    failure: "StackState | None" = None
    seen: "dict[str, ProcessState]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        from ops import state

        last = state.read(self.data_dir)
        self.before = last.supervisor if last is not None else None
        from ops.screen import OUT

        OUT.print(f"Starting Parkgate in [bold]{self.data_dir}[/bold]")

    def tick(self) -> None:
        from ops import state

        now = state.read(self.data_dir)
        if now is None or now.supervisor == self.before:
            return
        for one in now.processes:
            self._tell(one)
        if now.phase is state.Phase.RUNNING and not self.up:
            self.up = True
            self._show_addresses(now)
        if now.phase is state.Phase.FAILED:
            self.failure = now

    def raise_failure(self) -> None:
        """Raises: StartFailed when the supervisor gave up."""
        from ops.errors import StartFailed

        self.tick()
        if self.failure is not None:
            raise StartFailed(self.failure.error, self.failure.mend)

    def _tell(self, one: "ProcessState") -> None:
        from rich.markup import escape

        from ops.screen import OUT
        from ops.state import Stage

        last = self.seen.get(one.name)
        self.seen[one.name] = one
        changed = last is None or last.stage is not one.stage or last.who != one.who
        if not changed:
            return
        if one.stage is Stage.RUNNING:
            again = f", start {one.restarts + 1}" if one.restarts else ""
            OUT.print(f"  [green]✓[/green] {one.name} is ready ({one.ready_after_s:.1f} s{again})")
        elif one.stage is Stage.BACKOFF:
            OUT.print(f"  [yellow]![/yellow] {one.name}: {escape(one.detail)}", soft_wrap=True)
        elif one.stage is Stage.STOPPED and last is not None:
            OUT.print(f"  [dim]-[/dim] {one.name} stopped")

    def _show_addresses(self, now: "StackState") -> None:
        from ops.screen import OUT, table

        OUT.print(f"Everything is up after {time.monotonic() - self.began:.1f} s.\n")
        rows = table(["Process", "Listens for", "Address"])
        for one in now.processes:
            for purpose, port in one.ports.items():
                rows.add_row(one.name, purpose.removesuffix("_port").replace("_", " "), address(purpose, port))
        OUT.print(rows)
        where = f" --data-dir {self.data_dir}" if self.data_dir != Path("parkgate-data").absolute() else ""
        OUT.print(
            f"\nSee it: [cyan]parkgate status{where}[/cyan]   Stop it: [cyan]parkgate down{where}[/cyan]",
            soft_wrap=True,
        )


def address(purpose: str, port: int) -> str:
    """Where others reach it: embedded servers and metrics are on loopback, the rest faces the network."""
    host = os.uname().nodename if purpose in ("gate_port", "sales_port", "reporting_port") else "127.0.0.1"
    return f"{host}:{port}"
