"""The gates' part of the generator over real streams, against a gateway that admits everybody."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.surge import gates as part
from loadtest.surge import merge
from loadtest.surge import plan as planning
from loadtest.surge.clock import DayClock
from loadtest.surge.gates import STAY_S, Gates
from loadtest.surge.guests import Habit
from loadtest.surge.heard import Heard
from loadtest.surge.parts import Certificate, Order
from loadtest.surge.plan import Turn, Way
from loadtest.surge.queues import FULL_AGAIN_S
from loadtest.surge.ramp import Step
from loadtest.surge.report import series
from loadtest.surge.report.series import Bins
from loadtest.surge.scenario import Scenario
from loadtest.surge.shots import Measured, Ordered, RampShots
from loadtest.surge.stream import Shot, Stream
from parkgate.gate.v1 import gate_pb2 as pb
from tests.surge.gate_stub import Answer, PlainLine, admit, serving, until
from tests.surge.small_day import scenario

RAMP = {"product": "day", "first_per_s": 200, "factor": 2, "steps": 1, "seconds": 0.5}
SOLD = bytes(range(81))


class OneLine:
    """All streams over one connection."""

    def __init__(self, line: PlainLine) -> None:
        self._line = line

    def line(self, _number: int) -> PlainLine:
        return self._line


def order(share: tuple[int, int] = (0, 1), result: str = "") -> Order:
    return Order("small", {}, [], Certificate("", "", ""), "", result, "2026-05-01", [(1, True), (1, True)], share)


@asynccontextmanager
async def connected(gates: Gates, line: PlainLine) -> AsyncIterator[Gates]:
    gates.streams = part.devices(gates, OneLine(line))  # type: ignore[arg-type]
    streams = [stream for group in gates.streams for stream in group]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    try:
        async with asyncio.timeout(5):
            for stream in streams:
                await stream.welcome.wait()
        yield gates
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def sharing(day: Scenario, count: int, answer: Answer = admit) -> AsyncIterator[list[Gates]]:
    """So many processes' gates, in this one."""
    plan = planning.make(day)
    async with serving(answer) as (_, line), AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connected(Gates(plan, order((index, count))), line))
            for index in range(count)
        ]


async def played(day: Scenario, count: int, answer: Answer = admit) -> dict[str, Any]:
    """The day as so many processes play it, with everybody's tickets sold before."""
    async with sharing(day, count, answer) as crews:
        for gates in crews:
            for party, codes in gates._codes.items():
                for code in codes:
                    code.token = token_of(party, code.number)
            gates.clock = DayClock(time.monotonic(), gates.plan.starts_s, day.speed)
            gates.schedule()
        await asyncio.gather(*(part.day(gates) for gates in crews))
        return merge.results([json.loads(json.dumps(part.result(gates))) for gates in crews])


def token_of(party: int, number: int) -> bytes:
    """A ticket's own."""
    return party.to_bytes(4, "big") + bytes([number]) + bytes(76)


def refusing(reason: pb.Reason.ValueType, times: int, parties: Container[int]) -> Answer:
    """Tells the tickets of these parties so many times that they are not let in."""
    asked: Counter[bytes] = Counter()

    def answer(frame: pb.ClientFrame) -> pb.ServerFrame:
        found = admit(frame)
        for scan, verdict in zip(frame.scans, found.verdicts, strict=True):
            told = int.from_bytes(scan.token[:4], "big") in parties and scan.direction == pb.DIRECTION_ENTRY
            asked[scan.token] += told
            if told and asked[scan.token] <= times:
                verdict.decision, verdict.reason, verdict.persons_admitted = pb.DECISION_REJECT, reason, 0
        return found

    return answer


@pytest.mark.parametrize("count", [1, 2])
async def test_who_hears_that_it_is_full_comes_again_and_the_report_is_told(count: int) -> None:
    day = scenario(seconds=4, ramp=None)
    plan = planning.make(day)
    early = [one.number for one in plan.guests if one.arrives_s < day.opens + 3600 and one.habit is Habit.NONE]
    found = await played(day, count, refusing(pb.REASON_CAPACITY_FULL, 3, early))
    entries = [
        [turn.queue, turn.ticket, 4 if plan.guests[party].kind.name == "Families" else 1, turn.at_s + 3 * FULL_AGAIN_S]
        for party in early
        for turn in plan.turns[party]
        if turn.way is Way.ENTRY
    ]
    rows = [row for full in found["full"] for row in full]
    assert sorted(row[:4] for row in rows) == sorted(entries)
    assert {len(row[4]) for row in rows} == {3}
    answers = Counter({(decision, reason): number for decision, reason, number in found["verdicts"]})
    assert answers["REJECT", "CAPACITY_FULL"] == 3 * len(entries)
    assert found["tickets_admitted"] == sum(1 for turns in plan.turns for one in turns if one.way is Way.ENTRY)
    bins = Bins.of_day(plan.starts_s, plan.ends_s)
    queues = [series.queue(plan, n, Heard.of(found["delays_s"][n], found["full"][n]), bins) for n in range(2)]
    assert sum(len(queue.again) for queue in queues) == 3 * len(early)


