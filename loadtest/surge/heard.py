"""What the gates' answers make of the queue at an entrance: written down on the day, laid on the plan's queue for the
report. Pure.

The plan knows every coming to an entrance by its number. An answer keeps the guest at the lane for as long as it took;
and who hears that it is full leaves the lane to others, and comes again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loadtest.surge.plan import Turn
from loadtest.surge.queues import FULL_AGAIN_S, Coming, Full


@dataclass(slots=True)
class NoRoom:
    """A ticket that heard that it was full: how many it is for, until when there was no room for them, as a time of the
    day, and what the answers took each time that they came again."""

    persons: int
    until_s: float = 0.0
    took_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Heard:
    """At one entrance. `delays_s`, by coming: what the answers took when they came first. `full`, by coming and ticket:
    who came again."""

    delays_s: dict[int, float] = field(default_factory=dict)
    full: dict[tuple[int, int], NoRoom] = field(default_factory=dict)

    def took(self, turn: Turn, seconds: float) -> None:
        """An answer kept the lane waiting: when they came first, or the last time that they came again."""
        no_room = self.full.get((turn.queue, turn.ticket))
        if no_room is not None:
            no_room.took_s[-1] += seconds
        elif turn.queue >= 0:
            self.delays_s[turn.queue] = self.delays_s.get(turn.queue, 0.0) + seconds

    def come_again(self, turn: Turn, persons: int) -> None:
        """There was no room, and they will come again. It is ten minutes that pass each time: what an answer takes is
        nothing on the park's clock, which runs hundreds of times as fast."""
        no_room = self.full.setdefault((turn.queue, turn.ticket), NoRoom(persons))
        no_room.took_s.append(0.0)
        no_room.until_s = turn.at_s + FULL_AGAIN_S * len(no_room.took_s)

    def rows(self) -> dict[str, list[list[Any]]]:
        """For JSON, by what they are of."""
        return {
            "delays_s": [[coming, seconds] for coming, seconds in sorted(self.delays_s.items())],
            "full": [[*key, one.persons, one.until_s, one.took_s] for key, one in sorted(self.full.items())],
        }

    @classmethod
    def of(cls, delays_s: Iterable[Sequence[Any]], full: Iterable[Sequence[Any]]) -> Heard:
        """From rows."""
        return cls(
            {int(coming): seconds for coming, seconds in delays_s},
            {(coming, ticket): NoRoom(*found) for coming, ticket, *found in full},
        )

    def comings(self, planned: Sequence[Coming]) -> list[Coming]:
        """The plan's, with what was heard. A ticket keeps a lane busy for its share of the party's time."""
        full: Mapping[int, list[Full]] = defaultdict(list)
        for (number, _), one in sorted(self.full.items()):
            service_s = planned[number].service_s * one.persons / planned[number].persons
            full[number].append(Full(one.persons, service_s, one.until_s, one.took_s))
        return [
            replace(one, service_s=one.service_s + self.delays_s.get(number, 0.0), full=tuple(full[number]))
            for number, one in enumerate(planned)
        ]
