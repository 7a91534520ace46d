"""Readers: what goes in by hand, by file and by wire comes out as codes, bounded whatever is sent."""

from __future__ import annotations

import asyncio
import io
import os
import random
import tty
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
import segno
from PIL import Image

from gateclient.readers import (
    Crowd,
    FileReader,
    Framer,
    LineReader,
    ReadCode,
    Reader,
    SerialReader,
    SimulatedReader,
    open_source,
    read_image,
)
from gateclient.readers.base import MAX_LINE_BYTES
from gateclient.readers.outage import Outage
from gateclient.scans import Debouncer, LaneSetting, make_scan
from ticketcore.errors import InvalidInputError
from ticketcore.token import TOKEN_LENGTH, to_qr_text

TOKEN = bytes((0x21, *range(80)))


async def all_of(reader: Reader) -> list[ReadCode]:
    return [code async for code in reader.codes()]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_a_code_ends_at_cr_lf_or_both_and_is_one_code(end: bytes) -> None:
    assert Framer().feed(b"ABC" + end + b"DE F " + end, 0) == ["ABC", "DE F "]


@pytest.mark.parametrize(("pause_ms", "codes"), [(79, []), (80, ["ABC"]), (81, ["ABC"])])
def test_a_code_without_an_end_is_ended_by_a_pause(pause_ms: int, codes: list[str]) -> None:
    framer = Framer(idle_gap_ms=80)
    assert framer.feed(b"ABC", 0) == []
    assert framer.pause(pause_ms) == codes


def test_a_code_in_pieces_is_one_code_while_the_pieces_follow_closely() -> None:
    framer = Framer(idle_gap_ms=80)
    assert framer.feed(b"AB", 0) == []
    assert framer.feed(b"C", 50) == []
    assert framer.feed(b"D\r", 100) == ["ABCD"]


@pytest.mark.parametrize(("length", "codes"), [(9, 2), (10, 2), (11, 1)])
def test_an_overlong_code_is_dropped_to_its_end_and_counted(length: int, codes: int) -> None:
    framer = Framer(max_bytes=10)
    assert len(framer.feed(b"x" * length + b"\nOK\n", 0)) == codes
    assert framer.dropped == 2 - codes


def test_any_garbage_leaves_the_framer_bounded_and_ready() -> None:
    chance = random.Random(5)
    framer = Framer(max_bytes=64)
    for now_ms in range(2_000):
        for code in framer.feed(chance.randbytes(chance.randint(0, 40)), now_ms):
            assert len(code) <= 64
        assert len(framer._held) <= 64
    assert framer.feed(b"\nOK\n", 2_000)[-1] == "OK"


async def test_lines_are_codes_with_their_spaces_kept_and_may_name_a_gate() -> None:
    text = b"# comment\nAB C \r\n\nnorth-2\tXY \nlast"
    codes = await all_of(LineReader(io.BytesIO(text), "stdin"))
    assert [(code.gate_id, code.text) for code in codes] == [("", "AB C "), ("north-2", "XY "), ("", "last")]
    assert codes[1].origin == "stdin line 4"


async def test_a_line_without_end_is_cut_and_the_next_one_is_read() -> None:
    stream = io.BytesIO(b"A" * (MAX_LINE_BYTES * 50) + b"\nOK\n")
    codes = await all_of(LineReader(stream, "stdin"))
    assert [len(code.text) for code in codes] == [MAX_LINE_BYTES, 2]


async def test_a_folder_of_images_and_text_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    text = to_qr_text(TOKEN)
    segno.make(text, error="m", micro=False).save(tmp_path / "a.png", scale=4)
    with Image.open(tmp_path / "a.png") as image:
        image.convert("RGB").rotate(90).save(tmp_path / "c.jpg", quality=80)
    (tmp_path / "b.txt").write_text("ONE\nTWO\n")
    (tmp_path / "d.png").write_bytes(b"no image")
    Image.new("L", (200, 200), 255).save(tmp_path / "e.png")
    (tmp_path / "notes.md").write_text("not read")
    reader = FileReader(tmp_path)
    assert [code.text for code in await all_of(reader)] == [text, "ONE", "TWO", text]
    assert len(reader.problems) == 2
    assert "d.png cannot be read" in reader.problems[0]
    assert "e.png holds no readable QR code" in reader.problems[1]


def test_an_image_that_is_cut_off_is_named(tmp_path: Path) -> None:
    segno.make("HELLO").save(tmp_path / "a.png", scale=8)
    data = (tmp_path / "a.png").read_bytes()
    for length in range(0, len(data) - 60, 7):
        (tmp_path / "cut.png").write_bytes(data[:length])
        with pytest.raises(InvalidInputError, match=r"cut\.png"):
            list(read_image(tmp_path / "cut.png"))


@pytest.fixture
async def scanner(tmp_path: Path) -> AsyncIterator[tuple[Path, list[int]]]:
    """A scanner's port: a link to the slave of a pty pair, and the master on which the test plays the scanner."""
    port, masters = tmp_path / "ttySCAN", []
    plug(port, masters)
    yield port, masters
    for master in masters:
        os.close(master)


