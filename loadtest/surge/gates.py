"""The gates' part of the generator, a process of its own: guests' codes at the lanes, on time, over real streams.

Open loop: a scan is due when the guest's turn comes by the plan, whether or not the system is slow, and its latency
counts from then. What this process itself was late is measured apart.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import heapq
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import IO, Any

import uvloop

from loadtest.surge import plan as planning
from loadtest.surge.clock import DayClock
from loadtest.surge.crowd import ADMIT, FULL, PROOFS, UNKNOWN, Cause, Code, Counted, Next, forged, names
from loadtest.surge.heard import Heard
from loadtest.surge.lines import Lines, credentials
from loadtest.surge.parts import Order, Progress, say
from loadtest.surge.plan import PROOF_S, Plan, Turn, Way
from loadtest.surge.pulse import Pulse
from loadtest.surge.queues import FULL_AGAIN_S
from loadtest.surge.samples import Samples, percentile
from loadtest.surge.scenario import load
from loadtest.surge.share import Share
from loadtest.surge.shots import Ordered, RampShots
from loadtest.surge.stream import STREAMS_A_CONNECTION, Shot, Stream, Traffic, beat, now_ms
from parkgate.gate.v1 import gate_pb2 as pb

SCAN_ID_BYTES = 16
TICK_S = 0.001
NAP_S = 0.003
"""At most: an answer may bring a turn that is due at once."""
TAIL_S = 0.02
TELL_S = 0.5
WELCOME_S = 60.0
MOST_TRIES = 12
STAY_S = 0.5
"""Of the wall's clock: who is not known yet stays at the lane, and shows their code again after this."""
SETTLE_S = 60.0
"""How long the last answers are waited for, through the restart of whatever was killed."""


@dataclass(slots=True)
class Zone:
    """Where the gates of an entrance lead, by number, and whether they tell who went through."""

    number: int
    passage_reported: bool


