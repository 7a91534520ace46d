"""A short `make chaos` of real processes, so that the nemesis does not rot; and the checker on what it finds there."""

from __future__ import annotations

import psycopg
import pytest

from tests.chaos.processes.faults import ONE_NODE
from tests.chaos.processes.rows import as_row, rehearse
from tests.chaos.processes.settings import one_node
from tests.chaos.processes.trial import Trial, examine
from tests.system.stack import tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(180)]

FAULTS = ("kill-owner", "stop-valkey")
SPOIL = """
DELETE FROM reporting.passage_runs
WHERE (partition, sequence) = (SELECT partition, sequence FROM reporting.passage_runs ORDER BY 1, 2 LIMIT 1)
"""


async def test_every_promise_is_kept_by_real_processes_that_die_and_stand_still() -> None:
    """I1 to I10"""
    with one_node() as park:
        trials: list[Trial] = []
        await rehearse(park, [fault for fault in ONE_NODE if fault.name in FAULTS], [1], tell, trials.append)
        rows = {trial.fault.name: as_row([trial]) for trial in trials}
        assert {name: row.violations for name, row in rows.items()} == dict.fromkeys(FAULTS, ())
        assert min(row.admitted for row in rows.values()) > 30
        # And if facts are lost between ledger and books, or one gate was told something else, it is found.
        with psycopg.connect(park.stack.endpoints.postgres_url) as connection:
            assert connection.execute(SPOIL).rowcount >= 1
        told = next(item for item in park.history.of("verdict") if item.answer["decision"] == "REJECT")
        told.answer |= {"decision": "ADMIT", "persons": 1}
        assert {item.promise for item in examine(park, [])} == {"I2", "I3"}
