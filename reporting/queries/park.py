"""What the park's catalogues say of the numbers in the books: names, and which gates count who is inside.

Read from the catalogues that sales published, in Postgres. A later version wins; what was dropped since keeps its last
name, so that a report of last year names last year's products.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from reporting.database import Connection
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import read_catalogue
from ticketcore.errors import DamagedDataError, InvalidInputError


class _Named(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def name(self) -> str: ...


_THERE = "SELECT to_regclass('sales.catalogues') IS NOT NULL"
_LATER = "SELECT version, document FROM sales.catalogues WHERE version > %s ORDER BY version"


@dataclass(slots=True)
class Park:
    """Names by number, up to a version of the catalogue."""

    version: int = -1
    products: dict[int, str] = field(default_factory=dict)
    gates: dict[int, str] = field(default_factory=dict)
    zones: dict[int, str] = field(default_factory=dict)
    uncounted_gates: set[int] = field(default_factory=set)
    """Gates that count entries, not who is inside: rides."""

    def learn(self, version: int, catalogue: Catalogue) -> None:
        """Takes a later version over."""
        self.products |= _names(catalogue.products.values())
        self.gates |= _names(catalogue.gates.values())
        self.zones |= _names(catalogue.zones.values())
        for gate in catalogue.gates.values():
            (self.uncounted_gates.discard if gate.counts_inside else self.uncounted_gates.add)(gate.number)
        self.version = version


async def refresh(park: Park, connection: Connection) -> None:
    """Learns what was published since; nothing where sales has never run.

    Raises:
        DamagedDataError: a catalogue in the books cannot be read.
    """
    there = await (await connection.execute(_THERE)).fetchone()
    if there is None or not there[0]:
        return
    for version, document in await (await connection.execute(_LATER, (park.version,))).fetchall():
        try:
            park.learn(int(str(version)), read_catalogue(str(document).encode()))
        except InvalidInputError as error:
            raise DamagedDataError(f"catalogue version {version} in the books cannot be read: {error}") from error


def _names(items: Iterable[_Named]) -> dict[int, str]:
    return {item.number: item.name for item in items}
