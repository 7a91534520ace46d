"""The page: one file that needs no network, for a park manager at a glance and a load tester at leisure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.surge.clock import of_day
from loadtest.surge.queues import TEN_MINUTES_S
from loadtest.surge.ramp import LIMIT_MS
from loadtest.surge.record import Record
from loadtest.surge.report import series
from loadtest.surge.report.charts import COLOURS, Chart, Limit, Line, Mark, Point, draw, draw_ramp
from loadtest.surge.report.figures import Figures, figures_of
from loadtest.surge.report.series import Queue
from loadtest.surge.report.small import Small, draw_small
from loadtest.surge.report.verdict import MUCH_ELSE, limit_sentence, minutes, two_digits
from loadtest.surge.samples import percentile
from loadtest.surge.scenario import Entrance
from loadtest.surge.screen import devices
from loadtest.surge.watch import GENERATOR
from ops.errors import BadInput
from ticketcore.displays import default_display
from ticketcore.reasons import Reason

HERE = Path(__file__).parent
NOON_S = 12 * 3600
TEN_MINUTES = TEN_MINUTES_S / 60
PLACES = {"window": "ticket windows", "kiosk": "kiosks", "web": "web shop", "refund": "refunds, at windows"}
TOP = 7
"""Series of a chart that have a colour of their own; what is left goes together."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart on the page."""

    title: str
    says: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class AtGate:
    """One gate of an entrance. `lanes` 0: it shares those of the entrance."""

    line: series.Line
    lanes: int
    queue: Markup
    wait: Markup


@dataclass(frozen=True, slots=True)
class AtGates:
    """An entrance and its gates."""

    queue: Queue
    says: str
    gates: Sequence[AtGate]

    @property
    def several(self) -> bool:
        """Whether it has more gates than one; the chart of a lone gate is its entrance's."""
        return len(self.gates) > 1


@dataclass(frozen=True, slots=True)
class Sold:
    """Sales of one channel."""

    name: str
    count: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the processes: shares of a core on the day, and at most in the ramp."""

    name: str
    mean: float
    most: float
    ramp_most: float
    memory_mb: float
    generator: bool


def environment() -> Environment:
    """Templates of this folder; everything is escaped that is not markup."""
    return Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def read(path: Path) -> Record:
    """The record in a file, or in the folder that it is in. Raises: BadInput."""
    file = path / "record.json" if path.is_dir() else path
    try:
        return Record.read(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"Cannot read {file}: {error.strerror}.", "Name the folder of a rehearsal.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} is no record of a rehearsal: {error}.", "Name a record.json.") from error


def write(record: Record, path: Path) -> None:
    """Draws the report. Raises: BadInput for a place that cannot be written."""
    put(path, html(figures_of(record)))


def put(path: Path, text: str) -> None:
    """Writes a page. Raises: BadInput for a place that cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.", "Name another file with --out.") from error


def html(figures: Figures) -> str:
    """The whole page."""
    longest = max((queue.verdict for queue in figures.queues), key=lambda one: one.longest_wait_s)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            f=figures,
            css=asset("page.css"),
            script=asset("page.js"),
            summary=embedded(figures.summary()),
            charts=list(charts(figures)),
            entrances=[at_gates(number, figures) for number in range(len(figures.queues))],
            limit_ms=f"{LIMIT_MS:.0f}",
            minutes=minutes,
            two_digits=two_digits,
            clock=of_day,
            readable=readable,
            longest=longest,
            slowest=min(figures.steps, key=lambda step: step.per_s, default=None),
            within=hundredths(figures.within_limit),
            limit_sentence=limit_sentence(figures.held),
            lanes_enough=all(queue.verdict.enough for queue in figures.queues),
            devices=devices(figures.scenario.devices),
            hours=f"{(figures.scenario.closes - figures.scenario.opens) / 3600:g}",
            agreeing=sum(one.expected == one.actual for one in figures.record.counts),
            stopped_at=of_day(figures.record.gates["stopped_at_s"] or 0.0),
            refused=_refused(figures),
            sales=_sales(figures.record),
            outcomes=sorted(figures.record.shop["outcomes"].items()),
            sold_out=figures.record.shop["outcomes"].get("SOLD_OUT", 0),
            ramp_short=_ramp_short(figures),
            ahead=figures.record.shop["tickets_sold"] - _sold_on_the_day(figures.record),
            processes=_processes(figures),
            noise=list(_noise(figures)),
        )
    )


