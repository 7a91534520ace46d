"""What the figures mean, in words: how much is held, how many lanes are enough, and who was the limit. Pure.

Nothing is extrapolated. How many guests a minute are held is the highest step of the ramp in which everybody was
admitted, and 99 of 100 within the limit. How many lanes are enough is the queue model, played again with the day's own
arrivals and the answers' own times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import floor

from loadtest.surge.ramp import LIMIT_MS, Step

GENERATOR_CPU = 0.9
"""Of a core: beyond it a single process has nothing left."""
GENERATOR_SHARE = 0.5
"""Of the latency: when so much of it is the generator's own lateness, the generator was what was measured."""
LATE_MS = 20.0
"""Of 99 of 100 scans on the day: later than this the generator did not keep its own plan."""
MACHINE_FULL = 0.95
MUCH_ELSE = 0.1
"""Of the machine: so much used by other programs makes any measurement of latency doubtful."""


class Limit(StrEnum):
    """Who ended the ramp, as a part of a sentence."""

    SYSTEM = "the system"
    GENERATOR = "the generator"
    MACHINE = "the machine, which both share"
    NONE = "nobody: every step was held"
    UNKNOWN = "unknown: no step was made"


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held. `guests_a_minute` 0: not even the lowest step, of which `p99_ms` then is. `at_least`: the ramp
    ended first."""

    guests_a_minute: int
    p99_ms: float
    at_least: bool
    limit: Limit
    ended_by: Step | None = None
    """The step that was not held, from which the limit is told."""
    unmeasured: str = "there was no ramp"
    """Why there is nothing to tell, where the limit is unknown."""

    @property
    def said(self) -> str:
        """How many guests a minute, as precisely as a ramp knows it."""
        return said_rate(self.guests_a_minute, floor if self.at_least else round)


def two_digits(number: float, rounded: Callable[[float], int] = round) -> int:
    """A ramp goes up by a half, so that what it finds has no more digits than that."""
    unit: int = 10 ** max(len(str(int(number))) - 2, 0)
    return rounded(number / unit) * unit


def said_rate(guests_a_minute: float, rounded: Callable[[float], int] = round) -> str:
    """In words; `rounded` is `floor` where it is at least so much."""
    return f"{two_digits(guests_a_minute, rounded):,}"


def held(steps: Sequence[Step], unmeasured: str = "there was no ramp") -> Held:
    """The verdict on a ramp. `unmeasured`: why, if no step was made."""
    if not steps:
        return Held(0, 0.0, False, Limit.UNKNOWN, unmeasured=unmeasured)
    good = max((step for step in steps if step.held), key=lambda step: step.per_s, default=None)
    above = [step for step in steps if not step.held and (good is None or step.per_s > good.per_s)]
    ended_by = min(above, key=lambda step: step.p99_ms, default=None)
    limit = _limit(ended_by) if ended_by else Limit.NONE
    if good is None:
        return Held(0, min(steps, key=lambda step: step.per_s).p99_ms, False, limit, ended_by)
    rate = round(good.admitted / good.seconds * 60, -1)
    return Held(int(rate), good.p99_ms, limit in {Limit.NONE, Limit.GENERATOR}, limit, ended_by)


def _limit(failed: Step) -> Limit:
    if failed.late_p99_ms > failed.p99_ms * GENERATOR_SHARE and failed.cpu >= GENERATOR_CPU:
        return Limit.GENERATOR
    if failed.busy >= MACHINE_FULL:
        return Limit.MACHINE
    return Limit.GENERATOR if failed.late_p99_ms > failed.p99_ms * GENERATOR_SHARE else Limit.SYSTEM


HELP = "Give it more cores and --gate-processes, or fewer guests"


@dataclass(frozen=True, slots=True)
class Cost:
    """What the generator cost on the day, and nothing of the ramp. Shares of a core; `share` of all CPU time that it
    and the system used."""

    processes: int
    """Of the gates' part."""
    gates_cpu: float
    """Of all of them together."""
    gates_cpu_most: float
    """Of the busiest of them, in 95 of 100 half seconds."""
    shop_cpu: float
    share: float | None
    """None where the system runs elsewhere, and what it used is not known."""
    late_p99_ms: float
    others: float
    """Of the whole machine, what neither the system nor the generator used; 0 where the system runs elsewhere."""

    @property
    def was_late(self) -> bool:
        """Whether it did not keep its own plan."""
        return self.late_p99_ms > LATE_MS

    @property
    def was_limit(self) -> bool:
        """Whether the day's latencies are the generator's rather than the system's."""
        return self.was_late or self.gates_cpu_most >= GENERATOR_CPU

    @property
    def says(self) -> str:
        """In a sentence or two."""
        if self.was_limit:
            return f"{self.used}. WARNING: {self.warning}"
        late = f"late by at most {self.late_p99_ms:.1f} ms for 99 of 100 scans, so it was not the limit"
        return f"{self.used}; {late}" + (f". {disturbed(self.others)}" if self.others > MUCH_ELSE else "")

    @property
    def used(self) -> str:
        """What it used, as a part of a sentence."""
        said = f"{(self.gates_cpu + self.shop_cpu) * 100:.0f} % of a core"
        said += f" in {self.processes + 1} processes" if self.processes > 1 else ""
        return said if self.share is None else f"{said}, {self.share * 100:.0f} % of all CPU time used"

    @property
    def warning(self) -> str:
        """What is wrong with the day's latencies, and what helps: not more processes where others take the machine."""
        if self.was_late:
            what = f"it was late itself: 99 of 100 scans were sent up to {self.late_p99_ms:,.0f} ms late"
        else:
            what = (
                f"it had no CPU left: a process of it used {self.gates_cpu_most * 100:.0f} % of a core at the busiest "
                "times, and may have heard answers late"
            )
        return f"{what}. {disturbed(self.others) or HELP}"


