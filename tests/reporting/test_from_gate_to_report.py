"""A real gate against the real cluster, carried into Postgres by real workers. Proves I6 over the whole line."""

from __future__ import annotations

import io
import json
from datetime import UTC
from pathlib import Path

from gateclient import GateConfig, run_gate
from gateclient.display import JsonDisplay
from ops.pki import Kind
from reporting.config import ReportingConfig
from reporting.database import connect, migrate
from reporting.log_reader import make_client
from reporting.queries.counts import postgres_book
from reporting.reconcile import compare
from reporting.recount import recount
from reporting.worker import PartitionWorker
from tests.cluster.harness import LocalCluster
from ticketcore.token import to_qr_text


async def test_what_the_gates_were_told_is_what_the_reports_say(
    postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    """I6."""
    cluster = LocalCluster(valkey_url, tmp_path)
    await cluster.start()
    try:
        product = next(name for name, item in cluster.catalogue.products.items() if not item.slot_schedule)
        zones = cluster.catalogue.products[product].zones
        gate = next(name for name, item in cluster.catalogue.gates.items() if item.zone in zones)
        good = [cluster.token(product) for _ in range(12)]
        await cluster.register(*good[:10])
        codes = [to_qr_text(token) for token in [*good, good[0], good[1], good[2][:-1] + b"\0"]]
        (tmp_path / "codes.txt").write_text("\n".join([*codes, "https://example.org"]) + "\n")
        device = cluster.pki.client(Kind.GATE, "device", [gate])
        config = GateConfig(
            (gate,),
            (f"localhost:{cluster.gateway.port}",),
            device.ca.parent,
            f"file:{tmp_path / 'codes.txt'}",
            not_passed_share=0.2,
            proof_seen=True,
        )
        out = io.StringIO()
        summary = await run_gate(config, display=JsonDisplay(out, UTC))
        assert summary.succeeded, out.getvalue()
        await migrate(postgres_url)
        names = tuple(f"p{number}" for number in range(cluster.config.partitions))
        reports = ReportingConfig(postgres_url, valkey_url, names, str(cluster.catalogue.venue.time_zone))
        for name in names:
            worker = PartitionWorker(reports, name)
            await worker.catch_up()
            await worker.close()
        client, connection = make_client(valkey_url), await connect(postgres_url)
        ledger, postgres = await recount(client, names), await postgres_book(connection)
        await client.aclose()
        await connection.close()
    finally:
        await cluster.stop()
    shown = [line for line in map(json.loads, out.getvalue().splitlines()) if line["event"] == "verdict"]
    assert [str(difference) for difference in compare([ledger, postgres])] == []
    assert postgres.counts["scans entry"].units == sum(line["decision"] == "ADMIT" for line in shown) > 8
    refused = sum(count.units for name, count in postgres.counts.items() if name.startswith("refused"))
    assert refused == sum(line["decision"] != "ADMIT" for line in shown) > 0