def plug(port: Path, masters: list[int]) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    port.unlink(missing_ok=True)
    port.symlink_to(os.ttyname(slave))
    os.close(slave)
    masters.append(master)


async def test_a_serial_scanner_is_read_and_opened_again_after_it_was_unplugged(
    scanner: tuple[Path, list[int]],
) -> None:
    port, masters = scanner
    codes = SerialReader(str(port)).codes()
    first = asyncio.create_task(anext(codes))
    await asyncio.sleep(0.05)
    os.write(masters[0], b"FIRST\r\n")
    assert (await asyncio.wait_for(first, 5)).text == "FIRST"
    second = asyncio.create_task(anext(codes))
    await asyncio.sleep(0.05)
    os.close(masters.pop())
    plug(port, masters)
    async with asyncio.timeout(10):
        while not second.done():
            os.write(masters[0], b"NO END")
            await asyncio.wait([second], timeout=0.5)
    assert second.result().text == "NO END"
    await codes.aclose()  # type: ignore[attr-defined]


def test_a_device_that_is_away_is_reported_ever_more_seldom_and_when_it_is_back() -> None:
    told: list[tuple[float, str]] = []
    now = 0.0
    outage = Outage("scanner", lambda text: told.append((now, text)), lambda text: told.append((now, text)))
    outage.back(now)
    assert told == []
    for second in range(0, 24 * 3_600, 5):
        now = float(second)
        outage.missing("no such file", now)
    reported = [moment for moment, _ in told]
    assert reported[:6] == [0, 60, 180, 420, 900, 1_860]
    assert all(later - earlier <= 3_600 for earlier, later in pairwise(reported))
    assert len(reported) == 29
    now += 5
    outage.back(now)
    outage.back(now)
    assert told[29:] == [(86_400, "scanner is back after 86400 s")]
    outage.missing("unplugged", now)
    assert told[30:] == [(86_400, "scanner is not there; it is taken up as soon as it is: unplugged")]


async def test_a_scanner_that_is_not_there_is_reported_once_and_when_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, masters = tmp_path / "scanner", []
    first = asyncio.create_task(anext(SerialReader(str(port)).codes()))
    await asyncio.sleep(1.0)  # tried at 0, 0.2 and 0.6 s
    plug(port, masters)
    async with asyncio.timeout(10):
        while not first.done():
            os.write(masters[0], b"CODE\r\n")
            await asyncio.wait([first], timeout=0.2)
    said = [record.getMessage() for record in caplog.records]
    assert [("is not there" in text, "is back" in text) for text in said] == [(True, False), (False, True)]
    os.close(masters[0])


async def test_a_simulated_crowd_is_the_same_for_a_seed_and_another_for_another() -> None:
    stock = [f"CODE{number}" for number in range(50)]

    async def crowd(seed: int) -> list[str]:
        return [code.text for code in await all_of(SimulatedReader(Crowd(80, seed=seed, pause_s=0), stock))]

    first, again, other = await crowd(1), await crowd(1), await crowd(2)
    assert first == again != other
    assert len(first) == 80


@pytest.mark.parametrize(
    "source", ["", "files:x", "file:", "serial:", "simulate:", "simulate:x", "simulate:0", "file:/no/such"]
)
def test_a_source_that_cannot_be_is_refused_with_words(source: str) -> None:
    with pytest.raises(InvalidInputError):
        open_source(source)


def test_a_code_that_is_a_token_travels_as_bytes_and_anything_else_as_text() -> None:
    good = make_scan(to_qr_text(TOKEN), LaneSetting(lane=3, persons=2), b"i" * 16, 5)
    assert (good.token, good.qr_text, good.lane, good.persons, good.scan_time_ms) == (TOKEN, "", 3, 2, 5)
    for text in ("", "https://example.org", to_qr_text(TOKEN)[:-1], "é" * 2_000, "\udc80"):
        bad = make_scan(text, LaneSetting(), b"i" * 16, 5)
        assert bad.token == b""
        assert len(bad.qr_text) <= 512
        bad.SerializeToString()
    assert len(TOKEN) == TOKEN_LENGTH


def test_a_code_held_before_the_reader_is_one_scan_until_it_was_away_for_the_window() -> None:
    debouncer = Debouncer(1_000)
    assert [debouncer.is_repeat("A", now) for now in (0, 999, 1_998, 2_998)] == [False, True, True, False]
    assert not debouncer.is_repeat("B", 3_000)
    assert not debouncer.is_repeat("A", 3_001)
    debouncer.forget()
    assert not debouncer.is_repeat("A", 3_002)


async def test_a_line_that_names_a_gate_and_no_code_is_passed_over() -> None:
    reader = LineReader(io.BytesIO(b"main-1\t\nmain-1\tCODE\n"), "lines")
    assert [(code.gate_id, code.text) async for code in reader.codes()] == [("main-1", "CODE")]