def asset(name: str) -> Markup:
    """A file of ours, as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704 - it is ours


def embedded(values: dict[str, Any]) -> Markup:
    """JSON inside a page: a `<` cannot end the script it stands in."""
    return Markup(json.dumps(values, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704


def charts(figures: Figures) -> Iterator[Drawn]:
    """All charts, in the order of the questions that a manager asks."""
    yield _flow(figures)
    yield _waits(figures)
    yield _lengths(figures)
    yield _occupancy(figures)
    yield _latency(figures)
    if figures.steps:
        yield _ramp(figures)
    yield _refusals(figures)
    yield _sold(figures)
    yield from _machine(figures)


def _drawn(says: str, chart: Chart) -> Drawn:
    return Drawn(chart.title, says, draw(chart))


def _marks(figures: Figures) -> list[Mark]:
    storm = figures.scenario.storm
    marks = [Mark(figures.scenario.opens, "doors open"), Mark(figures.scenario.closes, "closing")]
    marks += [Mark(storm.at, "storm")] if storm else []
    marks += [Mark(NOON_S, "lunch")] if figures.scenario.habits.lunch else []
    return marks + [Mark(one.at_s, one.says) for one in figures.record.faults]


def _flow(figures: Figures) -> Drawn:
    flow = figures.day["flow"]
    lines = [
        Line("come to the entrances", flow["arrivals"], 0, dashed=True),
        Line("let in", flow["admitted"], 1, area=True),
        Line("leave", flow["left"], 2),
    ]
    chart = Chart("Arrivals and admissions", "guests a minute", figures.bins.edges, lines, marks=_marks(figures))
    full = any(queue.again for queue in figures.queues)
    grows = f"a queue grows{', or the park is full and they come again' if full else ''}"
    return _drawn(f"Where the grey line is above the blue one, {grows}.", chart)


def _waits(figures: Figures) -> Drawn:
    lines = [Line(one.all.name, one.all.wait_min, number) for number, one in enumerate(figures.queues, 1)]
    limit = Limit(TEN_MINUTES, "ten minutes")
    chart = Chart(
        "Waiting time at each entrance", "minutes", figures.bins.edges, lines, [limit], _marks(figures), digits=1
    )
    return _drawn("The longest wait of the guests who came at that time, with the lanes that are open.", chart)


def _lengths(figures: Figures) -> Drawn:
    lines = [Line(one.all.name, one.all.length, number, area=True) for number, one in enumerate(figures.queues, 1)]
    chart = Chart("Queue at each entrance", "guests", figures.bins.edges, lines, marks=_marks(figures))
    says = "The most guests who stood in the queue at that time, over all lanes of the entrance."
    each = " Further down: at each gate." if any(len(one.gates) > 1 for one in figures.queues) else ""
    return _drawn(f"{says}{each}", chart)


def at_gates(number: int, figures: Figures) -> AtGates:
    """The gates of an entrance, each with its queue and its waiting time, all on the same scales."""
    queue, entrance = figures.queues[number], figures.scenario.entrances[number]
    most = max(one.longest for one in queue.gates)
    wait_min = max(one.longest_wait_s for one in queue.gates) / 60
    at_s = figures.bins.edges
    return AtGates(
        queue,
        _lanes_and_gates(entrance),
        [
            AtGate(
                one,
                entrance.lanes_at(gate),
                draw_small(Small(f"Queue at {one.name}", "guests", at_s, one.length, most, colour=1)),
                draw_small(
                    Small(f"Waiting time at {one.name}", "min", at_s, one.wait_min, wait_min, 2, 1, TEN_MINUTES)
                ),
            )
            for gate, one in enumerate(queue.gates)
        ],
    )


def _lanes_and_gates(entrance: Entrance) -> str:
    lanes = f"{entrance.lanes} {'lane' if entrance.lanes == 1 else 'lanes'} for {len(entrance.gates)} gates"
    if entrance.lanes < len(entrance.gates):
        return f"{lanes}: each stands between several, and its guests take them in turn"
    return f"{lanes}: guests take the lane that is free first"


def _occupancy(figures: Figures) -> Drawn:
    inside = figures.day["occupancy"]
    limits = dict(figures.record.capacity.values())
    lines = [Line(name, values, number, area=True) for number, (name, values) in enumerate(inside.items(), 1)]
    shown = [Limit(limits[name], f"{name} holds {limits[name]:,}") for name in inside if limits[name]]
    chart = Chart("Guests inside, against capacity", "guests", figures.bins.ends, lines, shown, _marks(figures))
    told = "; ".join(
        f"{name}: at most {max(values, default=0):,.0f} of {f'{limits[name]:,}' if limits[name] else 'any number'}"
        for name, values in inside.items()
    )
    return _drawn(f"Counted by the gates' own admissions and exits. {told}.", chart)


def _latency(figures: Figures) -> Drawn:
    found = figures.day["latency"]
    lines = [
        Line("half", found["p50"], 3),
        Line("95 of 100", found["p95"], 1),
        Line("99 of 100", found["p99"], 2),
        Line("slowest", found["slowest"], 7, dashed=True),
        Line("the generator's own lateness (99 of 100)", found["late"], 0, dashed=True),
    ]
    limit = Limit(LIMIT_MS, f"{LIMIT_MS:.0f} ms")
    chart = Chart(
        "Time from the guest's turn to the verdict",
        "real ms",
        figures.bins.edges,
        lines,
        [limit],
        _marks(figures),
        log=True,
        digits=1,
    )
    speed = f"{figures.scenario.speed:,.0f}"
    says = f"Real milliseconds at {speed} times the day's load, counted from when the guest should have been served."
    return _drawn(says, chart)


def _ramp(figures: Figures) -> Drawn:
    points = [Point(step.per_s * 60, step.p99_ms, step.held) for step in figures.steps]
    says = (
        "After the day, step by step: guests a minute, and within how many ms 99 of 100 were answered. Red: not held."
    )
    return Drawn("How many guests a minute it holds", says, draw_ramp(points, LIMIT_MS))


def _refusals(figures: Figures) -> Drawn:
    found = list(figures.day["refusals"].items())
    shown = [Line(readable(name), values, number) for number, (name, values) in enumerate(found[:TOP], 1)]
    rest = [sum(values) for values in zip(*(values for _, values in found[TOP:]), strict=True)]
    shown += [Line("others", rest, 0)] if rest else []
    unit = f"scans in {figures.bins.width_s / 60:g} minutes"
    chart = Chart("Refusals by reason", unit, figures.bins.edges, shown, marks=_marks(figures), stacked=True)
    return _drawn("Scans that did not open a lane at once: proofs to be looked at, copies, forgeries, refunds.", chart)


def _sold(figures: Figures) -> Drawn:
    found = figures.day["sales"]
    lines = [Line(sold_at(name), values, number) for number, (name, values) in enumerate(found.items(), 1)]
    chart = Chart(
        "Orders and refunds on the day",
        "a minute",
        figures.bins.edges,
        lines,
        marks=_marks(figures),
        stacked=True,
        digits=1,
    )
    return _drawn("Sold at windows (cash), kiosks and the web shop (payment provider), by Locust's users.", chart)


def _machine(figures: Figures) -> Iterator[Drawn]:
    cores = figures.record.machine.cores
    cpu = _usage_chart(figures, ("cpu", "CPU by process", "cores"), [Limit(cores, f"{cores} cores")])
    took_part = "Everything that took part" if figures.record.here else "The generator alone: the system runs elsewhere"
    yield _drawn(f"{took_part}, stacked. Grey is the generator itself.", cpu)
    memory = _usage_chart(figures, ("memory_mb", "Memory by process", "MB"), [])
    yield _drawn("What each process has for itself alone, stacked. Grey is the generator itself.", memory)


def _usage_chart(figures: Figures, what: tuple[str, str, str], limits: list[Limit]) -> Chart:
    """Of the day alone: what was used before the doors opened and in the ramp is not on its clock."""
    usage, (key, title, unit) = figures.usage, what
    names = sorted(usage.processes, key=lambda name: (name in GENERATOR, -sum(usage.processes[name]["cpu"])))
    lines = [
        Line(name, usage.processes[name][key], 0 if name in GENERATOR else number % COLOURS + 1)
        for number, name in enumerate(names)
    ]
    digits = 2 if key == "cpu" else 0
    return Chart(title, unit, usage.day_s, lines, limits, _marks(figures), stacked=True, digits=digits)


def hundredths(share: float) -> str:
    """A share in percent, never rounded up: 100 is all."""
    return f"{int(share * 10_000 + 1e-9) / 100:.2f}"


def sold_at(channel: str) -> str:
    """Where something was sold or paid back, as people say it."""
    return PLACES.get(channel, channel)


def readable(reason: str) -> str:
    """ALREADY_USED as people read it."""
    return reason.replace("_", " ").lower()


def _refused(figures: Figures) -> list[tuple[str, int, str]]:
    totals = [(name, int(sum(values))) for name, values in figures.day["refusals"].items()]
    return [(readable(name), count, _staff_text(name)) for name, count in totals]


def _ramp_short(figures: Figures) -> bool:
    ramp = figures.scenario.ramp
    return ramp is not None and int(figures.record.shop["ramp_tickets"]) < ramp.tickets


def _staff_text(name: str) -> str:
    return default_display(Reason[name]).staff_text if name in Reason.__members__ else ""


def _sold_on_the_day(record: Record) -> int:
    return int(record.shop["tickets_sold_on_day"])


def _sales(record: Record) -> list[Sold]:
    by_channel: dict[str, list[float]] = {}
    for _, took_ms, channel, _ in record.shop["sales"]:
        by_channel.setdefault(channel, []).append(took_ms)
    return [
        Sold(sold_at(name), len(took), percentile(sorted(took), 0.5), percentile(sorted(took), 0.99))
        for name, took in sorted(by_channel.items())
    ]


def _noise(figures: Figures) -> Iterator[tuple[str, float, str]]:
    """When other programs used much of the machine, how much, and what is better without them. Where the generator was
    the limit its warning says so already."""
    day, ramp = figures.cost, figures.ramp_cost
    if day.others > MUCH_ELSE and not day.was_limit:
        yield "on the day", day.others, "Latencies are"
    if figures.steps and ramp.others > MUCH_ELSE and not ramp.was_limit:
        yield "in the ramp", ramp.others, "How much it holds is"


def _processes(figures: Figures) -> Sequence[Process]:
    ramp = figures.ramp_usage.processes
    found = [
        Process(
            name,
            sum(one["cpu"]) / max(len(one["cpu"]), 1),
            max(one["cpu"], default=0.0),
            max(ramp[name]["cpu"], default=0.0),
            max([*one["memory_mb"], *ramp[name]["memory_mb"]], default=0.0),
            name in GENERATOR,
        )
        for name, one in figures.usage.processes.items()
    ]
    return sorted(found, key=lambda one: (one.generator, -one.mean))
