"""A document becomes the catalogue in force."""

from __future__ import annotations

import json
import logging

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales import outbox
from sales.context import Sales
from sales.identity import Caller
from sales.requests import RequestKey, key_of, once, remember
from sales.tables import catalogues
from ticketcore.catalogue_document import canonical_json, read_catalogue
from ticketcore.errors import InvalidInputError, TransientError

MAX_DOCUMENT = 4 * 2**20
log = logging.getLogger(__name__)


async def publish_catalogue(
    sales: Sales, caller: Caller, request: pb.PublishCatalogueRequest
) -> pb.PublishCatalogueResponse:
    """Checks the whole document, stores it as the next version if it differs, and pushes it to the cluster.

    The push is in the outbox too: with the cluster away, the catalogue is in force here and arrives there later. One
    that the cluster refuses stays in force here, and the answer says what the gates' side has against it.

    Raises:
        InvalidInputsError: with every fault of the document.
    """
    caller.check_is_service("publish a catalogue")
    if len(request.document) > MAX_DOCUMENT:
        raise InvalidInputError(f"document: has {len(request.document)} bytes, at most {MAX_DOCUMENT}")
    read_catalogue(request.document)
    document = canonical_json(json.loads(request.document))
    key = key_of(caller, request)
    response = await once(sales.books, key, pb.PublishCatalogueResponse(), lambda: _store(sales, key, document))
    sales.catalogues.forget_current()
    sales.outbox_filled.set()
    try:
        await sales.cluster.publish_catalogue(response.catalogue_version, document)
    except TransientError as error:
        log.warning("catalogue %d will reach the cluster later: %s", response.catalogue_version, error)
        response.pending = str(error)
    return response


async def _store(sales: Sales, key: RequestKey, document: bytes) -> pb.PublishCatalogueResponse:
    now = sales.clock()
    async with sales.database.transaction() as connection:
        await connection.execute(sa.text("LOCK TABLE sales.catalogues IN EXCLUSIVE MODE"))
        newest = sa.select(catalogues).order_by(catalogues.c.version.desc()).limit(1)
        last = (await connection.execute(newest)).one_or_none()
        changed = last is None or last.document.encode() != document
        version = (last.version if last else 0) + changed
        if changed:
            row = {"version": version, "document": document.decode(), "publish_time": now}
            await connection.execute(sa.insert(catalogues).values(row))
        payload = version.to_bytes(8, "big")
        await outbox.put(connection, outbox.row(b"catalogue", outbox.Kind.PUBLISH_CATALOGUE, payload, now))
        response = pb.PublishCatalogueResponse(catalogue_version=version, changed=changed)
        await remember(connection, key, response, now)
    return response
