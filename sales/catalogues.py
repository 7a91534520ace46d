"""The catalogues in the books, kept parsed in memory. A version never changes once it is published."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from sales.database import Database
from sales.tables import catalogues
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import read_catalogue
from ticketcore.errors import ConflictError, DamagedDataError, InvalidInputError, NotFoundError

KEPT = 16
"""Versions kept parsed; old orders name old ones."""
FRESH_FOR = timedelta(seconds=1)
"""How long another service's publication may go unseen."""


@dataclass(frozen=True, slots=True)
class Published:
    """A catalogue and its version."""

    version: int
    catalogue: Catalogue
    document: bytes
    publish_time: datetime


class Catalogues:
    """Published catalogues by version."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._kept: OrderedDict[int, Published] = OrderedDict()
        self._current: tuple[int, datetime] | None = None

    def forget_current(self) -> None:
        """Makes the next `current` look again."""
        self._current = None

    async def current(self) -> Published:
        """The catalogue in force.

        Raises:
            ConflictError: none was ever published.
        """
        now = self._clock()
        if self._current is None or not timedelta(0) <= now - self._current[1] < FRESH_FOR:
            async with self._database.reading() as connection:
                version = (await connection.execute(sa.select(sa.func.max(catalogues.c.version)))).scalar()
            if version is None:
                raise ConflictError("no catalogue is published yet: publish one first")
            self._current = (version, now)
        return await self.version(self._current[0])

    async def version(self, version: int) -> Published:
        """A version.

        Raises:
            NotFoundError: it was never published.
        """
        if version in self._kept:
            self._kept.move_to_end(version)
            return self._kept[version]
        async with self._database.reading() as connection:
            found = await connection.execute(sa.select(catalogues).where(catalogues.c.version == version))
            row = found.one_or_none()
        if row is None:
            raise NotFoundError(f"catalogue version {version} was never published")
        try:
            catalogue = read_catalogue(row.document.encode())
        except InvalidInputError as error:
            raise DamagedDataError(f"catalogue version {version} in the books cannot be read: {error}") from error
        self._kept[version] = Published(version, catalogue, row.document.encode(), row.publish_time)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[version]
