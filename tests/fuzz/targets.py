"""Every target by name. Each is made when it is wanted: some start a database or a cluster."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import books, codes, files, gates, links, stored
from tests.fuzz.target import Target

MAKERS: dict[str, Callable[[], Target]] = {
    **codes.MAKERS,
    **gates.MAKERS,
    **links.MAKERS,
    **stored.MAKERS,
    **files.MAKERS,
    **books.MAKERS,
}
SHARES = {
    "token": 20,
    "claims": 10,
    "qr-text": 15,
    "scanner": 4,
    "gate": 12,
    "control": 8,
    "owner-link": 6,
    "gateway-link": 3,
    "sealed-entry": 8,
    "sealed-record": 4,
    "replay": 8,
    "quota-replay": 6,
    "report": 8,
    "restore": 6,
    "catalogue": 3,
    "settings": 2,
    "catalogue-files": 0.3,
    "certificates": 2,
    "backup": 1,
    "gate-client": 6,
    "webhook": 6,
    "webhook-signed": 1,
    "sales": 1,
    "reporting": 1,
}
"""Of a run's cases, by how much a target can get wrong and how little a case costs it."""
