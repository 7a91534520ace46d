"""A scenario file: who comes when, to which entrances, and what they do. One TOML file for every part of the rehearsal.

Times of day are of the day that is rehearsed ("10:30"); `seconds` says how long that day takes by the wall's clock.
Faults of a file are told together, each with its line, and with the nearest name where one was mistyped; what a park
does not have is told by `fits`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from ops.errors import BadInput

SHIPPED = Path(__file__).parent / "scenarios"
MAX_VISITORS = 1_000_000
MAX_RAMP_TICKETS = 1_000_000
"""They are sold before the doors open, some 5,000 a second on two cores."""
MINUTE_S = 60
SPARE = 1.15
Place = tuple[str | int, ...]
"""Where in a file a value stands: names of tables and values, numbers in a list from 0."""
Fault = tuple[Place, str]
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def _seconds_of(value: object) -> object:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError("time", 'expected a time of day like "10:30"')
    return (int(found[1]) * 60 + int(found[2])) * MINUTE_S


def _written(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}"


TimeOfDay = Annotated[int, BeforeValidator(_seconds_of), PlainSerializer(_written)]
"""Seconds since midnight of the rehearsed day, written "10:30"."""
Persons = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Point(_Table):
    """How busy the doors are at a time of day; between two points it changes evenly."""

    at: TimeOfDay
    weight: float = Field(ge=0)


class Storm(_Table):
    """Everybody inside leaves, some at once and the last after `minutes`; `back_share` of them come back."""

    at: TimeOfDay
    minutes: float = Field(gt=0, le=240)
    back_share: Share = 0.6
    dry_after_minutes: float = Field(30, ge=0, le=240)
    """How long after the first drops the first guests come back."""
    back_within_minutes: float = Field(45, gt=0, le=240)


class Tickets(_Table):
    """Tickets that a party holds."""

    product: Name
    concession: Name
    count: int = Field(1, ge=1, le=200)
    persons: int = Field(1, ge=1, le=50)
    """Persons on one ticket, as the product says."""
    slot: int = Field(0, ge=0)


class Party(_Table):
    """A kind of guests who come together."""

    name: Name
    weight: float = Field(gt=0)
    tickets: tuple[Tickets, ...] = Field(min_length=1)
    proof: bool = False
    """The attendant looks at a card before they are let in."""
    returns: bool = True
    """Whether their tickets let them back in on the same day."""
    together: bool = False
    """All their tickets are shown at once, in one frame of a lane controller."""

    @property
    def persons(self) -> int:
        """How many they are."""
        return sum(line.count * line.persons for line in self.tickets)


class Habits(_Table):
    """Which share of the parties does what."""

    on_site: Share = 0.3
    """Buy on the day, at a window, a kiosk or on the phone; the others came with tickets."""
    early: Share = 0.0
    """Stand there when the doors open."""
    late: Share = 0.0
    """Come in the last tenth of the day, whatever the curve says."""
    lunch: Share = 0.0
    """Go out around noon and come back."""
    double_use: Share = 0.0
    """Show a ticket a second time, at another lane."""
    forged: Share = 0.0
    """Come with a code that sales never signed, besides their tickets."""
    refund_in_queue: Share = 0.0
    """Ask their money back while they stand at the entrance."""
    turn_back: Share = 0.0
    """Are let in and do not go through; they come again."""


class Entrance(_Table):
    """Gates next to each other, and the lanes that are open there; guests take the lane that is free first."""

    name: Name
    gates: tuple[Name, ...] = Field(min_length=1)
    lanes: int = Field(ge=1, le=5_000)
    """Lanes that are open: so many guests go through at the same time."""
    turnstiles: int = Field(0, ge=0, le=5_000)
    """Turnstiles that are connected, each with a stream of its own; a gate's guests take its turnstiles in turn. At
    least one a lane, and one a gate."""
    share: float = Field(1.0, gt=0)
    pace_seconds: float = Field(2.4, gt=0, le=60)
    """What one guest takes from one to the next: 20 to 30 a minute and lane."""
    controller_lanes: int = Field(0, ge=0, le=64)
    """So many turnstiles share a controller, which sends their scans in common frames; 0: each has its own stream."""

    @field_validator("gates")
    @classmethod
    def _each_once(cls, gates: tuple[str, ...]) -> tuple[str, ...]:
        twice = [gate for number, gate in enumerate(gates) if gate in gates[:number]]
        if twice:
            raise PydanticCustomError("twice", f"{twice[0]} is named twice")
        return gates

    @property
    def streams(self) -> int:
        """How many gRPC streams its devices have."""
        turnstiles = max(self.turnstiles, self.lanes, len(self.gates))
        return -(-turnstiles // self.controller_lanes) if self.controller_lanes else turnstiles

    @property
    def rows(self) -> int:
        """Rows in which its devices stand: a turnstile at each gate; or a controller, which speaks for all of them."""
        return self.streams if self.controller_lanes else -(-self.streams // len(self.gates))

    @property
    def whole_rows(self) -> int:
        """Those with a turnstile at each gate: only the last can be shorter."""
        return self.streams if self.controller_lanes else self.streams // len(self.gates)

    def gate_of(self, lane: int, turn: int) -> int:
        """Where a lane's guests are shown in, as an index into `gates`; `turn` counts the lane's parties from 0. A lane
        is one gate's. Where there are fewer lanes than gates, each stands between several, and takes them in turn."""
        count = len(self.gates)
        return lane % count if self.lanes >= count else (lane + self.lanes * turn) % count

    def lanes_at(self, gate: int) -> int:
        """How many lanes are a gate's; 0 where it shares those of its entrance with others."""
        count = len(self.gates)
        return len(range(gate, self.lanes, count)) if self.lanes >= count else 0


