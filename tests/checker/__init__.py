"""The checker of Parkgate's promises: histories of clients, the ledger as bytes and Postgres' rows in, violations out.

It knows nothing of the implementation: it imports the generated protocols and nothing else of ours, and every check
is linear in what it reads. The format of histories is in `tests/checker/history.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from tests.checker.books import Books, Sold, check_books, check_sold
from tests.checker.entitlements import Entitlements
from tests.checker.hearing import check_hearing, verdict_of
from tests.checker.history import FAIL, OK, UNKNOWN, History, Operation
from tests.checker.ledger import Ledger, StoredEntry, read_ledger
from tests.checker.limits import check_limits
from tests.checker.money import check_money, check_postings
from tests.checker.trims import Trimmed, check_trims
from tests.checker.violation import PROMISES, Violation, report

__all__ = [
    "FAIL",
    "OK",
    "PROMISES",
    "UNKNOWN",
    "Books",
    "History",
    "Ledger",
    "Operation",
    "Sold",
    "StoredEntry",
    "Trimmed",
    "Violation",
    "check",
    "check_books",
    "check_money",
    "check_postings",
    "check_sold",
    "read_ledger",
    "report",
    "verdict_of",
]


def check(
    history: History, stored: Iterable[StoredEntry], books: Books | None = None, trims: Iterable[Trimmed] = ()
) -> list[Violation]:
    """Verifies every promise. Without `books`, nothing is said of Postgres, nor of what was trimmed."""
    ledger = read_ledger(stored)
    park = next(history.of("park"), None)
    zone = ZoneInfo(park.request["time_zone"] if park is not None else "UTC")
    violations = list(ledger.violations)
    violations += Entitlements(history, zone).replay(ledger)
    violations += check_hearing(history, ledger)
    violations += check_limits(history, ledger)
    if books is not None:
        violations += check_books(books, ledger, zone)
        violations += check_sold(history, books)
        violations += check_postings(books)
        violations += check_money(history, books, ledger)
        violations += check_trims(trims, books.offsets)
    return violations
