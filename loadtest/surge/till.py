"""What the shop sold and paid back, counted by itself, and the file from which the gates learn of the tickets."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from parkgate.sales.v1 import sales_pb2 as pb


@dataclass(slots=True)
class Till:
    """The shop's own count of money and tickets. `sold` is the file of what the gates may expect."""

    sold: IO[str]
    tickets_sold: int = 0
    sold_minor: int = 0
    tickets_refunded: int = 0
    refunded_minor: int = 0
    fee_minor: int = 0
    cash_minor: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refunded: list[int] = field(default_factory=list)
    """Tickets whose refund was granted."""
    not_refunded: list[int] = field(default_factory=list)
    """Tickets whose refund was refused because they had been used, or may not be refunded."""

    def take(self, order: pb.Order, tickets: Sequence[pb.Ticket], cash_window: str = "") -> None:
        """An order that was paid; `cash_window`: whose till the money is in."""
        self.tickets_sold += len(tickets)
        self.sold_minor += order.total_minor
        if cash_window:
            self.cash_minor[cash_window] += order.total_minor

    def hand_over(self, party: int | None, tickets: Sequence[pb.Ticket]) -> None:
        """Gives tickets to a party of the day, or to the ramp (None)."""
        tokens = [base64.b64encode(ticket.token).decode() for ticket in tickets]
        self.sold.write(json.dumps({"party": party, "tokens": tokens}) + "\n")
        self.sold.flush()

    def give_back(self, result: pb.RefundResult, cash_window: str) -> str:
        """What became of a refund; answers it in a word. Cash comes out of the till into which it was paid."""
        if result.outcome == pb.REFUND_OUTCOME_REFUNDED:
            self.tickets_refunded += 1
            self.refunded_minor += result.quote.refund_minor
            self.fee_minor += result.quote.fee_minor
            if cash_window:
                self.cash_minor[cash_window] -= result.quote.refund_minor
            self.refunded.append(result.ticket_id)
        else:
            self.not_refunded.append(result.ticket_id)
        outcome = pb.RefundOutcome.Name(result.outcome).removeprefix("REFUND_OUTCOME_")
        self.outcomes[outcome] += 1
        return outcome