@dataclass
class Gates:
    """The lanes of the day, or this process's share of them."""

    plan: Plan
    order: Order
    clock: DayClock = field(default_factory=lambda: DayClock(0, 0, 1))
    samples: Samples = field(default_factory=Samples)
    counted: Counted = field(default_factory=Counted)
    traffic: Traffic = field(default_factory=Traffic)
    pulse: Pulse = field(default_factory=Pulse)
    """Of the day alone: the ramp ends in steps that nobody could hold, and measures each of them itself."""
    ramp_pulse: Pulse = field(default_factory=Pulse)
    streams: list[list[Stream]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    """At each entrance, for the queues of the report."""
    open_shots: int = 0
    late_tickets: int = 0
    """Tickets that came only after their guest's turn."""
    skipped: int = 0
    """Turns that made no sense any more, as the way out of somebody who was not let in."""
    stopping: bool = False

    def __post_init__(self) -> None:
        self._due: list[tuple[float, int, Turn, Code, Cause]] = []
        self._numbers = count()
        self.share = Share(*self.order.share)
        self._codes = {
            guests.number: [Code(guests, number) for number in range(sum(line.count for line in guests.kind.tickets))]
            for guests in self.plan.guests
            if self.share.invites(guests, self.plan.scenario)
        }
        self._devices: list[list[Iterator[Stream]]] = []
        self._took_s: list[float] = []
        self._answered = 0
        self._since = time.monotonic()
        self.heard = [Heard() for _ in self.plan.scenario.entrances]
        self.ramp_tokens: list[bytes] = []
        self._ramp_numbers = count()
        self.steps: asyncio.Queue[Ordered | None] = asyncio.Queue()
        """Of the ramp, as they are ordered; None: there are no more."""
        self.zones = [Zone(*values) for values in self.order.zones]

    # Tickets

    async def follow_sales(self, file: IO[bytes]) -> None:
        """Takes over what the shop has sold, as it sells it."""
        rest = b""
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            await asyncio.sleep(TAIL_S)

    def _take(self, sold: dict[str, Any]) -> None:
        tokens = [base64.b64decode(token) for token in sold["tokens"]]
        if sold["party"] is None:
            self.ramp_tokens += [token for token in tokens if self.share.has(next(self._ramp_numbers))]
            return
        if sold["party"] not in self._codes:
            return
        for code, token in zip(self._codes[sold["party"]], tokens, strict=True):
            self.late_tickets += bool(code.waiting)  # before it has a token, a code can wait for nothing else
            code.token = token
            self._go_on(code)

    @property
    def without_ticket(self) -> int:
        """Turns that wait for a ticket: at the end of the day of guests who never got one."""
        return sum(len(code.waiting) for codes in self._codes.values() for code in codes if not code.token)

    # Turns

    def schedule(self) -> None:
        """Puts every turn of its parties on the clock, once its devices are known."""
        self._devices = [
            [cycle([one for one in streams if gate in one.gates]) for gate in entrance.gates]
            for entrance, streams in zip(self.plan.scenario.entrances, self.streams, strict=False)
        ]
        for party, codes in self._codes.items():
            for turn in self.plan.turns[party]:
                self._at(self.clock.wall(turn.at_s), turn, codes[turn.ticket], Cause.TURN)

    def _at(self, due: float, turn: Turn, code: Code, cause: Cause) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), turn, code, cause))

    async def play(self) -> None:
        """Makes every turn when it is due. Ends when all are made, or when it is told to stop."""
        while self._due and not self.stopping:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                due, _, turn, code, cause = heapq.heappop(self._due)
                self._turn(due, turn, code, cause)
            wait_s = self._due[0][0] - time.monotonic() if self._due else 0.0
            await asyncio.sleep(max(min(wait_s, NAP_S), TICK_S))
            await self._last_answers()

    async def _last_answers(self) -> None:
        """When no turn is left: an answer on its way may bring another."""
        while not self._due and self.open_shots and not self.stopping:  # noqa: ASYNC110 - of thousands of answers
            await asyncio.sleep(TAIL_S)

    def _turn(self, due: float, turn: Turn, code: Code, cause: Cause) -> None:
        if cause is Cause.PROOF:
            self._show(due, turn, code, proof=True)
            return
        code.away = code.away and cause is not Cause.AGAIN
        match code.next_of(turn.way):
            case Next.WAIT:
                code.waiting.append(turn)
            case Next.SKIP:
                self.skipped += 1
            case Next.SHOW:
                self._show(due, turn, code, proof=False)

    def _show(self, due: float, turn: Turn, code: Code, *, proof: bool) -> None:
        code.busy = turn.way is not Way.FORGED
        stream = next(self._devices[turn.entrance][turn.gate])  # a gate's in turn, so that all of them have work
        gate = self.plan.scenario.entrances[turn.entrance].gates[turn.gate]
        direction = pb.DIRECTION_EXIT if turn.way is Way.EXIT else pb.DIRECTION_ENTRY
        scan = pb.Scan(
            scan_id=os.urandom(SCAN_ID_BYTES),
            token=forged(code.token) if turn.way is Way.FORGED else code.token,
            scan_time_ms=now_ms(),
            direction=direction,
            lane=stream.gates.index(gate),
            proof_seen=proof,
        )
        right = code.may_hear(turn.way, proof_seen=proof)

        def told(shot: Shot, verdict: pb.Verdict, now: float) -> None:
            self._told((shot, verdict, now), turn, code, (stream, right))

        self.open_shots += 1
        stream.send(Shot(scan, due, told))

    def _told(
        self,
        heard: tuple[Shot, pb.Verdict, float],
        turn: Turn,
        code: Code,
        place: tuple[Stream, frozenset[str]],
    ) -> None:
        (shot, verdict, now), (stream, right) = heard, place
        self.open_shots -= 1
        answer = self.counted.hear(code, turn.way, verdict, right=right)
        took_s = self.answered(shot, now)
        times_ms = ((shot.handed - shot.due) * 1e3, took_s * 1e3)
        where = (turn.entrance, verdict.persons_admitted)
        self.samples.add(self.clock.day(shot.due), times_ms, (turn.way, answer), where)
        self.heard[turn.entrance].took(turn, took_s)
        if turn.way is Way.FORGED:
            return
        if answer == ADMIT:
            self._admitted(shot, verdict, turn, (code, stream))
        else:
            self._refused(answer, turn, code, shot.due)

    def _admitted(self, shot: Shot, verdict: pb.Verdict, turn: Turn, at: tuple[Code, Stream]) -> None:
        code, stream = at
        zone = self.zones[turn.entrance]
        self.counted.admit(code, turn.way, verdict, zone.number)
        if turn.way is Way.EXIT or not zone.passage_reported:
            self._free(code)
            return
        outcome = pb.PASSAGE_OUTCOME_NOT_PASSED if turn.way is Way.TURNED_BACK else pb.PASSAGE_OUTCOME_PASSED
        stream.report(_report(shot, verdict, outcome), lambda: self._free(code))

    def _refused(self, answer: str, turn: Turn, code: Code, due: float) -> None:
        now = time.monotonic()
        if answer in PROOFS and code.guests.kind.proof:
            self._at(now + PROOF_S / self.clock.speed, turn, code, Cause.PROOF)
            return
        later = self._later(answer, due, now) if code.tries < MOST_TRIES and not self.stopping else None
        if later is not None:
            code.tries += 1
            code.away = True
            self._at(later, turn, code, Cause.AGAIN)
            if answer == FULL:
                self.heard[turn.entrance].come_again(turn, code.persons)
            else:
                self.heard[turn.entrance].took(turn, STAY_S)
        elif not code.inside:
            code.refused_for_good = True
        self._free(code)

    def _later(self, answer: str, due: float, now: float) -> float | None:
        """When a guest who was told this shows the code again; None: never, or not before the doors close."""
        if answer == UNKNOWN:
            return now + STAY_S
        again = max(due + FULL_AGAIN_S / self.clock.speed, now)
        return again if answer == FULL and self.clock.day(again) < self.plan.scenario.closes else None

    def _free(self, code: Code) -> None:
        code.busy = False
        self._go_on(code)

    def _go_on(self, code: Code) -> None:
        """What the code had to wait with is due from now on: the wait was not the system's."""
        now = time.monotonic()
        while code.waiting and code.token and not (code.busy or code.away):
            turn = code.waiting.popleft()
            self._turn(max(now, self.clock.wall(turn.at_s)), turn, code, Cause.TURN)

    def answered(self, shot: Shot, now: float) -> float:
        """Notes an answer for the live line; answers what it took since it was due, in seconds."""
        took_s = now - shot.due
        self._answered += 1
        if not shot.bulk:
            self._took_s.append(took_s)
        return took_s

    def count_ramp(self, verdict: pb.Verdict, entrance: int, shot: Shot, stream: Stream) -> None:
        """A guest of the ramp is one of the day: counted, and reported as gone through."""
        decision, reason = names(verdict)
        self.counted.verdicts[decision, reason] += 1
        if verdict.decision != pb.DECISION_ADMIT:
            return
        zone = self.zones[entrance]
        self.counted.inside[zone.number] += verdict.persons_admitted
        self.counted.persons_in += verdict.persons_admitted
        self.counted.tickets_admitted += 1
        if zone.passage_reported:
            stream.report(_report(shot, verdict, pb.PASSAGE_OUTCOME_PASSED), lambda: None)

    def count_ramp_exit(self, verdict: pb.Verdict, entrance: int) -> None:
        """A guest of the ramp leaves."""
        decision, reason = names(verdict)
        self.counted.verdicts[decision, reason] += 1
        if verdict.decision == pb.DECISION_ADMIT:
            self.counted.inside[self.zones[entrance].number] -= verdict.persons_admitted

    async def settle(self) -> bool:
        """Waits until everything that was asked is answered; False when the patience ended first."""
        deadline = time.monotonic() + SETTLE_S
        while self.open_shots or any(stream.unanswered for streams in self.streams for stream in streams):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(TAIL_S)
        return True

    # Progress

    async def tell(self) -> None:
        """Says twice a second how the day goes."""
        while True:
            await asyncio.sleep(TELL_S)
            say(Progress("gates", values=self.progress()))

    def progress(self) -> dict[str, float]:
        """How it goes now; `p99_ms`, of what was answered since the last time, only if anything was."""
        took_s, self._took_s = sorted(self._took_s), []
        lag_ms = self.ramp_pulse.lag_ms or self.pulse.lag_ms
        answered, self._answered = self._answered, 0
        since, self._since = self._since, time.monotonic()
        answers = self.counted.verdicts
        admitted = sum(number for (decision, _), number in answers.items() if decision == ADMIT)
        values = {
            "day_s": self.clock.day(time.monotonic()),
            "per_s": answered / max(self._since - since, 1e-3),
            "admitted": admitted,
            "refused": sum(answers.values()) - admitted,
            "inside": sum(self.counted.inside.values()),
            "waiting": self.open_shots,
            "connected": self.traffic.connected,
            "lag_ms": lag_ms[-1] if lag_ms else 0.0,
        }
        return values | ({"p99_ms": percentile(took_s, 0.99) * 1e3} if took_s else {})


