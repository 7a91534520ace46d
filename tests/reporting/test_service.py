"""The reporting service over gRPC with mTLS, on the real views of sales. Proves I6."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import openpyxl
import psycopg
import pytest
import redis
from cryptography import x509
from ledger_writer import BusyDay, PartitionLog, admitted, changed, left, passage, refused, registered

from ops import pki
from ops.pki import Kind, Pair
from parkgate.events.v1 import events_pb2 as events
from parkgate.gate.v1 import gate_pb2 as gate
from parkgate.reporting.v1 import reporting_pb2 as pb
from reporting.client import ReportServer, ask_once, export_to, rows_of
from reporting.config import ReportingConfig
from reporting.database import make_pool, migrate
from reporting.log_reader import make_client
from reporting.service import start_server
from reporting.worker import PartitionWorker
from sales.catalogue_folder import load_folder
from sales.database import migrate as migrate_sales
from ticketcore.catalogue_document import canonical_json
from ticketcore.errors import InvalidInputError, NotPermittedError

NOW = datetime.now(UTC)
CATALOGUE = Path(__file__).parents[2] / "catalogue"
MAIN_GATE, RIDE_GATE = 11, 41
REVOKED: set[int] = set()
"""Serial numbers, for the service under test."""
TICKET = (
    "INSERT INTO sales.tickets VALUES (%(id)s, 1, 1, %(product)s, 'day', 'adult', %(channel)s, %(window)s,"
    " '2026-05-01', 1, 0, 1, %(price)s, 'EUR', 1, '{}', %(time)s, %(time)s, '2026-05-01', %(state)s, NULL, NULL,"
    " %(token)s)"
)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return pki.create_authority(NOW)


def folder_for(authority: Pair, path: Path, kind: Kind = Kind.FINANCE) -> Path:
    path.mkdir()
    pair, _ = pki.issue_client(authority, kind, "ann", pki.identities(kind, "ann", ("g",) * (kind is Kind.GATE)), NOW)
    for name, data in (("ca.pem", authority.certificate), ("ann.pem", pair.certificate), ("ann.key", pair.key)):
        (path / name).write_bytes(data)
    return path


@pytest.fixture
async def served(
    postgres_url: str, valkey_url: str, authority: Pair, tmp_path: Path
) -> AsyncIterator[tuple[ReportServer, ReportingConfig]]:
    await migrate(postgres_url)
    await migrate_sales(postgres_url)
    own = pki.issue_server(authority, "reporting", ["localhost", "127.0.0.1"], NOW)
    config = ReportingConfig(
        postgres_url,
        valkey_url,
        ("p0",),
        "Europe/Paris",
        port=0,
        ca=authority.certificate,
        cert=own.certificate,
        key=own.key,
        is_revoked=REVOKED.__contains__,
    )
    pool, client = make_pool(postgres_url), make_client(valkey_url)
    await pool.open()
    server, port = await start_server(config, pool, client)
    yield ReportServer(f"localhost:{port}", folder_for(authority, tmp_path / "ann")), config
    await server.stop(0)
    await pool.close()
    await client.aclose()


async def report(config: ReportingConfig) -> None:
    worker = PartitionWorker(config, "p0")
    await worker.catch_up()
    await worker.close()


def sell(config: ReportingConfig, tickets: list[tuple[int, int, str, str, int, str]]) -> None:
    """Puts (id, product, channel, window, price, lifecycle) into the books of sales; refunds keep a tenth."""
    with psycopg.connect(config.postgres_url) as books:
        books.execute("SET session_replication_role = replica")
        for number, product, channel, window, price, state in tickets:
            values = {"id": number, "product": product, "channel": channel, "window": window, "price": price}
            books.execute(TICKET, {**values, "state": state, "time": NOW, "token": bytes(81)})
            if state == "refunded":
                key, fee = number.to_bytes(16, "big"), price // 10
                books.execute(
                    "INSERT INTO sales.voids (id, request_id, position, kind, ticket_id, state, window_id, price_minor,"
                    " fee_minor, refund_minor, catalogue_version, request_time, settle_time, park_date,"
                    " next_attempt_time) VALUES (%s, %s, 0, 'refund', %s, 'done', %s, %s, %s, %s, 1, %s, %s,"
                    " '2026-05-02', %s)",
                    (key, bytes(16), number, window, price, fee, price - fee, NOW, NOW, NOW),
                )


def publish(config: ReportingConfig, version: int = 1, **renamed: str) -> None:
    """Publishes the shipped park, whose zone 1 is the park itself, with some gates under other names."""
    document, _ = load_folder(CATALOGUE)
    for gate_row in document["gates"]:
        gate_row["name"] = renamed.get(gate_row["id"].replace("-", "_"), gate_row["name"])
    with psycopg.connect(config.postgres_url) as books:
        values = (version, canonical_json(document).decode(), NOW)
        books.execute("INSERT INTO sales.catalogues VALUES (%s, %s, %s)", values)


async def a_day(config: ReportingConfig, ledger: redis.Redis) -> None:
    """Five tickets: one admitted, one refunded, one turned back, one untouched, one admitted and gone again."""
    sell(
        config,
        [
            (1, 1, "window", "w1", 5_000, "active"),
            (2, 1, "window", "w2", 4_999, "refunded"),
            (3, 2, "web", "", 3_333, "active"),
            (4, 2, "web", "", 1, "active"),
            (5, 2, "window", "w1", 2_500, "active"),
        ],
    )
    log = PartitionLog(ledger, "p0")
    prices = {1: (1, 5_000), 2: (1, 4_999), 3: (2, 3_333), 4: (2, 1), 5: (2, 2_500)}
    log.append([registered(ticket, product, price) for ticket, (product, price) in prices.items()])
    turned_back = admitted(3, 2, product=2, persons=2)
    log.append([admitted(1, 1), turned_back, changed(2, events.LIFECYCLE_REFUNDED, 1, 4_999)])
    log.append([passage(turned_back, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
    log.append([admitted(5, 3, product=2, persons=3), refused(1, 4, gate.REASON_ALREADY_USED)])
    log.time_ms += 3_600_000
    log.append([left(5, 5, product=2, persons=2), refused(2, 6, gate.REASON_REFUNDED)])
    await report(config)


@pytest.fixture
def ledger(valkey_url: str) -> redis.Redis:
    return redis.Redis.from_url(valkey_url)


async def test_the_finance_report_foots_row_by_row_and_in_total(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    """I6: to the cent."""
    server, config = served
    await a_day(config, ledger)
    by = [pb.DIMENSION_PRODUCT, pb.DIMENSION_CHANNEL, pb.DIMENSION_WINDOW]
    rows, (total,) = await rows_of(server, pb.QueryFinanceRequest(group_by=by))
    found = {
        (row.group.product_number, row.group.channel, row.group.window_id): (
            row.sold_minor,
            row.refunded_minor,
            row.fees_minor,
            row.admitted_minor,
            row.deferred_minor,
        )
        for row in rows
    }
    assert found == {
        (1, "window", "w1"): (5_000, 0, 0, 5_000, 0),
        (1, "window", "w2"): (4_999, 4_500, 499, 0, 0),
        (2, "web", ""): (3_334, 0, 0, 0, 3_334),
        (2, "window", "w1"): (2_500, 0, 0, 2_500, 0),
    }
    assert total.sold_minor - total.refunded_minor - total.recognised_minor == total.deferred_minor == 3_334
    assert (total.currency, total.tickets_sold, total.tickets_admitted) == ("EUR", 5, 2)
    by_day, _ = await rows_of(server, pb.QueryFinanceRequest(group_by=[pb.DIMENSION_DAY]))
    assert [(row.group.park_date, row.refunded_minor) for row in by_day] == [("2026-05-01", 0), ("2026-05-02", 4_500)]


async def test_the_three_books_agree_and_a_missing_cent_is_named(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    """I6."""
    server, config = served
    await a_day(config, ledger)
    assert list((await ask_once(server, pb.GetCountsRequest())).differences) == []
    with psycopg.connect(config.postgres_url) as books:
        books.execute("UPDATE sales.tickets SET price_minor = 5001 WHERE id = 1")
    answer = await ask_once(server, pb.GetCountsRequest())
    assert list(answer.differences) == [
        "registered product=1: sales 2 (10000 minor), postgres 2 (9999 minor), ledger 2 (9999 minor)"
    ]


async def test_scans_are_counted_by_hour_gate_and_reason(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    server, config = served
    await a_day(config, ledger)
    refusals = pb.QueryScansRequest(
        group_by=[pb.DIMENSION_HOUR, pb.DIMENSION_REASON], selection=pb.SCAN_SELECTION_REFUSED
    )
    rows, (total,) = await rows_of(server, refusals)
    assert [(row.group.start_time_ms, row.group.start_text, row.group.reason, row.scans) for row in rows] == [
        (1_777_622_400_000, "2026-05-01 10:00", "ALREADY_USED", 1),
        (1_777_626_000_000, "2026-05-01 11:00", "REFUNDED", 1),
    ]
    assert total.scans == 2
    _, (persons,) = await rows_of(server, pb.QueryScansRequest(group_by=[pb.DIMENSION_GATE]))
    assert (persons.scans, persons.persons_in, persons.persons_out, persons.persons_given_back) == (6, 6, 2, 2)


async def test_occupancy_is_who_came_less_who_went_and_who_turned_back(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    server, config = served
    await a_day(config, ledger)
    answer = await ask_once(server, pb.QueryOccupancyRequest(park_date="2026-05-01"))
    assert [(row.zone_number, row.persons_in, row.persons_out, row.persons_inside) for row in answer.rows] == [
        (1, 4, 2, 2)
    ]


async def test_a_ride_counts_its_entries_and_nobody_as_inside(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    server, config = served
    ride, turned_back, main = admitted(1, 1, persons=3), admitted(2, 2, persons=2), admitted(3, 3, persons=4)
    for event, number in ((ride, RIDE_GATE), (turned_back, RIDE_GATE), (main, MAIN_GATE)):
        event.scan_decided.gate_number = number
    log = PartitionLog(ledger, "p0")
    log.append([ride, turned_back, main, passage(turned_back, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
    await report(config)
    asked = pb.QueryOccupancyRequest(park_date="2026-05-01")
    (blind,) = (await ask_once(server, asked)).rows
    assert (blind.persons_inside, blind.zone_name) == (7, "")
    publish(config)
    (row,) = (await ask_once(server, asked)).rows
    assert (row.persons_in, row.persons_out, row.persons_inside, row.zone_name) == (4, 0, 4, "Park")
    _, (persons,) = await rows_of(server, pb.QueryScansRequest(group_by=[pb.DIMENSION_GATE]))
    assert (persons.persons_in, persons.persons_given_back) == (9, 2)


async def test_rows_name_products_gates_and_zones_as_the_newest_catalogue_does(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    server, config = served
    publish(config)
    event = admitted(1, 1)
    event.scan_decided.gate_number = MAIN_GATE
    PartitionLog(ledger, "p0").append([registered(1), event, admitted(9, 2, product=999)])
    await report(config)
    by = [pb.DIMENSION_GATE, pb.DIMENSION_PRODUCT, pb.DIMENSION_ZONE]
    rows, _ = await rows_of(server, pb.QueryScansRequest(group_by=by))
    named = [(row.group.gate_name, row.group.product_name, row.group.zone_name) for row in rows]
    assert named == [("", "", "Park"), ("Main entrance, lane 1", "Day ticket", "Park")]
    publish(config, 2, main_1="South gate")
    rows, _ = await rows_of(server, pb.QueryScansRequest(group_by=by))
    assert [row.group.gate_name for row in rows] == ["", "South gate"]
    counted = {one.name: one.product_name for one in (await ask_once(server, pb.GetCountsRequest())).postgres}
    assert (counted["registered product=1"], counted["scans entry"]) == ("Day ticket", "")


async def test_pages_hold_every_row_once(served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis) -> None:
    server, config = served
    BusyDay(PartitionLog(ledger, "p0"), random.Random(1), 1_000).write(60)
    await report(config)
    request = pb.QueryScansRequest(group_by=[pb.DIMENSION_MINUTE, pb.DIMENSION_GATE, pb.DIMENSION_REASON])
    whole, _ = await rows_of(server, request)
    pages = []
    request.page_size, request.page_token = 7, ""
    while True:
        answer = await ask_once(server, request)
        pages += answer.rows
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert len(whole) > 20
    assert pages == whole


async def test_exports_hold_the_rows_of_the_report_and_foot(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis, tmp_path: Path
) -> None:
    server, config = served
    await a_day(config, ledger)
    request = pb.ExportRequest(report=pb.REPORT_FINANCE, group_by=[pb.DIMENSION_PRODUCT], format=pb.FILE_FORMAT_XLSX)
    assert await export_to(server, request, tmp_path / "f.xlsx", lambda _: None) == 2
    heading, *rows, total = openpyxl.load_workbook(tmp_path / "f.xlsx").active.iter_rows(values_only=True)  # type: ignore[union-attr]
    sold, deferred = heading.index("sold"), heading.index("deferred")
    assert [(row[sold], row[deferred]) for row in rows] == [(99.99, 0), (58.34, 33.34)]
    assert total[0] == "Total"
    assert all(total[column] == pytest.approx(sum(row[column] for row in rows)) for column in range(3, len(heading)))
    request.format = pb.FILE_FORMAT_CSV
    await export_to(server, request, tmp_path / "f.csv", lambda _: None)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text())))
    assert [(line["product"], line["sold"], line["deferred"]) for line in lines] == [
        ("1", "99.99", "0.00"),
        ("2", "58.34", "33.34"),
    ]


@pytest.mark.parametrize(
    ("request_of", "says"),
    [
        (pb.QueryFinanceRequest(period=pb.Period(from_date="1 May")), "not a date"),
        (pb.QueryFinanceRequest(period=pb.Period(from_date="2026-05-02", to_date="2026-05-01")), "ends"),
        (pb.QuerySalesRequest(group_by=[pb.DIMENSION_GATE]), "cannot be grouped"),
        (pb.QueryScansRequest(group_by=[pb.DIMENSION_DAY, pb.DIMENSION_DAY]), "twice"),
        (pb.QueryScansRequest(page_token="x"), "page_token"),
        (pb.QueryScansRequest(page_size=10_001), "page_size"),
    ],
)
async def test_a_request_that_cannot_be_is_refused_with_words(
    served: tuple[ReportServer, ReportingConfig], request_of: object, says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says):
        await ask_once(served[0], request_of)


async def test_a_certificate_that_was_revoked_is_refused_from_the_next_call_on(
    served: tuple[ReportServer, ReportingConfig], authority: Pair, tmp_path: Path
) -> None:
    folder = folder_for(authority, tmp_path / "bob")
    bob = ReportServer(served[0].address, folder)
    await ask_once(bob, pb.GetProgressRequest())
    REVOKED.add(x509.load_pem_x509_certificate((folder / "ann.pem").read_bytes()).serial_number)
    with pytest.raises(NotPermittedError, match="was revoked"):
        await ask_once(bob, pb.GetProgressRequest())


async def test_only_finance_and_services_may_ask(
    served: tuple[ReportServer, ReportingConfig], authority: Pair, tmp_path: Path
) -> None:
    server, _ = served
    for kind, allowed in ((Kind.SERVICE, True), (Kind.GATE, False), (Kind.WINDOW, False)):
        other = ReportServer(server.address, folder_for(authority, tmp_path / str(kind), kind))
        if allowed:
            await ask_once(other, pb.GetProgressRequest())
            continue
        with pytest.raises(NotPermittedError):
            await ask_once(other, pb.GetProgressRequest())


async def test_progress_tells_the_lag_and_health_and_reflection_are_served(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    server, config = served
    log = PartitionLog(ledger, "p0")
    log.append([registered(1)])
    await report(config)
    log.append([registered(2)])
    (row,) = (await ask_once(server, pb.GetProgressRequest())).partitions
    assert (row.partition, row.reported_sequence, row.ledger_sequence, row.lag_entries) == ("p0", 1, 2, 1)
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    assert isinstance(channel, grpc.aio.Channel)
