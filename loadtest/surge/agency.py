"""The desk where agencies buy before the doors open, for greenlets: over all connections in turn. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from loadtest.surge.counter import Counter
from loadtest.surge.presale import Kind
from loadtest.surge.till import Till
from parkgate.sales.v1 import sales_pb2 as pb
from ticketcore.catalogue import Catalogue

CHANNELS = ("agency", "web", "window", "kiosk")
"""The first on which a product is sold."""


class Agency:
    """What it sells, the till counts."""

    def __init__(self, counters: Sequence[Counter], catalogue: Catalogue, till: Till) -> None:
        self._counters = cycle(counters)
        self._catalogue = catalogue
        self._till = till

    def sell(self, kind: Kind, count: int) -> list[pb.Ticket]:
        """On the agency's account. Raises: SoldOut."""
        counter = next(self._counters)
        line = counter.line(*kind, count)
        sold = counter.sell([line], self._channel(kind), pb.PAYMENT_METHOD_AGENCY)
        self._till.take(sold.order, sold.tickets)
        return list(sold.tickets)

    def hold(self, kind: Kind, count: int) -> int:
        """An order that nobody pays. Raises: SoldOut."""
        counter = next(self._counters)
        return counter.order([counter.line(*kind, count)], self._channel(kind)).order_id

    def cancel(self, order_id: int) -> None:
        """Its places are free again."""
        next(self._counters).cancel(order_id)

    def _channel(self, kind: Kind) -> str:
        channels = self._catalogue.products[kind[0]].channels
        return next(name for name in CHANNELS if not channels or name in channels)