def disturbed(others: float) -> str:
    """What other programs used of this machine, if it was much."""
    if others <= MUCH_ELSE:
        return ""
    return f"Other programs used {others * 100:.0f} % of this machine: measure again when it is quiet"


@dataclass(frozen=True, slots=True)
class RampCost:
    """The generator's part in the ramp, and nothing of the day. Its steps are meant to be too much for somebody."""

    held: Held
    others: float
    """As on the day, while the ramp went on."""

    @property
    def was_limit(self) -> bool:
        """Whether it ended the ramp, so that the system may hold more than was measured."""
        return self.held.limit is Limit.GENERATOR

    @property
    def says(self) -> str:
        """In a sentence or two."""
        step = self.held.ended_by
        noise = f". {disturbed(self.others)}" if self.others > MUCH_ELSE else ""
        if step is None:
            return f"every step was held, so it was not the limit{noise}"
        at = f"at {said_rate(step.per_s * 60)} guests a minute, which were not held"
        part = f"late by {step.late_p99_ms:,.0f} of {step.p99_ms:,.0f} ms for 99 of 100 scans"
        if self.was_limit:
            return f"WARNING: it ended the ramp: {at}, it was {part}. {disturbed(self.others) or HELP}"
        was = "the machine, which both share, was full" if self.held.limit is Limit.MACHINE else "it was not the limit"
        return f"{at}, it was {part}, with {step.cpu * 100:.0f} % of a core; {was}{noise}"


@dataclass(frozen=True, slots=True)
class LaneVerdict:
    """An entrance: how long guests waited with its lanes, and how many lanes keep everybody under ten minutes."""

    name: str
    lanes: int
    longest_wait_s: float
    at: str
    needed: int
    wait_with_needed_s: float
    turned_away: int = 0
    """Parties that still stood in the queue when it closed, and did not get in."""
    again: int = 0
    """How many times a party came again, because it had heard that the park is full."""

    @property
    def enough(self) -> bool:
        """Whether its lanes are enough."""
        return self.needed <= self.lanes

    @property
    def says(self) -> str:
        """In a sentence."""
        waited = f"longest wait {minutes(self.longest_wait_s)} at {self.at}"
        if self.again:
            waited += f", with parties that came again, {self.again:,} times, because the park was full"
        if self.turned_away:
            waited += f", and {self.turned_away:,} parties still in the queue at closing time"
        if not self.enough:
            return (
                f"needs {self.needed} lanes instead of {self.lanes}: {waited}, "
                f"with {self.needed} lanes {minutes(self.wait_with_needed_s)}"
            )
        fewer = f" ({self.needed} would do)" if self.needed < self.lanes else ""
        return f"{self.lanes} {'lane is' if self.lanes == 1 else 'lanes are'} enough{fewer}: {waited}"


def minutes(seconds: float) -> str:
    """As people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def limit_sentence(found: Held) -> str:
    """Who ended the ramp, as a sentence."""
    match found.limit:
        case Limit.UNKNOWN:
            return f"{found.unmeasured[:1].upper()}{found.unmeasured[1:]}."
        case Limit.NONE:
            return "Every step of the ramp was held: more was not tried."
        case _:
            return f"The limit was {found.limit}."


def capacity_sentence(found: Held, busiest_minute: int) -> str:
    """What the ramp says, against what the day asks."""
    if found.limit is Limit.UNKNOWN:
        return f"not measured: {found.unmeasured}"
    if not found.guests_a_minute:
        return (
            f"no step of the ramp was held: the slowest had 99 of 100 within {found.p99_ms:,.0f} ms, not "
            f"{LIMIT_MS:.0f}. {limit_sentence(found).removesuffix('.')}"
        )
    room = f"{two_digits(found.guests_a_minute / busiest_minute):,} times" if busiest_minute else "more than"
    most = "at least " if found.at_least else ""
    ended = limit_sentence(found).removesuffix(".")
    return (
        f"{most}{found.said} guests a minute, 99 of 100 answered within {LIMIT_MS:.0f} ms: {room} what "
        f"the day's busiest minute asks for ({busiest_minute:,} scans, in and out). {ended}"
    )