class Windows(_Table):
    """Where tickets are sold on the day."""

    windows: int = Field(default=6, ge=1, le=500)
    kiosks: int = Field(default=4, ge=0, le=500)
    web: int = Field(default=10, ge=0, le=500)
    """Phones that are in the web shop at the busiest time."""


class Ramp(_Table):
    """After the day: more and more guests a second with tickets that were never used, until the limit is passed."""

    product: Name
    concession: Name = "adult"
    first_per_s: float = Field(300, gt=0)
    factor: float = Field(1.4, gt=1, le=4)
    steps: int = Field(8, ge=0, le=30)
    """0: the day ends without."""
    seconds: float = Field(1.5, gt=0, le=60)
    gates: tuple[Name, ...] = ()
    """Where they are shown; empty: at the entrances, by their own devices. All lead into one zone."""
    turnstiles: int = Field(60, ge=1, le=5_000)
    """Devices at those gates."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Guests a second, step by step."""
        return tuple(self.first_per_s * self.factor**step for step in range(self.steps))

    @property
    def tickets(self) -> int:
        """How many tickets all steps take, with some to spare: guests come by chance, and steps are tried again."""
        return round(sum(self.rates) * self.seconds * SPARE)


class Park(_Table):
    """What differs from the example park when the rehearsal starts its own system."""

    capacity: dict[str, Persons] = Field(default_factory=dict)
    """Zone -> persons; 0 is no limit."""
    daily_quota: dict[str, Persons] = Field(default_factory=dict)
    """Product -> persons a day."""
    slot_quota: dict[str, Persons] = Field(default_factory=dict)
    """Number of a slot of the night show -> places."""


class Scenario(_Table):
    """A day to rehearse."""

    name: Name
    story: str = ""
    seed: int = 1
    visitors: int = Field(ge=1, le=MAX_VISITORS)
    opens: TimeOfDay
    closes: TimeOfDay
    seconds: float = Field(gt=0, le=24 * 3600)
    stay_minutes: float = Field(300, gt=0, le=24 * 60)
    curve: tuple[Point, ...] = Field(min_length=2)
    storm: Storm | None = None
    parties: tuple[Party, ...] = Field(min_length=1)
    habits: Habits = Habits()
    entrances: tuple[Entrance, ...] = Field(min_length=1)
    windows: Windows = Windows()
    gate_processes: int = Field(0, ge=0, le=64)
    """Processes of the generator that share the gates; 0: as many as they need and there are cores to spare."""
    ramp: Ramp | None = None
    park: Park = Park()

    @property
    def speed(self) -> float:
        """Seconds of the rehearsed day that pass in one second of the wall's clock."""
        return (self.closes - self.opens) / self.seconds

    @property
    def gates(self) -> tuple[str, ...]:
        """Every gate, in the order of the entrances."""
        own = self.ramp.gates if self.ramp else ()
        return tuple(dict.fromkeys([*(gate for entrance in self.entrances for gate in entrance.gates), *own]))

    @property
    def devices(self) -> int:
        """How many gRPC streams there are."""
        own = self.ramp.turnstiles if self.ramp and self.ramp.gates else 0
        return sum(entrance.streams for entrance in self.entrances) + own

    @property
    def rows(self) -> int:
        """How many rows the devices stand in; each of the ramp's own is one."""
        own = self.ramp.turnstiles if self.ramp and self.ramp.gates else 0
        return sum(entrance.rows for entrance in self.entrances) + own


