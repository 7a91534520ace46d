"""`parkgate down` and `up` again: everything is as it was."""

from __future__ import annotations

import pytest

from ops import clients
from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from parkgate.reporting.v1 import reporting_pb2
from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceStub
from parkgate.sales.v1 import sales_pb2
from tests.system import traffic as day
from tests.system.stack import Stack, tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(180)]

EVERYTHING = reporting_pb2.Period()


async def test_everything_is_kept_over_a_restart(stack: Stack) -> None:
    """I2, I3, I6."""
    (ticket,) = await day.sell(stack, "water", 1, day.today(stack))
    told: list[day.Told] = []
    async with day.Turnstile(stack, "water-1", told) as turnstile:
        assert (await turnstile.scan(ticket.token)).decision == gate_pb2.DECISION_ADMIT
    async with day.Turnstile(stack, "water-2", told) as turnstile:
        used = await turnstile.scan(ticket.token)
    assert used.reason == gate_pb2.REASON_ALREADY_USED
    await day.wait_reported(stack)
    before = await what_is_known(stack)
    stack.down()
    tell(f"up again after {stack.up():.1f} s")
    assert await what_is_known(stack) == before
    async with day.Turnstile(stack, "water-2", []) as turnstile:
        again = await turnstile.scan(ticket.token)
    assert (again.decision, again.reason) == (gate_pb2.DECISION_REJECT, gate_pb2.REASON_ALREADY_USED)
    assert (again.first_use, again.last_use) == (used.first_use, used.last_use)
    assert again.first_use.admit_time_ms
    await day.check_same_answers(stack, told)


async def what_is_known(stack: Stack) -> dict[str, object]:
    """Catalogue, quotas, occupancy and reports, as the services tell them."""
    async with stack.control() as stub:
        status = await stub.GetStatus(control_pb2.GetStatusRequest())
        quotas = await stub.GetQuotas(control_pb2.GetQuotasRequest())
        occupancy = await stub.GetOccupancy(control_pb2.GetOccupancyRequest())
    async with stack.sales() as stub:
        catalogue = await stub.GetCatalogue(sales_pb2.GetCatalogueRequest())
    by_gate = [reporting_pb2.DIMENSION_GATE, reporting_pb2.DIMENSION_REASON]
    by_product = [reporting_pb2.DIMENSION_PRODUCT, reporting_pb2.DIMENSION_CHANNEL]
    async with clients.channel(stack.settings, stack.settings.reporting_port) as channel:
        reports = ReportingServiceStub(channel)
        scans = await reports.QueryScans(reporting_pb2.QueryScansRequest(period=EVERYTHING, group_by=by_gate))
        finance = await reports.QueryFinance(reporting_pb2.QueryFinanceRequest(period=EVERYTHING, group_by=by_product))
        counts = await reports.GetCounts(reporting_pb2.GetCountsRequest())
    return {
        "catalogue in force": status.catalogue_version,
        "tickets": {one.partition: one.tickets for one in status.partitions},
        "catalogue": catalogue,
        "quotas": quotas,
        "inside": {zone.zone_number: (zone.inside, zone.capacity) for zone in occupancy.zones},
        "scans": (list(scans.rows), scans.total),
        "finance": (list(finance.rows), list(finance.totals)),
        "counts": counts,
    }
