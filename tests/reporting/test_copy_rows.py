"""Every column of every event row as Postgres reads it back, for single events and for runs alike."""

from __future__ import annotations

from datetime import UTC, date, datetime

import psycopg
import pytest
import redis
from ledger_writer import START_MS, PartitionLog, admitted, columns_of, passage, refused

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.config import ReportingConfig
from reporting.copy_rows import LAST_MS, micros_of
from reporting.database import migrate
from reporting.worker import PartitionWorker
from ticketcore.errors import DamagedDataError

WHEN = datetime.fromtimestamp(START_MS / 1000, UTC)
DAY = date(2026, 5, 1)
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


async def carried(postgres_url: str, valkey_url: str, *events: pb.Event) -> dict[str, list[dict[str, object]]]:
    """The rows of each table, in order, after one entry with these events."""
    await migrate(postgres_url)
    with redis.Redis.from_url(valkey_url) as client:
        PartitionLog(client, "p31").append(events)
    worker = PartitionWorker(ReportingConfig(postgres_url, valkey_url, ("p31",), "Europe/Paris"), "p31")
    try:
        await worker.catch_up()
    finally:
        await worker.close()
    tables = {"scan_events": "position", "passage_events": "position", "first_admissions": "ticket_id"}
    with psycopg.connect(postgres_url, row_factory=psycopg.rows.dict_row, options="-c timezone=UTC") as books:
        return {
            table: books.execute(f"SELECT * FROM reporting.{table} ORDER BY {order}".encode()).fetchall()
            for table, order in tables.items()
        }


def telling(event: pb.Event) -> pb.Event:
    """The event with another value in every field, so that no two columns can be exchanged unseen."""
    scan = event.scan_decided
    scan.zone_number, scan.product_number, scan.scan_time_ms = 7, 8, START_MS - 1
    scan.verification = gate.VERIFICATION_SIGNATURE
    return event


async def test_every_column_of_a_scan_is_read_back_as_it_was_logged(postgres_url: str, valkey_url: str) -> None:
    first, second = telling(admitted(41, 2, persons=3)), telling(admitted(42, 3, persons=3))
    other = telling(refused(2**64 - 1, 9, gate.REASON_ALREADY_USED))
    other.scan_decided.direction = gate.DIRECTION_EXIT
    rows = await carried(postgres_url, valkey_url, columns_of([first, second]), other)
    shared = {"park_date": DAY, "partition": "p31", "sequence": 1, "event_time": WHEN, "zone_number": 7}
    shared |= {"product_number": 8, "scan_time": datetime.fromtimestamp((START_MS - 1) / 1000, UTC)}
    admission = shared | {"direction": 1, "decision": 1, "reason": 0, "kind": 1, "persons": 3, "first_admission": True}
    admission["verification"] = int(gate.VERIFICATION_SIGNATURE)
    assert rows["scan_events"] == [
        admission | {"position": 0, "scan_id": (2).to_bytes(16, "big"), "ticket_id": 41, "gate_number": 3},
        admission | {"position": 1, "scan_id": (3).to_bytes(16, "big"), "ticket_id": 42, "gate_number": 4},
        admission
        | {"position": 2, "scan_id": (9).to_bytes(16, "big"), "ticket_id": -1, "gate_number": 5, "persons": 0}
        | {"direction": 2, "decision": 2, "reason": int(gate.REASON_ALREADY_USED), "kind": 0, "first_admission": False},
    ]
    one = {"partition": "p31", "park_date": DAY, "admit_time": WHEN, "product_number": 8}
    assert rows["first_admissions"] == [
        one | {"ticket_id": 41, "gate_number": 3, "scan_id": (2).to_bytes(16, "big")},
        one | {"ticket_id": 42, "gate_number": 4, "scan_id": (3).to_bytes(16, "big")},
    ]


async def test_every_column_of_a_passage_is_read_back_as_it_was_logged(postgres_url: str, valkey_url: str) -> None:
    first, second = telling(admitted(41, 2, persons=3)), telling(admitted(42, 3, persons=3))
    run = columns_of([passage(first, gate.PASSAGE_OUTCOME_PASSED)])
    back = passage(second, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)
    rows = await carried(postgres_url, valkey_url, second, run, back)
    shared = {"park_date": DAY, "partition": "p31", "sequence": 1, "event_time": WHEN, "zone_number": 7}
    shared |= {"product_number": 8, "kind": 1}
    assert rows["passage_events"] == [
        shared
        | {"position": 1, "scan_id": (2).to_bytes(16, "big"), "ticket_id": 41, "gate_number": 3}
        | {"outcome": 1, "persons_given_back": 0, "first_admission_undone": False},
        shared
        | {"position": 2, "scan_id": (3).to_bytes(16, "big"), "ticket_id": 42, "gate_number": 4}
        | {"outcome": 2, "persons_given_back": 3, "first_admission_undone": True},
    ]
    assert rows["first_admissions"] == []


@pytest.mark.parametrize(("time_ms", "read"), [(-(2**63), datetime(1970, 1, 1, tzinfo=UTC)), (2**63 - 1, LAST)])
async def test_a_device_with_a_mad_clock_is_kept_at_an_end_of_the_calendar(
    postgres_url: str, valkey_url: str, time_ms: int, read: datetime
) -> None:
    mad, sane = admitted(1, 1), admitted(2, 2)
    mad.scan_decided.scan_time_ms = time_ms
    rows = await carried(postgres_url, valkey_url, columns_of([mad, sane]))
    assert [row["scan_time"] for row in rows["scan_events"]] == [read, WHEN]
    assert micros_of(LAST_MS + 1) == micros_of(LAST_MS)


@pytest.mark.parametrize("column", ["scan_ids", "ticket_ids", "gate_numbers", "scan_times_ms"])
async def test_a_run_whose_columns_differ_in_length_stops_the_partition(
    postgres_url: str, valkey_url: str, column: str
) -> None:
    run = columns_of([admitted(1, 1), admitted(2, 2)])
    short = getattr(run.scans_admitted, column)[:-1]
    run.scans_admitted.ClearField(column)
    run.scans_admitted.MergeFrom(pb.ScansAdmitted(**{column: short}))
    with pytest.raises(DamagedDataError, match="columns that differ in length"):
        await carried(postgres_url, valkey_url, run)
