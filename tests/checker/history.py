"""What clients saw: operations, in the words of Jepsen (invoked, completed, ok / fail / unknown), as lines of JSON.

Each line is one operation::

    {"kind": "scan", "process": "main", "invoked": 1200, "completed": 1262, "outcome": "ok",
     "request": {"scan_id": "00..01", "ticket": 7340033}, "answer": {"decision": "ADMIT", ...}}

`invoked` and `completed` are milliseconds of one clock that all clients share; `completed` is null while unanswered.
`outcome`: "ok" (done, and the answer is what was decided), "fail" (surely not done), "unknown" (it may have been).
Ids are hexadecimal, tickets are numbers; decisions, reasons, kinds and outcomes are the protocol's, without prefix.

    kind          request                                                     answer (when ok)
    park          capacities {zone: n}, quotas {key: n}, time_zone, places    -          what was set up; once
    publish       capacities {zone: n}, places {product: [zone, ...]}         -          a later catalogue, in force
    issue         ticket, product, entries, party, daily_entries, price_minor -          a token was signed
    scan          scan_id, ticket, forged, persons (0 or absent: all)         decision, reason, persons, kind: as shown
    verdict       scan_id                                                     the same, as it was heard on the wire
    passage       scan_id, ticket, zone, kind, persons, passed                recorded   what the guest really did
    register      ticket                                                      -
    refund        request_id, ticket                                          changed: DONE, ALREADY_USED, NOT_ALLOWED
    hold          hold_id, quota, units, step: place pin confirm release      state: DONE, SOLD_OUT, GONE ...
    full          zone or quota                                               -          asked for more than there is
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
KINDS = frozenset({"park", "publish", "issue", "scan", "verdict", "passage", "register", "refund", "hold", "full"})


@dataclass(slots=True)
class Operation:
    """One thing that a client asked, and what became of it as far as the client knows."""

    kind: str
    process: str
    invoked: int
    request: dict[str, Any]
    completed: int | None = None
    outcome: str = UNKNOWN
    answer: dict[str, Any] = field(default_factory=dict)

    def complete(self, now: int, outcome: str, /, **answer: Any) -> None:
        """The client has heard."""
        self.completed, self.outcome, self.answer = now, outcome, answer


class History:
    """Operations in the order in which they were invoked."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self.operations = list(operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def invoke(self, kind: str, process: str, now: int, /, **request: Any) -> Operation:
        """Notes that something is asked. Its outcome is unknown until `complete`."""
        operation = Operation(kind, process, now, request)
        self.operations.append(operation)
        return operation

    def note(self, kind: str, process: str, now: int, request: dict[str, Any], /, **answer: Any) -> None:
        """Notes what is a fact at once."""
        self.operations.append(Operation(kind, process, now, request, now, OK, answer))

    def of(self, *kinds: str) -> Iterator[Operation]:
        """Operations of some kinds."""
        return (item for item in self.operations if item.kind in kinds)

    def dump(self) -> str:
        """As lines of JSON."""
        return "".join(json.dumps(asdict(item), separators=(",", ":")) + "\n" for item in self.operations)

    @classmethod
    def load(cls, text: str) -> History:
        """From lines of JSON.

        Raises:
            ValueError: a line is no operation; says which.
        """
        return cls(_operation(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _operation(number: int, line: str) -> Operation:
    try:
        operation = Operation(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise ValueError(f"line {number} of the history is no operation: {error}") from error
    if operation.kind not in KINDS or operation.outcome not in (OK, FAIL, UNKNOWN):
        raise ValueError(f"line {number} of the history: kind {operation.kind!r}, outcome {operation.outcome!r}")
    return operation