async def test_who_would_come_again_after_closing_time_stays_away() -> None:
    evenly = [{"at": at, "weight": 1} for at in ("09:00", "17:00")]
    day = scenario(seconds=4, ramp=None, curve=evenly)
    found = await played(day, 1, refusing(pb.REASON_CAPACITY_FULL, 1_000, range(10_000)))
    assert found["tickets_admitted"] == 0
    last_s = max(until_s for full in found["full"] for _, _, _, until_s, _ in full)
    due_s = max(found["samples"]["due_s"])
    assert day.closes - 2 * FULL_AGAIN_S < due_s < day.closes
    assert last_s < day.closes


async def test_who_is_not_known_yet_keeps_the_lane_until_they_are() -> None:
    day = scenario(seconds=2, ramp=None)
    plan = planning.make(day)
    bought = next(one for one in plan.guests if one.buys_s is not None and one.habit is Habit.NONE)
    found = await played(day, 1, refusing(pb.REASON_UNKNOWN_TICKET, 2, [bought.number]))
    (coming,) = {turn.queue for turn in plan.turns[bought.number] if turn.way is Way.ENTRY}
    tickets = len({turn.ticket for turn in plan.turns[bought.number]})
    assert found["full"] == [[], []]
    assert dict(found["delays_s"][bought.entrance])[coming] == pytest.approx(2 * STAY_S * tickets, abs=0.4)


async def test_the_live_line_counts_the_scans_of_the_ramp_and_their_time() -> None:
    async with sharing(scenario(ramp=RAMP), 1) as (gates,):
        gates.ramp_tokens = [SOLD] * 400
        gates.progress()
        began = time.monotonic()
        measured = await RampShots(gates).fire(Ordered(200, 0.5, began))
        shown, took_s = gates.progress(), time.monotonic() - began
        assert measured.admitted == measured.sent > 50
        assert shown["per_s"] == pytest.approx(2 * measured.sent / took_s, rel=0.05), "each was let in, and left again"
        assert shown["p99_ms"] == pytest.approx(merge.step(200, [measured.columns()]).p99_ms, abs=0.01)
        assert "p99_ms" not in gates.progress(), "nothing was answered since"


async def test_steps_are_fired_as_they_are_ordered_and_each_leaves_its_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(admit) as (_, line):
        gates = Gates(planning.make(scenario(ramp=RAMP)), order(result=str(tmp_path / "gates.json")))
        gates.ramp_tokens = [SOLD] * 400
        async with connected(gates, line):
            gates.steps.put_nowait(Ordered(200, 0.2, time.monotonic()))
            gates.steps.put_nowait(None)
            await part.ramp(gates, RampShots(gates))
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    measured = json.loads((tmp_path / "gates.json.step").read_text())
    assert [one["kind"] for one in said] == ["settled", "stepped"]
    assert said[0]["values"] == {"left": 400}
    assert said[1]["values"] == {"left": 400 - measured["sent"]}
    assert len(measured["took_ms"]) == len(measured["late_ms"]) == measured["sent"]


async def test_what_the_ramp_costs_is_no_part_of_the_day_s_pulse(tmp_path: Path) -> None:
    day = scenario(seconds=1, ramp=RAMP)
    async with serving(admit) as (_, line):
        gates = Gates(planning.make(day), order(result=str(tmp_path / "gates.json")))
        gates.ramp_tokens = [SOLD] * 400
        async with connected(gates, line):
            began = time.monotonic()
            gates.steps.put_nowait(Ordered(50, 1.2, began))
            gates.steps.put_nowait(None)
            await part.perform(gates)
            ended = time.monotonic()
    (pulse,) = part.result(gates)["pulses"]
    assert ended - began > 1.2
    assert pulse["times"] == [], "nobody came on the day"
    assert len(gates.ramp_pulse.times) >= 2
    assert gates.progress()["lag_ms"] == gates.ramp_pulse.lag_ms[-1]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("lanes", [1, 3])
async def test_a_scan_is_shown_at_the_gate_that_the_plan_dealt_its_party_to(count: int, lanes: int) -> None:
    day = scenario(ramp=None)
    main, lake = day.entrances
    day = day.model_copy(update={"entrances": (main.model_copy(update={"lanes": lanes}), lake)})
    plan = planning.make(day)
    seen: Counter[tuple[int, str]] = Counter()
    for index in range(count):
        gates = Gates(plan, order((index, count)))
        gates.streams = part.devices(gates, OneLine(None))  # type: ignore[arg-type]
        for turn, stream, shot in shown(gates):
            gate = day.entrances[turn.entrance].gates[turn.gate]
            assert stream.gates[shot.scan.lane] == gate
            seen[turn.entrance, gate] += 1
    assert sum(seen.values()) == plan.scans
    assert set(seen) == {(number, gate) for number, one in enumerate(day.entrances) for gate in one.gates}


