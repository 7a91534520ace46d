"""A small day, and the record that a rehearsal of it would leave if every answer took the same time."""

from __future__ import annotations

from typing import Any

from loadtest.surge import plan as planning
from loadtest.surge.plan import Plan, Way
from loadtest.surge.ramp import Step
from loadtest.surge.record import Count, Happened, Machine, Record
from loadtest.surge.samples import Samples
from loadtest.surge.scenario import Scenario, parse

TOOK_MS = 3.0
FAULT = Happened(12 * 3600.0, "the gateway is killed")
TEXT = """
name = "Small day"
story = "A few guests & <friends>."
seed = 7
visitors = 200
opens = "09:00"
closes = "17:00"
seconds = 4
stay_minutes = 120
curve = [{ at = "09:00", weight = 5 }, { at = "12:00", weight = 1 }, { at = "16:00", weight = 0 }]

[storm]
at = "13:00"
minutes = 20
back_share = 0.5

[habits]
on_site = 0.3
early = 0.1
lunch = 0.1
double_use = 0.05
forged = 0.05
refund_in_queue = 0.05
turn_back = 0.05

[[parties]]
name = "Couples"
weight = 3
tickets = [{ product = "day", concession = "adult", count = 2 }]

[[parties]]
name = "Families"
weight = 1
tickets = [{ product = "family", concession = "adult", persons = 4 }]

[[parties]]
name = "Seniors"
weight = 1
proof = true
tickets = [{ product = "day", concession = "senior" }]

[[entrances]]
name = "Main entrance"
gates = ["main-1", "main-2"]
lanes = 1
turnstiles = 4
share = 3

[[entrances]]
name = "Lake entrance"
gates = ["lake-1", "lake-2"]
lanes = 2
controller_lanes = 2

[windows]
windows = 2
kiosks = 1
web = 2

[ramp]
product = "day"
first_per_s = 50
factor = 2
steps = 2
seconds = 0.5

[park]
capacity = { park = 400 }
"""


def scenario(**changes: Any) -> Scenario:
    """The small day, or another like it."""
    return parse(TEXT, "small-day.toml", changes)


def samples_of(plan: Plan, took_ms: float = TOOK_MS) -> Samples:
    """Every turn answered in the same time, and as it must be."""
    found = Samples()
    answers = {Way.COPY: "ALREADY_USED", Way.FORGED: "BAD_SIGNATURE"}
    for guests, turns in zip(plan.guests, plan.turns, strict=True):
        persons = [line.persons for line in guests.kind.tickets for _ in range(line.count)]
        for turn in turns:
            answer = answers.get(turn.way, "ADMIT")
            where = (turn.entrance, persons[turn.ticket] if answer == "ADMIT" else 0)
            found.add(turn.at_s, (0.2, took_ms), (turn.way, answer), where)
    return found


def step(per_s: float, p99_ms: float, **changes: Any) -> Step:
    """A step of a ramp that admitted everybody."""
    sent = round(per_s)
    values = {
        "per_s": per_s,
        "seconds": 1.0,
        "sent": sent,
        "admitted": sent,
        "p50_ms": p99_ms / 4,
        "p99_ms": p99_ms,
        "late_p99_ms": 1.0,
        "cpu": 0.3,
        "busy": 0.6,
    }
    return Step(**(values | changes))


def record(**changes: Any) -> Record:
    """What the rehearsal leaves; `changes` are of the record's own fields."""
    day = scenario()
    plan = planning.make(day)
    gates = {
        "samples": samples_of(plan).columns(),
        "wrong": [],
        "delays_s": [[[n, TOOK_MS / 1e3] for n in range(len(comings))] for comings in plan.comings],
        "full": [[] for _ in plan.comings],
        "traffic": {"frames": 1, "retries": 0, "reconnects": 0, "resent": 0, "connected": 4, "last_error": ""},
        "pulses": [{"times": [1.0, 2.0], "cpu": [0.2, 0.3], "lag_ms": [1.0, 2.0]}],
        "ramp": [as_dict(step(1000, 20)), as_dict(step(2000, 240))],
        "stopped_at_s": None,
        "late_tickets": 0,
        "skipped": 0,
        "without_ticket": 0,
        "unanswered": 0,
        "unbooked": 0,
    }
    shop = {
        "tickets_sold": 300,
        "ramp_tickets": 86,
        "tickets_sold_on_day": 60,
        "outcomes": {"SOLD": 30},
        "sales": [[plan.starts_s + 60.0 * n, 40.0 + n, "window", "SOLD"] for n in range(30)],
    }
    times = [plan.starts_s + 600.0 * n for n in range(50)]
    usage = {
        "day_s": times,
        "machine": [0.4] * 50,
        "pace_ms": [1.5] * 50,
        "processes": {
            "gateway": {"cpu": [0.3] * 50, "memory_mb": [80.0] * 50},
            "generator: gates": {"cpu": [0.2] * 50, "memory_mb": [50.0] * 50},
        },
    }
    values: dict[str, Any] = {
        "scenario": day.model_dump(mode="json"),
        "machine": Machine(2, 8.0, "Linux", "3.11", "0.1.0"),
        "began": "2026-05-01T10:00:00+00:00",
        "against": "a system of its own on this machine",
        "here": True,
        "seconds": 6.0,
        "gates": gates,
        "shop": shop,
        "usage": usage,
        "entrance_zones": [1, 1],
        "capacity": {"1": ["Park", 400]},
        "counts": [Count("tickets sold by product", "300", "300")],
        "tickets": {"sold": 300, "issued": 300, "admitted": 290, "refunded": 2, "unused": 8},
        "money": {"sold": "1.00 CHF", "refunded": "0", "fees": "0", "admitted": "1", "deferred": "0"},
    }
    return Record(**(values | changes))


def as_dict(one: Step) -> dict[str, Any]:
    """As the gates tell it."""
    return {name: getattr(one, name) for name in Step.__slots__}
