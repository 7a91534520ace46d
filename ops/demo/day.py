"""The day from its first light to the last book: the order of things, and what the end of it says."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc

from ops.demo import books, crowd, images, pages
from ops.demo.park import write_catalogue
from ops.demo.runner import shorten, tell
from ops.demo.scene import LANE_CONTROLLERS, TURNSTILES, WINDOWS, Scene, opened
from ops.demo.screen import Screen
from ops.demo.steps import Story
from ops.demo.stories import STORIES
from ops.errors import BadInput, OpsError
from ops.own_stack import OwnStack
from ops.services.catalogue import read_catalogue
from ops.state import StackState, Stage
from ticketcore.catalogue import Catalogue
from ticketcore.errors import ParkgateError

DEADLINE_S = 108.0
"""When the day must be over, counted from the very start: with the stop of the stack that is within two minutes."""
GUESTS = 400
MARK = ".parkgate-demo"
"""Says that a folder is the demo's, to be removed and made anew."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a day is run. `out` is removed and made anew. `tickets` is the size of the crowd, 0 for none."""

    out: Path
    seed: int = 1
    keep: bool = False
    tickets: int = GUESTS
    stories: Sequence[Story] = STORIES


@dataclass(slots=True)
class Result:
    """How the day went: every check that was made, and what failed."""

    checks: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, checks: int, failures: Sequence[str]) -> None:
        """Counts checks; empty failures are none."""
        self.checks += checks
        self.failures += [failure for failure in failures if failure]


def run_demo(options: Options, screen: Screen | None = None) -> Result:
    """Runs the day on a stack of its own and ends that, whatever happens. Raises: BadInput for a folder not its own."""
    screen = screen or Screen()
    result = Result()
    make_out(options.out)
    data_dir = options.out / "data"
    changes = write_catalogue(data_dir / "catalogue", datetime.now(UTC))
    catalogue: Catalogue = read_catalogue(data_dir / "catalogue")[1]
    pages.opening(screen, catalogue, changes)
    stack = OwnStack(data_dir)
    try:
        with _terminated_as_interrupted():
            _start(stack, screen)
            asyncio.run(_within_limits(stack, catalogue, options, (screen, result)))
    except (OpsError, ParkgateError) as error:
        result.add(1, [str(error)])
    except grpc.aio.AioRpcError as error:
        result.add(1, [f"A service answered {error.code().name}: {error.details()}"])
    except KeyboardInterrupt:
        result.add(1, ["The demo was interrupted."])
    finally:
        _end(stack, screen, options, failed=bool(result.failures))
    _conclude(screen, result, options)
    return result


