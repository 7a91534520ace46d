"""How long a verdict is remembered: an id that was forgotten can never be decided again (I1, I3)."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.runs import AdmissionRun, alike_of
from cluster.scan_memory import (
    FALL_AT_LEAST,
    SCAN_MARGIN_MS,
    SCAN_MAX_AGE_MS,
    SCAN_MAX_AHEAD_MS,
    SCAN_MEMORY_MS,
    ScanMemory,
)
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.elementary import elementary
from tests.cluster.plain_partition import Bench
from tests.cluster.small_park import NOON_MS, reason, scan, token
from ticketcore.admission import Mode

SCAN = b"s" * 16
VERDICT = gate_pb2.Verdict(scan_id=SCAN, decision=gate_pb2.DECISION_REJECT).SerializeToString()


def remembers(memory: ScanMemory) -> bool:
    return memory.recall(SCAN, gate_pb2.Verdict())


def test_a_verdict_is_remembered_before_and_at_the_end_of_its_time_and_forgotten_a_generation_later() -> None:
    memory = ScanMemory()
    memory.age(NOON_MS)
    memory.keep(SCAN, VERDICT)
    for after_ms, remembered in (
        (SCAN_MEMORY_MS - 1, True),
        (SCAN_MEMORY_MS, True),
        (2 * SCAN_MEMORY_MS - 1, True),
        (2 * SCAN_MEMORY_MS, False),
    ):
        memory.age(NOON_MS + after_ms)
        assert remembers(memory) is remembered, after_ms


def test_a_verdict_kept_just_before_a_new_generation_outlives_its_time() -> None:
    memory = ScanMemory()
    memory.age(NOON_MS)
    kept_ms = NOON_MS + SCAN_MEMORY_MS - 1
    memory.age(kept_ms)
    memory.keep(SCAN, VERDICT)
    for now_ms, remembered in (
        (kept_ms + 1, True),
        (kept_ms + SCAN_MEMORY_MS, True),
        (kept_ms + SCAN_MEMORY_MS + 1, False),
    ):
        memory.age(now_ms)
        assert remembers(memory) is remembered, now_ms - kept_ms


def test_a_generation_that_is_dropped_is_forgotten_at_once_and_freed_in_turns() -> None:
    """Millions of ids that are freed at once would hold up every guest at the gates."""
    alike = events_pb2.ScanDecided(kind=gate_pb2.ADMISSION_KIND_ENTRY)
    memory, kept = ScanMemory(), AdmissionRun(alike_of(alike.SerializeToString(), 0), NOON_MS, 1)
    memory.age(NOON_MS)
    ids = [number.to_bytes(16, "big") for number in range(3 * FALL_AT_LEAST)]
    for scan_id in ids:
        memory.keep_alike(scan_id, kept)
    for generation in (1, 2):
        memory.age(NOON_MS + generation * SCAN_MEMORY_MS)
    assert not any(memory.recall(scan_id, gate_pb2.Verdict()) for scan_id in ids)
    assert len(memory) == 0
    held = []
    for turn in range(4):
        memory.age(NOON_MS + 2 * SCAN_MEMORY_MS + turn)
        held.append((sys.getrefcount(kept) + FALL_AT_LEAST // 2) // FALL_AT_LEAST)
    assert held == [2, 1, 0, 0]


def decidable(bench: Bench, attempt: gate_pb2.Scan) -> bool:
    age = bench.now_ms - attempt.scan_time_ms
    return -SCAN_MAX_AHEAD_MS <= age <= SCAN_MAX_AGE_MS


@settings(max_examples=60, deadline=None)
@given(
    ahead_ms=st.sampled_from([-SCAN_MAX_AGE_MS, 0, SCAN_MAX_AHEAD_MS - 1, SCAN_MAX_AHEAD_MS]),
    first_ms=st.sampled_from([0, 1, SCAN_MEMORY_MS - 1, SCAN_MEMORY_MS, SCAN_MEMORY_MS + 1]),
    steps_ms=st.lists(st.sampled_from([1, 1_000, 60_000, SCAN_MEMORY_MS - 1, SCAN_MEMORY_MS]), max_size=8),
    recover=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_no_scan_is_decided_twice_however_long_it_is_repeated_and_whoever_owns_it(
    ahead_ms: int, first_ms: int, steps_ms: list[int], recover: list[bool]
) -> None:
    """I1, I3: a closed gate's refusal must not become an admission under the same id. Owners change in between."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    bench.now_ms += first_ms
    bench.modes = {11: Mode.CLOSED}
    attempt = scan(code, 1, bench.now_ms + ahead_ms)
    (first,) = bench.send(attempt)
    assert reason(first) == "GATE_CLOSED"
    bench.modes = {}
    bench.send(scan(code[:60], 2, bench.now_ms))  # a later entry, so that replay ages as well
    for number, (step_ms, again) in enumerate(zip(steps_ms, recover, strict=False)):
        bench.now_ms += step_ms
        if again:
            bench = bench.recovered(snapshot_after=(None, 1, 2)[number % 3])
        (repeated,) = bench.send(attempt)
        assert repeated == first or reason(repeated) == "CLOCK_SKEW"


