"""The events of a log one by one: a run stands for as many single events in its place."""

from __future__ import annotations

from collections.abc import Iterator

from parkgate.events.v1 import events_pb2


def elementary(entry: events_pb2.LogEntry) -> Iterator[events_pb2.Event]:
    """Each event of an entry, runs taken apart."""
    for event in entry.events:
        match event.WhichOneof("body"):
            case "scans_admitted":
                yield from admissions(event.scans_admitted)
            case "passages_recorded":
                yield from passages(event.passages_recorded)
            case _:
                yield event


def admissions(run: events_pb2.ScansAdmitted) -> Iterator[events_pb2.Event]:
    assert len(run.scan_ids) == 16 * len(run.ticket_ids)
    for place, (ticket_id, gate, time_ms) in enumerate(
        zip(run.ticket_ids, run.gate_numbers, run.scan_times_ms, strict=True)
    ):
        single = events_pb2.Event(scan_decided=run.alike)
        scan = single.scan_decided
        scan.scan_id = run.scan_ids[16 * place : 16 * place + 16]
        scan.ticket_id, scan.gate_number, scan.scan_time_ms = ticket_id, gate, time_ms
        yield single


def passages(run: events_pb2.PassagesRecorded) -> Iterator[events_pb2.Event]:
    assert len(run.scan_ids) == 16 * len(run.ticket_ids)
    for place, (ticket_id, gate) in enumerate(zip(run.ticket_ids, run.gate_numbers, strict=True)):
        single = events_pb2.Event(passage_recorded=run.alike)
        passage = single.passage_recorded
        passage.scan_id = run.scan_ids[16 * place : 16 * place + 16]
        passage.ticket_id, passage.gate_number = ticket_id, gate
        yield single
