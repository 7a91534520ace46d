"""Every boundary that takes bytes, with a few hundred cases each; `make fuzz` runs a million. Proves I8.

Hypothesis finds the smallest case for what it finds; the mutated seeds find it sooner. What was once found has a
test of its own beside the code that was mended.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import Mutator
from tests.fuzz.run import Piece, pieces, replay, run_piece, silence
from tests.fuzz.target import ADMITTED, Target
from tests.fuzz.targets import MAKERS, SHARES

EXAMPLES = 60
MUTATED = 400
SLOW = {"sales": 120, "webhook-signed": 120, "reporting": 120, "catalogue-files": 40}
"""Mutated cases of targets that cost more."""


@pytest.fixture(params=list(MAKERS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A target, which is closed: what it took in must be readable."""
    with silence():
        made = MAKERS[request.param]()
        try:
            yield made
        finally:
            made.close()


def test_no_bytes_crash_a_boundary_or_admit_what_was_not_issued(target: Target) -> None:
    """I8; each case ends with a name, or the target says what was broken."""
    mutator = Mutator(target.seeds, random.Random(target.name))
    ended = Counter(target.case(mutator.next()) for _ in range(SLOW.get(target.name, MUTATED)))

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=200), st.sampled_from(list(target.seeds))))
    def smallest(data: bytes) -> None:
        ended[target.case(data)] += 1

    smallest()
    assert all(ended)
    assert len(ended) > 1, "a boundary that ends every case alike was not reached"


@pytest.mark.parametrize("name", ["token", "qr-text", "gate", "gate-client"])
def test_a_target_admits_what_was_issued_so_that_its_refusals_mean_something(name: str) -> None:
    ran = run_piece(Piece(name, 300, 1))
    assert ran.ended[ADMITTED] > 0
    assert ran.findings == []


def test_signed_webhooks_are_settled_so_that_their_refusals_mean_something() -> None:
    with silence():
        target = MAKERS["webhook-signed"]()
        try:
            odd = [target.seeds[0].replace(b'"e1"', b'"' + name + b'"') for name in (b"a\\u0000b", b"\\ud800")]
            told = [target.case(body) for body in (*target.seeds, *odd)]
        finally:
            target.close()
    assert told == ["200", "401", "200", "401", "400", "400"]


def test_a_boundary_that_raises_or_answers_nothing_named_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner's own test: a bug is planted, and it must be found."""

    def broken(data: bytes) -> str:
        if data[:1] == b"\x05":
            raise IndexError("planted")
        return "fine"

    monkeypatch.setitem(MAKERS, "token", lambda: Target("token", "planted", broken, [b"\x05\x06", b"\x07"]))
    ran = run_piece(Piece("token", 200, 1))
    assert ran.findings
    assert "IndexError('planted')" in ran.findings[0]


def test_a_finding_that_needs_the_cases_before_it_is_seen_again_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted() -> Target:
        seen: list[bytes] = []

        def case(data: bytes) -> str:
            seen.append(data)
            if len(seen) == 7:
                raise IndexError(f"planted {data.hex()}")
            return "fine"

        def close() -> None:
            if len(seen) > 7:
                raise ValueError("cannot be read back")

        return Target("gate", "planted", case, [b"\x05\x06", b"\x07"], close)

    monkeypatch.setitem(MAKERS, "gate", planted)
    broken, unread = run_piece(Piece("gate", 20, 1_001)).findings
    assert broken.startswith("python -m tests.fuzz --piece gate 1001 7: IndexError('planted ")
    assert unread.startswith("python -m tests.fuzz --piece gate 1001 20: ValueError(")
    with pytest.raises(IndexError) as again:
        replay(Piece("gate", 7, 1_001))
    assert repr(again.value) in broken
    with pytest.raises(ValueError, match="cannot be read back"):
        replay(Piece("gate", 20, 1_001))
    assert replay(Piece("gate", 6, 1_001)) == "fine"


def test_the_cases_of_a_run_are_dealt_to_every_target() -> None:
    work = pieces(1_000_000, 1)
    assert {piece.target for piece in work} == set(MAKERS) == set(SHARES)
    assert abs(sum(piece.cases for piece in work) - 1_000_000) < len(SHARES)
    assert len(set(work)) == len(work), "no two pieces try the same"
