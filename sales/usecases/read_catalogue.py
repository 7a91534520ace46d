"""The catalogue is read."""

from __future__ import annotations

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
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
    )