def shipped() -> dict[str, Path]:
    """The scenarios that come with Parkgate, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a scenario, and what its file is called."""

    file: str
    text: str

    def told(self, faults: Iterable[Fault]) -> list[str]:
        """Faults in words, each with its line."""
        return [self._told(place, said) for place, said in faults]

    def _told(self, place: Place, said: str) -> str:
        line = line_of(self.text, place)
        where = f"{self.file}, line {line}" if line else self.file
        return f"{where}: {_spelled(place)}: {said}" if place else f"{where}: {said}"


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """A shipped scenario by its name, or a file. `changes` take the place of the file's own values.

    Raises:
        BadInput: with every fault of the file.
    """
    return parse_source(read(name_or_path), changes)


def read(name_or_path: str) -> Source:
    """The text of a shipped scenario, or of a file. Raises: BadInput."""
    path = shipped().get(name_or_path, Path(name_or_path))
    try:
        return Source(str(path), path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"Cannot read the scenario {name_or_path}: {error.strerror}.", _meant(name_or_path)) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from error


def parse(text: str, file: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario in a text. Raises: BadInput."""
    return parse_source(Source(file, text), changes)


def parse_source(source: Source, changes: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario in it. Raises: BadInput."""
    try:
        values = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(
            f"{source.file} is not valid TOML: {error}.", "Compare it with one of the shipped scenarios."
        ) from error
    try:
        found = Scenario.model_validate(values | dict(changes or {}), strict=False)
    except ValidationError as error:
        faults = source.told(_faults([dict(one) for one in error.errors(include_url=False)]))
    else:
        faults = source.told(_day_faults(found))
        if not faults:
            return found
    raise BadInput("The scenario cannot be used:\n" + "\n".join(f"  - {one}" for one in faults))


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name, shipped(), n=1)
    return f"Did you mean {near[0]}?" if near else f"Shipped are {', '.join(shipped())}; or name a file."


def _faults(errors: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    """What is wrong, without what only follows: a list without its faulty items is too short."""
    places: list[Place] = [one["loc"] for one in errors]
    for one in errors:
        place: Place = one["loc"]
        deeper = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        if one["type"] != "too_short" or not deeper:
            yield place, _said(one)


def _day_faults(day: Scenario) -> Iterator[Fault]:
    """What makes no day of values that are all right by themselves."""
    if day.closes <= day.opens:
        yield ("closes",), "must be later than opens"
    times = [point.at for point in day.curve]
    if any(later <= earlier for earlier, later in pairwise(times)):
        yield ("curve",), "its points must be in the order of their times"
    if min(times) < day.opens or max(times) > day.closes:
        yield ("curve",), "must lie between opens and closes"
    if not any(point.weight for point in day.curve):
        yield ("curve",), "at least one point needs a weight above 0"
    if day.storm and not day.opens <= day.storm.at < day.closes:
        yield ("storm", "at"), "the storm must begin between opens and closes"
    if day.ramp and day.ramp.tickets > MAX_RAMP_TICKETS:
        yield (
            ("ramp",),
            f"its steps take {day.ramp.tickets:,} tickets, which are sold before the doors open; "
            f"at most {MAX_RAMP_TICKETS:,}",
        )


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return f"there is no such value{_nearest(error['loc'])}"
    if error["type"] == "missing":
        return "is missing"
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"{said[:1].lower()}{said[1:]}" if error["loc"] and error["type"] != "twice" else said


def _spelled(place: Sequence[str | int]) -> str:
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _nearest(place: Sequence[str | int]) -> str:
    """The name that was meant, among those of the table in which it stands."""
    table: Any = Scenario
    for part in place[:-1]:
        if isinstance(part, str):
            table = _table_of(table.model_fields[part].annotation)
    near = difflib.get_close_matches(str(place[-1]), table.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(table.model_fields)}"


def _table_of(annotation: Any) -> Any:
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    raise TypeError(f"{annotation} is no table")


def line_of(text: str, place: Sequence[str | int]) -> int:
    """The line of a value in a TOML text, or of the table it belongs to; 0 where neither is found."""
    lines = text.splitlines()
    start = 0
    for position, part in enumerate(place):
        following = place[position + 1] if position + 1 < len(place) else None
        if isinstance(part, str):
            found = _find(lines, start, part, following if isinstance(following, int) else 0)
            start = found or start
    return start


def _find(lines: Sequence[str], after: int, key: str, skip: int) -> int:
    """The line, counted from 1, of a key or of the header of its table; the `skip`-th such header in a list."""
    header = re.compile(rf"\s*\[\[?\s*(?:\w+\.)*{re.escape(key)}\s*\]\]?")
    value = re.compile(rf'\s*(?:{re.escape(key)}|"{re.escape(key)}")\s*=')
    for number in range(after, len(lines)):
        if header.match(lines[number]):
            if not skip:
                return number + 1
            skip -= 1
        elif value.match(lines[number]):
            return number + 1
        elif after and not header.match(lines[number]) and lines[number].lstrip().startswith("["):
            return 0
    return 0
