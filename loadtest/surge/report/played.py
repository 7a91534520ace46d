"""How much of the plan was played: what was scanned later than planned or not at all, because of its ticket. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.surge.plan import Plan

LATE_SHARE = 0.01
"""Of the plan's scans: so many that wait for their ticket make another rush than the one that was planned."""
LEFT_OUT_SHARE = 0.05
"""Of the plan's scans. Who gets the money back in the queue leaves out some 1 % of them in the scenarios shipped."""


@dataclass(frozen=True, slots=True)
class Played:
    """Scans of the plan. Proofs that are looked at and tries after a refusal are asked anew, and count once."""

    planned: int
    late_tickets: int
    """Tickets that were sold only after their guest's turn at the gate had come; scanned once they were there."""
    skipped: int
    """Not made: a ticket that was refused for good, or that let nobody in, is not shown again, nor on the way out."""
    without_ticket: int
    """Not made: their guest never got a ticket."""
    sold_out: bool = False
    """Whether somebody found it sold out: that is told by itself."""
    beyond_quota: int = 0
    """Scans of guests for whom there is no ticket by the plan itself: that it is sold out is what is rehearsed."""
    faults: int = 0
    """How many were ordered: what they did to the plan is nobody's mistake, and no advice follows from it."""

    @property
    def made(self) -> int:
        """How many were."""
        return self.planned - self.skipped - self.without_ticket

    @property
    def much_late(self) -> bool:
        """Whether the rush at the gates was not the planned one."""
        return self.late_tickets > self.planned * LATE_SHARE

    @property
    def much_left_out(self) -> bool:
        """Whether the gates had much less to do than planned."""
        return self.skipped + self._unforeseen > self.planned * LEFT_OUT_SHARE

    @property
    def waited(self) -> str:
        """How many scans did, as a part of a sentence."""
        return f"{self.late_tickets / self.planned * 100:.0f} % of the scans waited for their ticket"

    @property
    def was_sold_out(self) -> bool:
        """Whether that was so because fewer tickets were left than the plan counts on."""
        return self.much_left_out and self.sold_out and self._unforeseen > self.skipped

    @property
    def _unforeseen(self) -> int:
        """Scans without a ticket, but for those that the plan has no tickets for."""
        return max(self.without_ticket - (self.beyond_quota if self.sold_out else 0), 0)

    @property
    def as_planned(self) -> bool:
        """Whether the day was, by and large, the one of the plan."""
        return not (self.much_late or self.much_left_out)

    @property
    def says(self) -> str:
        """In a sentence or two."""
        if self.made == self.planned:
            made = f"all {self.planned:,} scans of the plan were made"
        else:
            made = f"{self.made:,} of the plan's {self.planned:,} scans were made: {'; '.join(self._left_out())}"
        return ". ".join([made, *self._late(), *(one.removesuffix(".") for one in self.warnings)])

    def _left_out(self) -> list[str]:
        why = (
            (self.skipped, "their ticket had been refused before, and who is not let in does not come out"),
            (self.without_ticket, "their guest never got a ticket"),
        )
        return [f"{number:,} not, because {text}" for number, text in why if number]

    def _late(self) -> list[str]:
        if not self.late_tickets:
            return []
        were, whose = ("ticket was", "its") if self.late_tickets == 1 else ("tickets were", "their")
        return [
            f"{self.late_tickets:,} {were} sold only when {whose} guest stood at the gate already, and scanned then; "
            "that wait is in no latency of the gates"
        ]

    @property
    def warnings(self) -> list[str]:
        """What is not small, and what it means."""
        found = []
        if self.much_late:
            found.append(f"{self.waited}, and the rush at the gates was not the planned one. {self._why_late}")
        if self.much_left_out:
            found.append(
                f"{(self.planned - self.made) / self.planned * 100:.0f} % of the plan's scans were not made: the gates "
                f"had less to do than planned. {self._why_left_out}"
            )
        return found

    @property
    def _ordered(self) -> str:
        return f"{count_of(self.faults)} {'was' if self.faults == 1 else 'were'} ordered on this day."

    @property
    def _why_late(self) -> str:
        if self.faults:
            return self._ordered
        return "The shop was behind: more windows, or fewer guests who buy on the day."

    @property
    def _why_left_out(self) -> str:
        if self.was_sold_out:
            return "Fewer tickets were left than the park sells in a day: others had bought them before."
        if self.faults:
            return self._ordered
        return "The refusals say why; a park that is full does it, and sales that failed."


def count_of(faults: int) -> str:
    """As a part of a sentence."""
    return "1 fault" if faults == 1 else f"{faults} faults"


def beyond_quota(plan: Plan, quotas: Sequence[tuple[str, int, int]]) -> int:
    """About how many scans are those of guests who get no ticket even if nobody else buys one. `quotas`: a product, a
    slot of it or 0 for all, and how many persons it is sold to."""
    wanted: Counter[tuple[str, int]] = Counter()
    for line in (line for guests in plan.guests for line in guests.kind.tickets):
        for slot in {0, line.slot}:
            wanted[line.product, slot] += line.count * line.persons
    without = {
        (product, slot): max(1 - persons / wanted[product, slot], 0.0)
        for product, slot, persons in quotas
        if wanted[product, slot]
    }
    return round(
        sum(
            len(turns)
            * max(without.get((line.product, slot), 0.0) for line in guests.kind.tickets for slot in (0, line.slot))
            for guests, turns in zip(plan.guests, plan.turns, strict=True)
        )
    )
