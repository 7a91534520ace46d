"""Everything that a report says, worked out of the record once: charts, page, terminal and comparison only show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.surge import plan as planning
from loadtest.surge.heard import Heard
from loadtest.surge.plan import Plan
from loadtest.surge.ramp import LIMIT_MS, Step
from loadtest.surge.record import Record
from loadtest.surge.report import chance, series, verdict
from loadtest.surge.report.chance import Range
from loadtest.surge.report.played import Played, beyond_quota, count_of
from loadtest.surge.report.series import Bins, Queue
from loadtest.surge.report.usage import Usage
from loadtest.surge.report.verdict import Cost, Held, LaneVerdict, RampCost
from loadtest.surge.samples import Samples, percentile
from loadtest.surge.scenario import Scenario
from loadtest.surge.watch import GENERATOR

Series = dict[str, list[Any]]
PACE_SHARE = 0.25
"""Of the times of a fixed piece of work the quickest quarter: the system itself stood least in the way of those."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Scans that heard what they should not have."""

    way: str
    answer: str
    count: int
    ticket_id: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A rehearsal as it is told. `day` holds what charts draw over the bins' times `at_s`."""

    record: Record
    scenario: Scenario
    bins: Bins
    day: Mapping[str, Series]
    queues: Sequence[Queue]
    steps: Sequence[Step]
    held: Held
    busiest: int
    """Scans in the day's busiest minute, by the plan."""
    cost: Cost
    ramp_cost: RampCost
    played: Played | None
    """None where the day was interrupted: how much of the plan was due until then is not known."""
    usage: Usage
    """Of the day; what was used in the ramp is in `ramp_usage`."""
    ramp_usage: Usage
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    within_limit: float
    """Share of the scans."""
    scans: int
    wrong: Sequence[Wrong]

    @property
    def differences(self) -> list[str]:
        """Counts that should be the same and are not."""
        return [
            f"{one.what}: expected {one.expected}, got {one.actual}"
            for one in self.record.counts
            if one.expected != one.actual
        ]

    @property
    def lost(self) -> str:
        """Whether anything was lost on the way, from what was counted: an answer, a passage, or a line of the books."""
        gates = self.record.gates
        found = [
            f"{number:,} {one if number == 1 else many}"
            for number, one, many in (
                (gates["unanswered"], "scan was never answered", "scans were never answered"),
                (gates["unbooked"], "passage was never booked", "passages were never booked"),
                (len(self.differences), "count does not agree", "counts do not agree"),
            )
            if number
        ]
        if not found:
            return "None was lost: every scan was answered, every passage booked, and the books agree."
        return f"Something was lost: {', '.join(found)}."

    @property
    def passed(self) -> bool:
        """Whether all answers were right, the books agree, and the day was whole."""
        failed = self.record.shop["outcomes"].get("FAILED", 0)
        return self.scans > 0 and not (self.differences or self.wrong or failed or self.record.interrupted)

    @property
    def slow(self) -> bool:
        """Whether guests waited too long for their answers, on the day or at the very first step of the ramp."""
        return self.p99_ms > LIMIT_MS or bool(self.steps and not self.held.guests_a_minute)

    @property
    def ready(self) -> bool:
        """Whether the day may come: it was played, and all of it was right and in time."""
        return self.passed and not self.slow and (self.played is None or self.played.as_planned)

    @property
    def headline(self) -> str:
        """The verdict in one line. Of a day with faults on demand it names them, and blames nobody else."""
        faults = len(self.record.faults)
        return f"{self._verdict}, with {count_of(faults)} ordered" if faults else self._verdict

    @property
    def _verdict(self) -> str:
        if self.record.interrupted:
            return "Interrupted: this report is of a part of the day"
        if self.differences:
            count = len(self.differences)
            return "One count does not agree" if count == 1 else f"{count} counts do not agree"
        if self.wrong:
            return f"{sum(one.count for one in self.wrong):,} answers were wrong"
        if not self.scans:
            return "Nothing was rehearsed: no guest had a ticket to show"
        if not self.passed:
            return f"{self.record.shop['outcomes']['FAILED']} sales failed"
        if self.played and self.played.much_left_out:
            why = ": sold out" if self.played.was_sold_out else ""
            return f"Only {self.played.made / self.played.planned * 100:.0f} % of the day was played{why}"
        if self.slow:
            others = (self.cost if self.p99_ms > LIMIT_MS else self.ramp_cost).others > verdict.MUCH_ELSE
            blamed = others and not self.record.faults
            why = ", on a machine that other programs kept busy: measure again when it is quiet" if blamed else ""
            if self.p99_ms <= LIMIT_MS:
                return f"The day was all right, but no step of the ramp was held{why}"
            return f"All right, but too late: 99 of 100 answers within {self.p99_ms:,.0f} ms, not {LIMIT_MS:.0f}{why}"
        if self.played and self.played.much_late:
            return f"All right, but {self.played.waited}"
        lanes = all(queue.verdict.enough for queue in self.queues)
        return "Ready for this day" if lanes else "The system is ready for this day, the entrances need more lanes"

    @property
    def sentences(self) -> list[tuple[str, str, bool | None]]:
        """The verdict: what it is about, what it says, and whether that is good; None: that was not measured."""
        return [
            (
                "This installation holds",
                verdict.capacity_sentence(self.held, self.busiest),
                self.held.guests_a_minute > 0 if self.steps else None,
            ),
            *(self._lanes(one.verdict) for one in self.queues),
            ("Answers on the day", self._answers(), self.scans > 0 and not self.wrong and self.p99_ms <= LIMIT_MS),
            *([("The plan of the day", self.played.says, self.played.as_planned)] if self.played else []),
            ("The books", self._books(), not self.differences),
            ("The generator on the day", self.cost.says, not self.cost.was_limit),
            *([("The generator in the ramp", self.ramp_cost.says, not self.ramp_cost.was_limit)] if self.steps else []),
        ]

    def _lanes(self, found: LaneVerdict) -> tuple[str, str, bool | None]:
        """Too few until a day was interrupted are too few; enough until then may not be enough for the rest of it."""
        if not self.record.interrupted:
            return found.name, found.says, found.enough
        return found.name, f"until the day was interrupted: {found.says}", None if found.enough else False

    def _answers(self) -> str:
        right = "all as they must be" if not self.wrong else f"{sum(one.count for one in self.wrong):,} WRONG"
        return (
            f"{self.scans:,} scans, {right}; median {self.p50_ms:,.1f} ms, 99 of 100 within {self.p99_ms:,.0f} ms, "
            f"{self.scenario.speed:,.0f} times as fast as on the day{self._sold_out()}"
        )

    def _sold_out(self) -> str:
        parties = self.record.shop["outcomes"].get("SOLD_OUT", 0)
        return f"; {parties:,} {'party' if parties == 1 else 'parties'} found it sold out" if parties else ""

    def _books(self) -> str:
        if self.differences:
            return "; ".join(self.differences[:3])
        return f"{len(self.record.counts)} counts agree, to the unit and the cent"

    def summary(self) -> dict[str, Any]:
        """What a comparison needs, as JSON: in every report."""
        return {
            "format": self.record.format,
            "name": self.scenario.name,
            "began": self.record.began,
            "against": self.record.against,
            "machine": asdict(self.record.machine),
            "visitors": self.scenario.visitors,
            "seed": self.scenario.seed,
            "speed": self.scenario.speed,
            "passed": self.passed,
            "interrupted": self.record.interrupted,
            "faults": [[one.at_s, one.says] for one in self.record.faults],
            "headline": self.headline,
            "here": self.record.here,
            "pace_ms": percentile(sorted(self.usage.pace_ms), PACE_SHARE),
            "others": {"on the day": self.cost.others, "in the ramp": self.ramp_cost.others},
            "generator_was_limit": {"on the day": self.cost.was_limit, "in the ramp": self.ramp_cost.was_limit},
            "ramp_factor": self.scenario.ramp.factor if self.scenario.ramp else 1.0,
            "at_least": self.held.at_least,
            "numbers": self.numbers(),
            "ranges": self.ranges(),
            "at_s": self.bins.edges,
            "p99_ms": self.day["latency"]["p99"],
            "ramp": [[step.per_s * 60, step.p99_ms, step.held] for step in self.steps],
        }

    def numbers(self) -> dict[str, float]:
        """Numbers that can be set side by side."""
        system_cpu = sum(sum(one["cpu"]) for name, one in self.usage.processes.items() if name not in GENERATOR)
        return {
            **({"guests_a_minute": self.held.guests_a_minute} if self.steps else {}),
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "slowest_ms": self.slowest_ms,
            "within_limit": self.within_limit * 100,
            "scans": self.scans,
            "wrong": sum(one.count for one in self.wrong),
            "sale_p99_ms": sale_percentile(self.record, 0.99),
            **({"system_cpu_ms": system_cpu * 1e3 / self.scans} if self.record.here and self.scans else {}),
            **({} if self.cost.share is None else {"generator_share": self.cost.share * 100}),
            "differences": len(self.differences),
            **{f"wait_min {one.verdict.name}": one.verdict.longest_wait_s / 60 for one in self.queues},
        }

    def ranges(self) -> dict[str, Range | None]:
        """Of the numbers that chance has a part in: where another day of the same system would lie."""
        samples = Samples.of(self.record.gates["samples"])
        seconds = [int(due_s // self.scenario.speed) for due_s in samples.due_s]
        sold = [(at_s, took) for at_s, took, _, outcome in self.record.shop["sales"] if outcome == "SOLD"]
        when = [int(at_s // self.scenario.speed) for at_s, _ in sold]
        within = chance.of_share(samples.took_ms, seconds, LIMIT_MS)
        return {
            "p50_ms": chance.of_percentile(samples.took_ms, seconds, 0.5),
            "p99_ms": chance.of_percentile(samples.took_ms, seconds, 0.99),
            "within_limit": within and (within[0] * 100, within[1] * 100),
            "sale_p99_ms": chance.of_percentile([took for _, took in sold], when, 0.99),
        }


def figures_of(record: Record) -> Figures:
    """Works everything out."""
    scenario = Scenario.model_validate(record.scenario, strict=False)
    plan = planning.make(scenario)
    samples = Samples.of(record.gates["samples"])
    ends_s = record.gates["stopped_at_s"] if record.interrupted else plan.ends_s
    bins = Bins.of_day(plan.starts_s, min(ends_s or plan.ends_s, plan.ends_s))
    usage, ramp_usage = Usage.of(record.usage).parted(bins.starts_s, _answered_s(samples, scenario.speed, bins))
    took = sorted(samples.took_ms)
    steps = [Step(**step) for step in record.gates["ramp"]]
    queues = [
        series.queue(plan, entrance, Heard.of(delays_s, full), bins)
        for entrance, (delays_s, full) in enumerate(zip(record.gates["delays_s"], record.gates["full"], strict=True))
    ]
    held = verdict.held(steps, _unmeasured(record, scenario))
    return Figures(
        record=record,
        scenario=scenario,
        bins=bins,
        day=_day(record, plan, (samples, queues), bins),
        queues=queues,
        steps=steps,
        held=held,
        busiest=series.busiest_minute(plan),
        cost=_cost(record, samples, usage),
        ramp_cost=RampCost(held, _others(record, ramp_usage)),
        played=None if record.interrupted else _played(record, plan),
        usage=usage,
        ramp_usage=ramp_usage,
        p50_ms=percentile(took, 0.5),
        p99_ms=percentile(took, 0.99),
        slowest_ms=took[-1] if took else 0.0,
        within_limit=sum(one <= LIMIT_MS for one in took) / max(len(took), 1),
        scans=len(samples),
        wrong=[Wrong(*one) for one in record.gates["wrong"]],
    )


def _answered_s(samples: Samples, speed: float, bins: Bins) -> float:
    """When the last scan of the day was answered, on its clock: the ramp comes after it."""
    told = (due_s + ms / 1e3 * speed for due_s, ms in zip(samples.due_s, samples.took_ms, strict=True))
    return max(told, default=bins.ends_s)


def _day(record: Record, plan: Plan, came: tuple[Samples, Sequence[Queue]], bins: Bins) -> dict[str, Series]:
    samples, queues = came
    inward, outward = series.admissions(samples, bins)
    zones = series.occupancy(samples, record.entrance_zones, bins, plan.scenario.speed)
    names = {int(number): name for number, (name, _) in record.capacity.items()}
    return {
        "flow": {"arrivals": series.arrivals(plan, bins, queues), "admitted": inward, "left": outward},
        "latency": dict(series.latencies(samples, bins)),
        "refusals": dict(series.refusals(samples, bins)),
        "occupancy": {names[zone]: inside for zone, inside in zones.items()},
        "sales": _sales(record, bins),
    }


def _sales(record: Record, bins: Bins) -> Series:
    """Orders of the day by where they were sold, a minute."""
    found: dict[str, list[tuple[float, float]]] = {}
    for at_s, _, channel, _ in record.shop["sales"]:
        found.setdefault(channel, []).append((at_s, 1.0))
    return {name: [x / (bins.width_s / 60) for x in bins.sums(pairs)] for name, pairs in sorted(found.items())}


def sale_percentile(record: Record, share: float) -> float:
    """Of the times of the day's sales, in ms."""
    return percentile(sorted(took for _, took, _, outcome in record.shop["sales"] if outcome == "SOLD"), share)


def _others(record: Record, usage: Usage) -> float:
    """What other programs used of the machine meanwhile."""
    if not usage.machine or not record.here:
        return 0.0
    ours = sum(sum(one["cpu"]) for one in usage.processes.values())
    return max(sum(usage.machine) - ours / record.machine.cores, 0.0) / len(usage.machine)


def _played(record: Record, plan: Plan) -> Played:
    gates = record.gates
    return Played(
        plan.scans,
        gates["late_tickets"],
        gates["skipped"],
        gates["without_ticket"],
        bool(record.shop["outcomes"].get("SOLD_OUT")),
        beyond_quota(plan, record.quotas),
        len(record.faults),
    )


def _unmeasured(record: Record, scenario: Scenario) -> str:
    """Why no step of a ramp was made, where none was."""
    if scenario.ramp is None or not scenario.ramp.steps:
        return "there was no ramp"
    if record.interrupted:
        return "the day was interrupted before the ramp"
    if not record.shop["ramp_tickets"]:
        return "no tickets were left for a ramp"
    return "there were too few tickets, or too little room, for a step of the ramp"


def _cost(record: Record, samples: Samples, usage: Usage) -> Cost:
    pulses = record.gates["pulses"]
    spent = {name: sum(one["cpu"]) for name, one in usage.processes.items()}
    generator = sum(spent.get(name, 0.0) for name in GENERATOR)
    return Cost(
        processes=len(pulses),
        gates_cpu=sum(sum(one["cpu"]) / max(len(one["cpu"]), 1) for one in pulses),
        gates_cpu_most=max(percentile(sorted(one["cpu"]), 0.95) for one in pulses),
        shop_cpu=spent.get(GENERATOR[1], 0.0) / max(len(usage.day_s), 1),
        share=generator / max(sum(spent.values()), 1e-9) if record.here else None,
        late_p99_ms=percentile(sorted(samples.late_ms), 0.99),
        others=_others(record, usage),
    )
