"""The life of an order, as a table: state and event give the next state; what is not in the table is refused.

::

    HELD ──pay──► PAYING ──capture──► PAID ──issue──► ISSUED ──refund──► PARTLY_REFUNDED ──refund──► REFUNDED
     │               │
     ├─cancel────────┴─cancel, fail──► CANCELED
     └─lapse──► LAPSED

HELD lapses by the clock. From PAYING on no clock decides: only what is recorded here does. Money that is captured
for an order that is CANCELED or LAPSED is returned, never kept and never turned into tickets.
"""

from __future__ import annotations

from enum import Enum

from ticketcore.errors import ConflictError


class OrderState(Enum):
    """Where an order stands."""

    HELD = "held"
    PAYING = "paying"
    PAID = "paid"
    ISSUED = "issued"
    CANCELED = "canceled"
    LAPSED = "lapsed"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"


class OrderEvent(Enum):
    """What happens to an order."""

    PAY = "pay"
    CAPTURE = "capture"
    ISSUE = "issue"
    CANCEL = "cancel"
    FAIL = "fail"
    LAPSE = "lapse"
    REFUND_SOME = "refund_some"
    REFUND_LAST = "refund_last"


NEXT: dict[tuple[OrderState, OrderEvent], OrderState] = {
    (OrderState.HELD, OrderEvent.PAY): OrderState.PAYING,
    (OrderState.HELD, OrderEvent.CANCEL): OrderState.CANCELED,
    (OrderState.HELD, OrderEvent.LAPSE): OrderState.LAPSED,
    (OrderState.PAYING, OrderEvent.CAPTURE): OrderState.PAID,
    (OrderState.PAYING, OrderEvent.CANCEL): OrderState.CANCELED,
    (OrderState.PAYING, OrderEvent.FAIL): OrderState.CANCELED,
    (OrderState.PAID, OrderEvent.ISSUE): OrderState.ISSUED,
    (OrderState.ISSUED, OrderEvent.REFUND_SOME): OrderState.PARTLY_REFUNDED,
    (OrderState.ISSUED, OrderEvent.REFUND_LAST): OrderState.REFUNDED,
    (OrderState.PARTLY_REFUNDED, OrderEvent.REFUND_SOME): OrderState.PARTLY_REFUNDED,
    (OrderState.PARTLY_REFUNDED, OrderEvent.REFUND_LAST): OrderState.REFUNDED,
}
"""Every legal step; there is no other."""

GIVEN_UP = frozenset({OrderState.CANCELED, OrderState.LAPSED})
"""A capture that comes for one of these is returned."""

_REFUSALS = {
    OrderState.HELD: "it is not paid",
    OrderState.PAYING: "its payment has begun",
    OrderState.PAID: "it is paid",
    OrderState.ISSUED: "its tickets are issued",
    OrderState.CANCELED: "it was cancelled; make a new order",
    OrderState.LAPSED: "its hold has lapsed; make a new order",
    OrderState.PARTLY_REFUNDED: "some of its tickets are refunded",
    OrderState.REFUNDED: "it is refunded",
}


def step(state: OrderState, *events: OrderEvent) -> OrderState:
    """The state after the events.

    Raises:
        ConflictError: the table has no such step; says why.
    """
    for event in events:
        following = NEXT.get((state, event))
        if following is None:
            raise ConflictError(f"the order cannot {event.value.replace('_', ' ')}: {_REFUSALS[state]}")
        state = following
    return state