FAR_OLD_MS, FAR_AHEAD_MS = SCAN_MAX_AGE_MS + SCAN_MARGIN_MS, SCAN_MAX_AHEAD_MS + SCAN_MARGIN_MS


@settings(max_examples=150, deadline=None)
@given(
    age_ms=st.one_of(
        st.sampled_from([base + off for base in (-FAR_AHEAD_MS, -SCAN_MAX_AHEAD_MS, 0) for off in (-1, 0, 1)]),
        st.sampled_from([base + off for base in (SCAN_MAX_AGE_MS, FAR_OLD_MS) for off in (-1, 0, 1)]),
        st.integers(-2 * SCAN_MEMORY_MS, 2 * SCAN_MEMORY_MS),
    ),
    lane=st.sampled_from([0, 9]),
    steps_ms=st.lists(
        st.sampled_from([0, 1, 1_000, SCAN_MARGIN_MS, 60_000, SCAN_MEMORY_MS - 1, SCAN_MEMORY_MS, 2 * SCAN_MEMORY_MS]),
        max_size=8,
    ),
    recover=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_no_scan_id_is_logged_twice_whatever_its_time_and_however_long_it_is_repeated(
    age_ms: int, lane: int, steps_ms: list[int], recover: list[bool]
) -> None:
    """I3: also of a gate that does not exist, and of a clock that is ahead, whose scans come into their time later."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    attempt, first_ms = scan(code, 1, bench.now_ms - age_ms, lane=lane), bench.now_ms
    (first,) = bench.send(attempt)
    for number, (step_ms, again) in enumerate(zip(steps_ms, recover, strict=False)):
        bench.now_ms += step_ms
        if again:
            bench = bench.recovered(snapshot_after=(None, 1)[number % 2])
        (repeated,) = bench.send(attempt)
        assert repeated == first or bench.now_ms - first_ms >= SCAN_MARGIN_MS
        bench.send(scan(code[:60], 10 + number, bench.now_ms))
    logged = [event.scan_decided.scan_id for entry in bench.log for event in elementary(entry)]
    assert logged.count(attempt.scan_id) <= 1


@pytest.mark.parametrize(
    ("age_ms", "logged"),
    [(-FAR_AHEAD_MS - 1, False), (-FAR_AHEAD_MS, True), (FAR_OLD_MS, True), (FAR_OLD_MS + 1, False)],
)
def test_a_scan_whose_time_is_far_off_is_refused_and_leaves_no_record(age_ms: int, logged: bool) -> None:
    """A flood of them fills no log, and what was forgotten is not decided again. It is counted, for operators."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    attempt = scan(code, 1, bench.now_ms - age_ms)
    (refused,) = bench.send(attempt)
    assert reason(refused) == "CLOCK_SKEW"
    assert (len(bench.log) - 1, len(bench.partition.scans), bench.partition.totals[0].refused) == (logged,) * 3
    assert bench.partition.far_off == (not logged)
    assert bench.send(attempt) == [refused]


def test_the_last_instant_at_which_a_scan_may_be_repeated_is_remembered_by_an_owner_that_replayed_it() -> None:
    """I3: before, at and after. Replay aged the memory after an entry where the live owner does so before."""
    code = token("day", 1)
    for late_ms, expected in ((-1, {"GATE_CLOSED"}), (0, {"GATE_CLOSED"}), (1, {"GATE_CLOSED", "CLOCK_SKEW"})):
        bench = Bench()
        bench.register(code)
        bench.now_ms += SCAN_MEMORY_MS  # the entry with which replay begins a new generation
        bench.modes = {11: Mode.CLOSED}
        attempt = scan(code, 1, bench.now_ms + SCAN_MAX_AHEAD_MS)
        bench.send(attempt)
        again = bench.recovered()
        again.modes = {}
        again.now_ms += SCAN_MEMORY_MS + late_ms
        (repeated,) = again.send(attempt)
        assert reason(repeated) in expected, late_ms
