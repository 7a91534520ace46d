"""A device's stream against a real gRPC server: frames, retries, broken lines, receipts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from loadtest.surge.stream import Shot, Stream, Traffic
from parkgate.gate.v1 import gate_pb2 as pb
from tests.surge.gate_stub import Answer, Gateway, admit, serving, until


class Told:
    """What a stream told of its scans."""

    def __init__(self) -> None:
        self.verdicts: list[pb.Verdict] = []

    def shot(self, number: int, *, bulk: bool = False) -> Shot:
        scan = pb.Scan(scan_id=number.to_bytes(16, "big"), token=bytes(81))
        return Shot(scan, time.monotonic(), lambda _shot, verdict, _now: self.verdicts.append(verdict), bulk=bulk)


@asynccontextmanager
async def streaming(answer: Answer, *, coalesces: bool = False) -> AsyncIterator[tuple[Stream, Gateway, Told]]:
    async with serving(answer) as (gateway, line):
        stream = Stream(line, ("main-1",), coalesces, Traffic())
        task = asyncio.create_task(stream.run())
        try:
            async with asyncio.timeout(5):
                await stream.welcome.wait()
            yield stream, gateway, Told()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(("coalesces", "bulk", "frames"), [(False, False, 5), (True, False, 1), (False, True, 1)])
async def test_a_turnstile_sends_one_scan_a_frame_and_a_controller_many(
    coalesces: bool, bulk: bool, frames: int
) -> None:
    async with streaming(admit, coalesces=coalesces) as (stream, gateway, told):
        for number in range(5):
            stream.send(told.shot(number, bulk=bulk))
        await until(lambda: len(told.verdicts) == 5)
        assert len(gateway.frames) == frames
        assert stream.unanswered == 0


async def test_a_scan_that_is_told_to_retry_is_sent_again_with_its_id() -> None:
    asked: list[bytes] = []

    def retry_first(frame: pb.ClientFrame) -> pb.ServerFrame:
        asked.append(frame.scans[0].scan_id)
        if len(asked) > 1:
            return admit(frame)
        retry = pb.Verdict(scan_id=asked[0], decision=pb.DECISION_RETRY, retry_after_ms=5)
        return pb.ServerFrame(verdicts=[retry])

    async with streaming(retry_first) as (stream, _, told):
        stream.send(told.shot(1))
        await until(lambda: len(told.verdicts) == 1)
        assert asked == [asked[0]] * 2
        assert stream.traffic.retries == 1


async def test_what_was_not_answered_when_the_stream_broke_is_sent_again_with_its_id() -> None:
    broken = False

    def break_once(frame: pb.ClientFrame) -> pb.ServerFrame | None:
        nonlocal broken
        if frame.scans and not broken:
            broken = True
            return None
        return admit(frame)

    async with streaming(break_once) as (stream, gateway, told):
        stream.send(told.shot(1))
        await until(lambda: len(told.verdicts) == 1)
        assert [frame.scans[0].scan_id for frame in gateway.frames] == [(1).to_bytes(16, "big")] * 2
        assert (gateway.streams, stream.traffic.reconnects, stream.traffic.resent) == (2, 1, 1)


async def test_a_stream_that_is_cancelled_ends_also_once_it_was_welcome() -> None:
    async with serving(admit) as (_, line):
        stream = Stream(line, ("main-1",), False, Traffic())
        task = asyncio.create_task(stream.run())
        await asyncio.wait_for(stream.welcome.wait(), 5)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert stream.traffic.connected == stream.traffic.reconnects == 0


async def test_a_channel_that_is_closed_under_a_stream_is_a_broken_line() -> None:
    async with serving(admit) as (gateway, line), serving(admit) as (other, second):
        lines = iter((line, second))

        class Cut:
            async def channel(self) -> grpc.aio.Channel:
                return await next(lines).channel()

        task = asyncio.create_task(Stream(Cut(), ("main-1",), False, Traffic()).run())
        await until(lambda: gateway.streams == 1)
        await line.close()
        await until(lambda: other.streams == 1)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def test_a_passage_travels_with_the_next_scan_and_is_reported_until_it_is_booked() -> None:
    refused = False

    def book_second(frame: pb.ClientFrame) -> pb.ServerFrame:
        nonlocal refused
        answer = admit(frame)
        if frame.passages and not refused:
            refused = True
            answer.receipts[0].recorded = pb.PASSAGE_OUTCOME_UNSPECIFIED
            answer.receipts[0].retry_after_ms = 5
        return answer

    async with streaming(book_second) as (stream, gateway, told):
        booked: list[bool] = []
        report = pb.PassageReport(scan_id=bytes(16), ticket_id=1, outcome=pb.PASSAGE_OUTCOME_PASSED)
        stream.report(report, lambda: booked.append(True))
        stream.send(told.shot(1))
        await until(lambda: booked == [True])
        assert gateway.frames[0].scans
        assert gateway.frames[0].passages
        assert sum(len(frame.passages) for frame in gateway.frames) == 2
        assert stream.unanswered == 0


async def test_a_silent_device_says_that_it_is_there() -> None:
    async with streaming(admit) as (stream, gateway, _):
        stream.beat()
        await until(lambda: len(gateway.frames) == 1)
        assert gateway.frames[0].heartbeat.device_time_ms > 0


async def test_a_scan_knows_when_the_generator_handed_it_over() -> None:
    async with streaming(admit) as (stream, _, told):
        shot = told.shot(1)
        stream.send(shot)
        assert 0 <= shot.handed - shot.due < 1
        first = shot.handed
        await until(lambda: len(told.verdicts) == 1)
        assert shot.handed == first
