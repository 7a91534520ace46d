"""Occupancy by zone, and how far each partition is read."""

from __future__ import annotations

from parkgate.reporting.v1 import reporting_pb2 as pb
from reporting.database import Connection
from reporting.queries.park import Park

_OCCUPANCY = """
SELECT zone_number, sum(came)::bigint, sum(went)::bigint FROM (
    SELECT zone_number, CASE WHEN kind IN (1, 2) THEN persons ELSE 0 END AS came,
           CASE WHEN kind = 3 THEN persons ELSE 0 END AS went
    FROM reporting.scan_minutes
    WHERE park_date = %(day)s::date AND decision = 1 AND gate_number <> ALL(%(uncounted)s)
    UNION ALL
    SELECT zone_number, CASE WHEN kind IN (1, 2) THEN -persons_given_back ELSE 0 END,
           CASE WHEN kind = 3 THEN -persons_given_back ELSE 0 END
    FROM reporting.passage_minutes WHERE park_date = %(day)s::date AND gate_number <> ALL(%(uncounted)s)
) AS moves GROUP BY 1 ORDER BY 1"""


async def occupancy(connection: Connection, day: str, park: Park) -> list[pb.OccupancyRow]:
    """Who came, went and is inside, by zone, on a civil day of the park. Nobody is carried over from the day before.

    A ride's gate counts entries only: who goes on it is in the park already, and nobody sees him leave it.
    """
    cursor = await connection.execute(_OCCUPANCY.encode(), {"day": day, "uncounted": sorted(park.uncounted_gates)})
    return [
        pb.OccupancyRow(
            zone_number=zone,
            persons_in=came,
            persons_out=went,
            persons_inside=came - went,
            zone_name=park.zones.get(zone, ""),
        )
        for zone, came, went in ((int(str(cell)) for cell in row) for row in await cursor.fetchall())
    ]


async def progress(connection: Connection) -> list[pb.PartitionProgress]:
    """How far each partition is read; what the ledger holds is not known here."""
    cursor = await connection.execute(
        "SELECT partition, sequence, coalesce((extract(epoch FROM entry_time) * 1000)::bigint, 0)"
        " FROM reporting.offsets ORDER BY 1"
    )
    return [
        pb.PartitionProgress(
            partition=str(name), reported_sequence=int(str(sequence)), reported_time_ms=int(str(time_ms))
        )
        for name, sequence, time_ms in await cursor.fetchall()
    ]
