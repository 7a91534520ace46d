"""The evening's comparisons: what the windows and the gates counted, against what the books say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.surge import evening
from loadtest.surge.parts import Certificate
from loadtest.surge.target import Target
from ops.books import GROUPS, Books
from ops.services.catalogue import EXAMPLE, read_catalogue
from parkgate.reporting.v1 import reporting_pb2 as pb
from parkgate.sales.v1 import sales_pb2

GATES: dict[str, Any] = {
    "verdicts": [["ADMIT", "", 2]],
    "inside": {},
    "tickets_admitted": 2,
    "admitted_refunders": [],
    "refunded_heard": [],
    "unanswered": 0,
    "unbooked": 0,
}
SHOP: dict[str, Any] = {
    "tickets_sold": 3,
    "sold_minor": 9_000,
    "tickets_refunded": 1,
    "refunded_minor": 2_500,
    "fee_minor": 500,
    "refunded": [7],
    "tills": [],
}


def target(folder: Path) -> Target:
    none = Certificate("", "", "")
    return Target(("gates",), "sales", "reporting", none, none, read_catalogue(EXAMPLE)[1], folder)


def books(**columns: int) -> Books:
    """Of which all three reports have this one total."""
    report = pb.QueryFinanceResponse(totals=[pb.FinanceRow(**columns)])
    verdicts = {("ADMIT", ""): columns["tickets_admitted"]}
    counts = pb.GetCountsResponse(sales=[pb.Count()], ledger=[pb.Count()], postgres=[pb.Count()])
    return Books(verdicts, [], dict.fromkeys(GROUPS, report), counts, sales_pb2.ReconcileResponse())


DAY = {
    "sold_minor": 9_000,
    "refunded_minor": 2_500,
    "fees_minor": 500,
    "admitted_minor": 6_000,
    "tickets_sold": 3,
    "tickets_refunded": 1,
    "tickets_admitted": 2,
}


@pytest.mark.parametrize("earlier", [0, 4])
@pytest.mark.parametrize(("more", "agrees"), [(-1, False), (0, True), (1, False)])
def test_fees_are_compared_to_the_cent_without_those_of_before(
    tmp_path: Path, earlier: int, more: int, agrees: bool
) -> None:
    before = books(**{name: value * earlier for name, value in DAY.items()}) if earlier else None
    now = books(**{name: value * (earlier + 1) for name, value in DAY.items()})
    shop = SHOP | {"fee_minor": SHOP["fee_minor"] + more}
    found = {one.what: one for one in evening.compare(target(tmp_path), (GATES, shop), now, before)}
    fees = found["fees kept, by the windows and by finance"]
    assert fees.actual.startswith("5.00 ")
    assert (fees.expected == fees.actual) is agrees
    others = [one for one in found.values() if one is not fees and "add up" not in one.what]
    assert [one for one in others if one.expected != one.actual] == []


def test_what_became_of_the_day_s_tickets_is_without_those_of_before(tmp_path: Path) -> None:
    before, now = books(**DAY), books(**{name: value * 3 for name, value in DAY.items()})
    assert evening.tickets(now, before) == {"sold": 6, "issued": 0, "admitted": 4, "refunded": 2, "unused": 0}
    assert evening.amounts(target(tmp_path), now, before)["fees"].startswith("10.00 ")
    owed = replace(now, finance=dict.fromkeys(GROUPS, pb.QueryFinanceResponse()))
    assert evening.tickets(owed, None)["sold"] == 0