def _report(shot: Shot, verdict: pb.Verdict, outcome: pb.PassageOutcome.ValueType) -> pb.PassageReport:
    return pb.PassageReport(scan_id=verdict.scan_id, ticket_id=verdict.ticket_id, outcome=outcome, lane=shot.scan.lane)


def devices(gates: Gates, lines: Lines) -> list[list[Stream]]:
    """The streams of each entrance that are this process's. A turnstile speaks for one gate, a controller for all of
    its entrance. Last, if the ramp has gates of its own, theirs."""
    own, first = count(), 0

    def group(names: Sequence[tuple[str, ...]], row: int, coalesces: bool) -> list[Stream]:
        return [
            Stream(lines.line(next(own)), name, coalesces, gates.traffic)
            for number, name in enumerate(names)
            if gates.share.has(first + number // row)
        ]

    made: list[list[Stream]] = []
    for entrance in gates.plan.scenario.entrances:
        coalesces = bool(entrance.controller_lanes)
        row = 1 if coalesces else len(entrance.gates)
        names = [entrance.gates if coalesces else (entrance.gates[n % row],) for n in range(entrance.streams)]
        made.append(group(names, row, coalesces))
        first += entrance.rows
    ramp = gates.plan.scenario.ramp
    if ramp is not None and ramp.gates:
        made.append(group([(ramp.gates[n % len(ramp.gates)],) for n in range(ramp.turnstiles)], 1, coalesces=False))
    return made


async def welcome(gates: Gates) -> None:
    """Waits until every device is welcome. Raises: TimeoutError with what the last one was told; at once when it was
    refused for who it is."""
    streams = [stream for group in gates.streams for stream in group]
    deadline = time.monotonic() + WELCOME_S
    while missing := sum(not stream.welcome.is_set() for stream in streams):
        if time.monotonic() > deadline or gates.traffic.denied:
            raise TimeoutError(f"{missing} of {len(streams)} devices were not welcome: {gates.traffic.last_error}")
        await asyncio.sleep(TAIL_S)


@contextlib.contextmanager
def running(*coroutines: Any) -> Iterator[None]:
    """Runs them beside the block, until it ends."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def commands(gates: Gates, lines: Lines, go: asyncio.Future[float]) -> None:
    """Does what the conductor says: go, cut the lines, stop; after the day steps of the ramp, and the end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    cuts: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        match line.split():
            case [b"go", start]:
                go.set_result(float(start))
            case [b"cut", seconds]:
                cuts.add(asyncio.create_task(lines.cut(float(seconds))))
            case [b"step", per_s, seconds, start]:
                gates.steps.put_nowait(Ordered(float(per_s), float(seconds), float(start)))
            case [b"end"]:
                gates.steps.put_nowait(None)
            case [b"stop"]:
                gates.stopping = True
                if not go.done():
                    go.cancel()


async def run(order: Order, sold: IO[bytes]) -> dict[str, Any]:
    """The whole day, and the ramp after it; answers what is told of it."""
    gates = Gates(planning.make(load(order.scenario, order.changes)), order)
    certificate = order.certificate
    secret = credentials(Path(certificate.ca), Path(certificate.certificate), Path(certificate.key))
    number = -(-gates.plan.scenario.devices // gates.share.of)
    lines = Lines(order.addresses, secret, -(-number // STREAMS_A_CONNECTION))
    gates.streams = devices(gates, lines)
    go: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    streams = [stream for group in gates.streams for stream in group]
    beside = (commands(gates, lines, go), gates.follow_sales(sold), beat(streams))
    with running(*(stream.run() for stream in streams), *beside):
        await welcome(gates)
        say(Progress("ready", values={"devices": len(streams)}))
        gates.clock = DayClock(await go, gates.plan.starts_s, gates.plan.scenario.speed)
        gates.schedule()
        await perform(gates)
    await lines.close()
    return result(gates)


async def perform(gates: Gates) -> None:
    """The day and the ramp, each with a pulse of its own."""
    with running(gates.tell()):
        with running(gates.pulse.run()):
            await day(gates)
        with running(gates.ramp_pulse.run()):
            await ramp(gates, RampShots(gates))


async def day(gates: Gates) -> None:
    """The turns of the day, until everything is answered."""
    await gates.play()
    say(Progress("evening"))
    await gates.settle()


async def ramp(gates: Gates, shots: RampShots) -> None:
    """Fires the steps that are ordered, until the last."""
    say(Progress("settled", values={"left": shots.left}))
    while (ordered := await gates.steps.get()) is not None:
        measured = await shots.fire(ordered)
        await asyncio.to_thread(Path(gates.order.step).write_text, json.dumps(measured.columns()))
        say(Progress("stepped", values={"left": shots.left}))
    await gates.settle()


def result(gates: Gates) -> dict[str, Any]:
    """Everything that the conductor wants to know, but the steps of the ramp: those it was told."""
    counted = gates.counted
    return {
        "samples": gates.samples.columns(),
        "verdicts": [[*key, number] for key, number in counted.verdicts.items()],
        "inside": {str(zone): persons for zone, persons in counted.inside.items()},
        "persons_in": counted.persons_in,
        "tickets_admitted": counted.tickets_admitted,
        "wrong": [[*key, number, counted.examples.get(key, 0)] for key, number in counted.wrong.items()],
        "refunded_heard": counted.refunded_heard,
        "admitted_refunders": counted.admitted_refunders,
        **{name: [heard.rows()[name] for heard in gates.heard] for name in ("delays_s", "full")},
        "traffic": asdict(gates.traffic),
        "pulses": [asdict(gates.pulse)],
        "late_tickets": gates.late_tickets,
        "skipped": gates.skipped,
        "without_ticket": gates.without_ticket,
        "unanswered": gates.open_shots,
        "unbooked": sum(stream.unbooked for streams in gates.streams for stream in streams),
        "stopped_at_s": gates.clock.day(time.monotonic()) if gates.stopping else None,
        "cpu_s": time.process_time(),
    }


def main() -> int:
    """Reads its order from standard input."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:  # what follows is the loop's to read
        order = Order.read(pipe.readline())
    try:
        gc.freeze()  # a collection over a day's worth of turns would stand still for longer than a scan takes
        gc.disable()
        with open(order.sold, "rb") as sold:
            found = uvloop.run(run(order, sold))
    except (TimeoutError, OSError) as error:
        say(Progress("failed", str(error)))
        return 1
    except asyncio.CancelledError:
        say(Progress("failed", "it was stopped before the doors opened"))
        return 1
    Path(order.result).write_text(json.dumps(found))
    say(Progress("done"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
