"""What `parkgate status` says of a ledger that grows because nobody reads it (I10), of one that is damaged (I6), and of
a catalogue that gates do not decide by.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.commands import status
from ops.screen import show_pending
from ops.settings import Settings, load
from parkgate.cluster.v1.control_pb2 import GetStatusResponse, PartitionStatus
from parkgate.sales.v1.sales_pb2 import GetCatalogueResponse


@pytest.mark.parametrize(("used", "shown"), [(49, False), (50, True), (130, True)])
def test_a_backlog_is_shown_from_half_of_its_limit_on(
    capsys: pytest.CaptureFixture[str], used: int, shown: bool
) -> None:
    status._print_backlog(GetStatusResponse(unreported_bytes=used << 20, unreported_limit_bytes=100 << 20))
    said = capsys.readouterr().out
    assert (f"{used} % of the limit" in " ".join(said.split())) is shown


def test_a_stopped_partition_is_named_with_what_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    well = PartitionStatus(partition="p1")
    stopped = PartitionStatus(partition="p0", damage="entry 7 of the log of p0 is damaged")
    status._print_damage(GetStatusResponse(partitions=[well, stopped]))
    said = " ".join(capsys.readouterr().out.split())
    assert "Partition p0 is stopped: entry 7 of the log of p0 is damaged" in said
    assert "p1" not in said


def test_a_catalogue_that_gates_do_not_decide_by_is_said_with_what_is_against_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_pending(6, "")
    assert capsys.readouterr().out == ""
    show_pending(7, "the ticket cluster refuses: zone [lake] has 3 persons inside")
    said = " ".join(capsys.readouterr().out.split())
    assert "by catalogue 7" in said
    assert "an earlier one: the ticket cluster refuses: zone [lake] has 3 persons inside." in said


async def test_a_cluster_that_does_not_answer_adds_nothing(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Settings) -> GetStatusResponse:
        raise ConnectionError

    async def there(_: Settings) -> GetCatalogueResponse:
        return GetCatalogueResponse(catalogue_version=7)

    monkeypatch.setattr(status, "_ask_cluster", away)
    monkeypatch.setattr(status, "_ask_sales", there)
    cluster, catalogue = await status._ask_both(load(environ={"PARKGATE_DATA_DIR": str(data_dir)}))
    assert cluster is None
    assert catalogue is not None
    assert catalogue.catalogue_version == 7
    status._print_backlog(cluster)
    status._print_damage(cluster)
    assert capsys.readouterr().out == ""
