"""What waits to be sent, each item with the instant at which it is due again until it is answered.

No clock and no I/O: instants are arguments, in milliseconds of a monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class _Entry(Generic[Item]):
    item: Item
    due_ms: int


class Outbox(Generic[Item]):
    """Items by id, taken in the order in which they fall due and kept until removed."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry[Item]] = {}
        self._heap: list[tuple[int, int, bytes]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item_id: bytes) -> bool:
        return item_id in self._entries

    def __iter__(self) -> Iterator[Item]:
        return (entry.item for entry in self._entries.values())

    def put(self, item_id: bytes, item: Item, due_ms: int) -> None:
        """Adds an item, or replaces the one with its id."""
        self._entries[item_id] = _Entry(item, due_ms)
        heapq.heappush(self._heap, (due_ms, next(self._order), item_id))

    def get(self, item_id: bytes) -> Item | None:
        """The item of an id, if it still waits."""
        entry = self._entries.get(item_id)
        return entry.item if entry else None

    def remove(self, item_id: bytes) -> Item | None:
        """Takes an item out for good: it was answered or given up."""
        entry = self._entries.pop(item_id, None)
        return entry.item if entry else None

    def postpone(self, item_id: bytes, due_ms: int) -> None:
        """Sets when an item that still waits is due again."""
        entry = self._entries.get(item_id)
        if entry is not None and entry.due_ms != due_ms:
            entry.due_ms = due_ms
            heapq.heappush(self._heap, (due_ms, next(self._order), item_id))

    def make_all_due(self, now_ms: int) -> None:
        """The link broke: whatever was sent may be lost, so everything is due now, in its old order."""
        self._heap = []
        for item_id, entry in self._entries.items():
            entry.due_ms = now_ms
            heapq.heappush(self._heap, (now_ms, next(self._order), item_id))

    def take_due(self, now_ms: int, again_ms: int, limit: int) -> list[Item]:
        """Up to `limit` items that are due at `now_ms`; each is due again at `again_ms` unless removed before."""
        taken: list[Item] = []
        while len(taken) < limit and (due := self.next_due_ms()) is not None and due <= now_ms:
            item_id = self._heap[0][2]
            taken.append(self._entries[item_id].item)
            self.postpone(item_id, again_ms)
        return taken

    def next_due_ms(self) -> int | None:
        """When the next item is due; None when nothing waits."""
        while self._heap:
            due_ms, _, item_id = self._heap[0]
            entry = self._entries.get(item_id)
            if entry is not None and entry.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._heap)
        return None