def shown(gates: Gates) -> Iterator[tuple[Turn, Stream, Shot]]:
    """Every turn of a process, as it is shown."""
    gates.schedule()
    for party, codes in gates._codes.items():
        for turn in gates.plan.turns[party]:
            codes[turn.ticket].token = SOLD
            gates._show(0.0, turn, codes[turn.ticket], proof=False)
            (found,) = ((one, one._out.pop()) for group in gates.streams for one in group if one._out)
            yield turn, *found


async def test_every_scan_of_the_plan_is_made_or_told_why_not() -> None:
    """Of the first parties one gets its tickets late, and one never."""
    day = scenario(seconds=1, ramp=None)
    async with sharing(day, 1) as (gates,):
        late, never, *_ = [guests.number for guests in gates.plan.guests if guests.habit is Habit.NONE]
        for party, codes in gates._codes.items():
            for code in codes:
                code.token = b"" if party in {late, never} else SOLD
        gates.clock = DayClock(time.monotonic(), gates.plan.starts_s, day.speed)
        gates.schedule()
        playing = asyncio.create_task(part.day(gates))
        await until(lambda: any(code.waiting for code in gates._codes[late]))
        waiting = sum(bool(code.waiting) for code in gates._codes[late])
        gates._take({"party": late, "tokens": [base64.b64encode(SOLD).decode()] * len(gates._codes[late])})
        await playing
        assert gates.late_tickets == waiting
        assert gates.without_ticket == len(gates.plan.turns[never])
        assert len(gates.samples) + gates.skipped + gates.without_ticket == gates.plan.scans


async def test_two_processes_play_the_day_of_one_to_the_unit() -> None:
    day = scenario(seconds=2, ramp=None)
    one, two = await played(day, 1), await played(day, 2)
    assert (one["processes"], two["processes"]) == (1, 2)
    for name in ("persons_in", "tickets_admitted", "inside", "skipped", "without_ticket", "unanswered", "unbooked"):
        assert one[name] == two[name], name
    for name in ("verdicts", "wrong"):
        assert Counter(map(str, (row[:3] for row in one[name]))) == Counter(map(str, (row[:3] for row in two[name])))
    for name in ("way", "entrance", "persons"):
        assert Counter(one["samples"][name]) == Counter(two["samples"][name])
    assert [len(delays) for delays in one["delays_s"]] == [len(delays) for delays in two["delays_s"]]
    assert one["traffic"]["connected"] == two["traffic"]["connected"] == day.devices
    assert len(two["samples"]["due_s"]) > 300


async def test_a_certificate_that_does_not_speak_for_the_gates_is_told_at_once() -> None:
    async with serving(admit, denied={"main-1", "main-2", "lake-1"}) as (_, line):
        gates = Gates(planning.make(scenario()), order())
        gates.streams = part.devices(gates, OneLine(line))  # type: ignore[arg-type]
        streams = [stream for group in gates.streams for stream in group]
        with part.running(*(stream.run() for stream in streams)):
            async with asyncio.timeout(10):
                with pytest.raises(TimeoutError, match="5 of 5 devices were not welcome: it does not speak for gate"):
                    await part.welcome(gates)


async def test_every_ticket_of_the_ramp_is_shown_by_one_process() -> None:
    async with sharing(scenario(ramp=RAMP), 3) as crews:
        tokens = [bytes([number]) for number in range(50)]
        for gates in crews:
            for few in (tokens[:20], tokens[20:]):
                gates._take({"party": None, "tokens": [base64.b64encode(token).decode() for token in few]})
    shares = [gates.ramp_tokens for gates in crews]
    assert sum(map(len, shares)) == 50
    assert len({token for share in shares for token in share}) == 50
    assert {len(share) for share in shares} == {16, 17}


def test_a_step_of_several_processes_is_that_of_all_their_scans() -> None:
    quick = Measured(2.0, 50, 50, [float(n) for n in range(50)], [1.0] * 50, cpu=0.4, busy=0.8)
    slow = Measured(1.9, 50, 49, [100.0 + n for n in range(49)], [2.0] * 49, cpu=0.7, busy=0.9)
    found = merge.step(200, [quick.columns(), slow.columns()])
    assert found == Step(200, 2.0, 100, 99, 49.0, 148.0, 2.0, 0.7, 0.9)
    assert not found.held


def test_a_zone_that_is_empty_again_is_a_count_too() -> None:
    async def quiet() -> dict[str, Any]:
        gates = Gates(planning.make(scenario()), order())
        gates.counted.inside[1] = 0
        return merge.results([part.result(gates)] * 2)

    assert asyncio.run(quiet())["inside"] == {"1": 0}


def test_the_live_line_of_several_processes_adds_what_can_be_added() -> None:
    one = {"day_s": 10.0, "per_s": 5.0, "p99_ms": 3.0, "lag_ms": 1.0, "inside": 7.0}
    two = {"day_s": 11.0, "per_s": 6.0, "lag_ms": 2.0, "inside": 8.0}
    assert merge.progress([one, two]) == {"day_s": 11, "per_s": 11, "p99_ms": 3, "lag_ms": 2, "inside": 15}
