"""The catalogue is read."""

from __future__ import annotations

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
from sales.outbox import Kind
from sales.tables import outbox
from sales.wire import milliseconds


async def get_catalogue(sales: Sales, caller: Caller, request: pb.GetCatalogueRequest) -> pb.GetCatalogueResponse:
    """The catalogue in force, or a version; anybody may read it."""
    del caller
    wanted = request.catalogue_version
    published = await (sales.catalogues.version(wanted) if wanted else sales.catalogues.current())
    return pb.GetCatalogueResponse(
        catalogue_version=published.version,
        document=published.document,
        publish_time_ms=milliseconds(published.publish_time),
        pending=await _pending(sales) if not wanted else "",
    )


async def _pending(sales: Sales) -> str:
    """What the cluster has last had against the newest catalogue, if it is still to be told of it."""
    newest = sa.select(outbox.c.last_error).where(outbox.c.kind == Kind.PUBLISH_CATALOGUE.value)
    async with sales.database.reading() as connection:
        found = await connection.execute(newest.order_by(outbox.c.id.desc()).limit(1))
    return found.scalar() or ""