def make_out(out: Path) -> None:
    """An empty folder. Raises: BadInput for one with somebody else's files in it."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise BadInput(f"{out} is not the demo's: it holds other files.", "Name another folder with --out.")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARK).touch()


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the day as Ctrl-C does: in order. Also where a shell has started it in the background, which sees to
    it that SIGINT is ignored."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: lambda *_: signal.raise_signal(signal.SIGINT),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(stack: OwnStack, screen: Screen) -> None:
    screen.section("Starting Postgres, Valkey, Ray and the services")
    seen: set[str] = set()

    def tick(now: StackState) -> None:
        for one in now.processes:
            if one.stage is Stage.RUNNING and one.name not in seen:
                seen.add(one.name)
                screen.line(one.name, f"ready after {one.ready_after_s:.1f} s")

    with screen.busy("Starting"):
        stack.start(tick)


async def _within_limits(stack: OwnStack, catalogue: Catalogue, options: Options, shown: tuple[Screen, Result]) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S - shown[0].elapsed_s):
            await _day(stack, catalogue, options, shown)
    except TimeoutError:
        raise OpsError(
            f"The day did not end within {DEADLINE_S:g} s.", "The machine may be too busy; try again."
        ) from None


async def _day(stack: OwnStack, catalogue: Catalogue, options: Options, shown: tuple[Screen, Result]) -> None:
    screen, result = shown
    async with opened(stack.settings, catalogue, options.out / "tickets") as scene:
        screen.section("The gates open")
        screen.line(f"{len(WINDOWS)} windows", ", ".join(WINDOWS), "own certificates", "tills open")
        devices = len(TURNSTILES) + 1 + len(LANE_CONTROLLERS)
        screen.line(f"{devices} gate devices", "turnstiles and lane controllers", "own certificates", "TLS streams")
        await _tell_stories(scene, options.stories, shown)
        if options.tickets:
            await _let_crowd_in(scene, options, shown)
        checks = await books.close_tills(scene)
        result.add(len(checks), [check.failure for check in checks])
    await _close_books(scene, options, shown)


async def _tell_stories(scene: Scene, stories: Sequence[Story], shown: tuple[Screen, Result]) -> None:
    screen, result = shown
    screen.section(f"{len(stories)} stories: what guests do, and what must come of it")
    for story in stories:
        told = await tell(scene, story)
        if told.failure:
            result.add(len(told.said) + 1, [f"{story.title}: {told.failure}"])
            screen.line(told.title, told.failure, good=False)
        else:
            result.add(len(told.said), [])
            screen.line(told.title, *shorten(told.said))


async def _let_crowd_in(scene: Scene, options: Options, shown: tuple[Screen, Result]) -> None:
    screen, result = shown
    screen.section("A crowd: all windows and gates at once")
    with screen.bar("selling", options.tickets) as bar:
        sold = await crowd.sell(scene, options.tickets, bar)
    count = len(sold.names)
    rate = (f"{sold.orders} orders", f"{sold.persons} persons", f"{sold.seconds:.1f} s")
    screen.line(f"{count} tickets sold at {len(WINDOWS)} windows", *rate)
    with screen.bar("reading", count) as bar:
        codes = await crowd.read_codes(scene, sold.names, bar)
    screen.line(f"{len(codes)} images read", "by zxing-cpp, from the PNG files")
    with screen.bar("entering", count) as bar:
        entered = await crowd.enter(scene, codes, options.seed, bar)
    pace = f"{entered.scans} scans in {entered.seconds:.1f} s"
    screen.line(f"{entered.persons} persons came in", pace, f"one by one and {crowd.FRAME} a frame")
    with screen.bar("leaving", crowd.leaving(count)) as bar:
        left = await crowd.leave(scene, codes, options.seed, bar)
    screen.line(f"{left.persons} persons left", f"{left.scans} scans in {left.seconds:.1f} s")
    everybody = books.Check("persons of the crowd who came in", str(sold.persons), str(entered.persons))
    wrong = [f"A guest of the crowd heard {reason}" for reason in (*entered.wrong, *left.wrong)]
    result.add(1 + entered.scans + left.scans, [everybody.failure, *wrong])


async def _close_books(scene: Scene, options: Options, shown: tuple[Screen, Result]) -> None:
    screen, result = shown
    screen.section("The books of the day")
    async with books.reporting(scene) as stub:
        with screen.busy("Waiting until reporting has read the whole ledger"):
            own = await books.catch_up(scene, stub)
        found = await books.read(stub, own)
        files = await books.export(stub)
    for name, content in files.items():
        images.write(options.out / "reports", name, content)
    checks = books.compare(scene, found)
    pages.closing(screen, scene, found)
    result.add(len(checks), [check.failure for check in checks])
    screen.line(f"{len(files)} reports written to {options.out.name}/reports", *files)


def _end(stack: OwnStack, screen: Screen, options: Options, *, failed: bool) -> None:
    screen.section("Closing down")
    with screen.busy("Stopping"):
        stack.stop()
    if failed:
        shutil.copytree(stack.data_dir / "logs", options.out / "logs", dirs_exist_ok=True)
    if not options.keep:
        shutil.rmtree(stack.data_dir, ignore_errors=True)
    screen.line("everything is stopped", "the data are kept" if options.keep else "the data folder is removed")


def _conclude(screen: Screen, result: Result, options: Options) -> None:
    where = f"Tickets and reports are in {options.out}."
    if options.keep:
        where += f"\nGo on with this park: parkgate up --data-dir {options.out / 'data'}"
    if result.failures:
        screen.broken(result.failures, f"{where} The stack's logs are in {options.out / 'logs'}.")
    else:
        screen.held(screen.elapsed_s, result.checks, where)
