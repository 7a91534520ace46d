"""Reading a document (nested dicts and lists, from TOML or JSON) field by field, with every problem collected.

A `Node` is one table of the document. Each getter takes a key, checks it and returns a value of the right type; what is
wrong is noted with its path and what was expected, and a harmless stand-in is returned so that reading goes on. At the
end `finish` notes keys that nobody asked for. Whoever made the list of problems raises them all at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from enum import Enum
from typing import Any, TypeVar

from ticketcore.errors import InvalidInputError

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})")
_MISSING = object()
MAX_TEXT = 400
"""Characters of a name or text: what fits a screen, and keeps the catalogue small enough to push to every gate."""


@dataclass
class Node:
    """One table of the document and where it stands."""

    path: str
    values: Mapping[str, Any]
    problems: list[str]
    asked: set[str] = field(default_factory=set)

    def problem(self, key: str, message: str) -> None:
        """Notes what is wrong with a key of this table."""
        where = ".".join(part for part in (self.path, key) if part) or "document"
        self.problems.append(f"{where}: {message}")

    def get(self, key: str, default: object = _MISSING) -> Any:
        """The raw value; a missing one without default is a problem and reads as None."""
        self.asked.add(key)
        if key in self.values:
            return self.values[key]
        if default is _MISSING:
            self.problem(key, "is missing")
            return None
        return default

    def typed(self, key: str, kind: type[T], expected: str, default: object, stand_in: T) -> T:
        """A value of exactly one type; a bool is no integer."""
        value = self.get(key, default)
        if type(value) is kind:
            return value
        if key in self.values:
            self.problem(key, f"is {_show(value)}, expected {expected}")
        return stand_in

    def converted(self, key: str, convert: Callable[[Any], T], default: T, *, required: bool = False) -> T:
        """A value through `convert`, whose InvalidInputError is noted."""
        value = self.get(key) if required else self.get(key, None)
        if key not in self.values:
            return default
        try:
            return convert(value)
        except InvalidInputError as error:
            self.problem(key, str(error))
            return default

    def id(self, key: str = "id") -> str:
        """An id: small letters, digits, - and _."""
        text = self.typed(key, str, "an id such as 'day-ticket'", _MISSING, "")
        if text and not _ID.fullmatch(text):
            self.problem(key, f"is {_show(text)}, expected 1 to 40 small letters, digits, '-' or '_'")
        return text

    def text(self, key: str, default: object = _MISSING) -> str:
        """A text for people."""
        text = self.typed(key, str, "a text in quotes", default, "")
        if len(text) > MAX_TEXT or (key in self.values and isinstance(self.values[key], str) and not text.strip()):
            self.problem(key, f"has {len(text)} characters, expected 1 to {MAX_TEXT}")
        return text

    def integer(self, key: str, low: int, high: int, default: object = _MISSING) -> int:
        """An integer within [low, high]."""
        value = self.typed(key, int, f"a whole number from {low} to {high}", default, low)
        if not low <= value <= high and key in self.values:
            self.problem(key, f"is {value}, expected a whole number from {low} to {high}")
            return low
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        return self.typed(key, bool, "true or false", default, default)

    def choice(self, key: str, kind: type[E], default: E) -> E:
        """One of an enum's values."""
        text = self.typed(key, str, "one of " + _list(item.value for item in kind), default.value, default.value)
        try:
            return kind(text)
        except ValueError:
            self.problem(key, f"is {_show(text)}, expected one of {_list(item.value for item in kind)}")
            return default

    def texts(self, key: str, default: object = _MISSING) -> tuple[str, ...]:
        """A list of texts, each once."""
        values = self.typed(key, list, "a list of texts", default, [])
        bad = [value for value in values if not isinstance(value, str)]
        if bad:
            self.problem(key, f"holds {_show(bad[0])}, expected texts only")
        good = [value for value in values if isinstance(value, str)]
        for value in sorted({value for value in good if good.count(value) > 1}):
            self.problem(key, f"names {_show(value)} twice")
        return tuple(good)

    def tables(self, key: str, default: object = _MISSING) -> list[Node]:
        """A list of tables, as nodes."""
        values = self.typed(key, list, f"a list of tables, written as [[{key}]]", default, [])
        nodes = []
        for index, value in enumerate(values):
            path = ".".join(part for part in (self.path, f"{key}[{index}]") if part)
            if isinstance(value, Mapping):
                nodes.append(Node(path, value, self.problems))
            else:
                self.problems.append(f"{path}: is {_show(value)}, expected a table")
        return nodes

    def table(self, key: str, default: object = _MISSING) -> Node:
        """A table, as a node."""
        value = self.get(key, default)
        path = ".".join(part for part in (self.path, key) if part)
        if not isinstance(value, Mapping):
            if key in self.values:
                self.problems.append(f"{path}: is {_show(value)}, expected a table, written as [{key}]")
            value = {}
        return Node(path, value, self.problems)

    def finish(self) -> None:
        """Notes keys that nobody asked for, with the nearest known one."""
        for key in self.values:
            if key not in self.asked:
                near = difflib.get_close_matches(str(key), self.asked, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {_list(self.asked)}"
                self.problem(str(key), f"is not known here{hint}")


def suggest(name: str, known: Iterable[str]) -> str:
    """How to mend a name that is not among the known ones."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {_list(known)}"


def to_date(value: Any) -> date:
    """A civil day, from "2026-12-24" or a TOML date.

    Raises:
        InvalidInputError: something else.
    """
    if type(value) is date:
        return value
    try:
        if not isinstance(value, str) or len(value) != 10:
            raise ValueError(value)
        return date.fromisoformat(value)
    except ValueError as error:
        raise InvalidInputError(f"is {_show(value)}, expected a date such as '2026-12-24'") from error


def to_minute(value: Any) -> int:
    """Minutes since midnight, from "16:00" or a TOML time; "24:00" is the end of the day.

    Raises:
        InvalidInputError: something else.
    """
    if isinstance(value, time) and value.tzinfo is None and not value.second and not value.microsecond:
        return value.hour * 60 + value.minute
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minute = int(match.group(1)) * 60 + int(match.group(2)) if match and int(match.group(2)) < 60 else -1
    if not 0 <= minute <= 24 * 60:
        raise InvalidInputError(f"is {_show(value)}, expected a time of day such as '16:00'")
    return minute


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
