"""How much of the plan was played: what was scanned later than planned or not at all, because of its ticket. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Whether somebody found it sold out: that is told by itself, and may be what is rehearsed."""

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
        unexplained = self.skipped + (0 if self.sold_out else self.without_ticket)
        return unexplained > self.planned * LEFT_OUT_SHARE

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
            found.append(
                f"{self.late_tickets / self.planned * 100:.0f} % of the scans waited for their ticket: the shop was "
                "behind, and the rush at the gates was not the planned one. More windows, or fewer guests who buy on "
                "the day."
            )
        if self.much_left_out:
            found.append(
                f"{(self.planned - self.made) / self.planned * 100:.0f} % of the plan's scans were not made: the gates "
                "had less to do than planned. The refusals say why; a park that is full does it, and sales that failed."
            )
        return found
