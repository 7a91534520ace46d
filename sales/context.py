"""What every use case is given: the books, the cluster, the catalogue, ids, keys and the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from sales.books import Books
from sales.catalogues import Catalogues
from sales.cluster_client import Cluster
from sales.config import SalesConfig
from sales.database import Database
from sales.ids import BlockSequence
from ticketcore.catalogue import Venue


def utc_now() -> datetime:
    """The clock of production."""
    return datetime.now(UTC)


def nothing(_seam: str) -> None:
    """The seam of production."""


@dataclass(frozen=True, slots=True)
class Sales:
    """The service's parts. `seam` is called between any two steps that a crash may separate; tests raise from it."""

    config: SalesConfig
    database: Database
    books: Books
    cluster: Cluster
    catalogues: Catalogues
    order_ids: BlockSequence
    ticket_sequence: BlockSequence
    clock: Callable[[], datetime] = utc_now
    seam: Callable[[str], None] = nothing
    outbox_filled: asyncio.Event = field(default_factory=asyncio.Event)


def assemble(config: SalesConfig, cluster: Cluster, clock: Callable[[], datetime] = utc_now) -> Sales:
    """The parts of a service by these settings."""
    database = Database(config.postgres_url)
    return Sales(
        config=config,
        database=database,
        books=Books(database),
        cluster=cluster,
        catalogues=Catalogues(database, clock),
        order_ids=BlockSequence(database, "order_blocks"),
        ticket_sequence=BlockSequence(database, "ticket_blocks"),
        clock=clock,
    )


def park_date(venue: Venue, instant: datetime) -> date:
    """The civil day of the park at an instant."""
    return instant.astimezone(venue.time_zone).date()
