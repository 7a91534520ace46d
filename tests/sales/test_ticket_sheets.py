"""A group's tickets as one PDF: every code is read back from the printed page by an independent decoder."""

from __future__ import annotations

import os

import pypdfium2
import pytest
import zxingcpp
from PIL import Image

from sales.ticket_sheets import COLUMNS, ROWS, PrintedTicket, ticket_sheets
from ticketcore.token import from_qr_text, to_qr_text

PRINTER_DPI = 300


def tokens(count: int) -> list[bytes]:
    return [bytes((0x20,)) + os.urandom(80) for _ in range(count)]


def pages(pdf: bytes) -> list[Image.Image]:
    return [page.render(scale=PRINTER_DPI / 72).to_pil() for page in pypdfium2.PdfDocument(pdf)]


def text_of(pdf: bytes) -> str:
    return "\n".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf))


@pytest.mark.parametrize(("count", "sheets"), [(1, 1), (COLUMNS * ROWS, 1), (COLUMNS * ROWS + 1, 2)])
def test_every_code_of_a_printed_sheet_is_read_and_none_is_missing(count: int, sheets: int) -> None:
    codes = tokens(count)
    printed = pages(ticket_sheets("Order 7", [PrintedTicket(code, "Day ticket", ("adult",)) for code in codes]))
    assert len(printed) == sheets
    read = [found.text for page in printed for found in zxingcpp.read_barcodes(page)]
    assert sorted(read) == sorted(map(to_qr_text, codes))
    assert {from_qr_text(text) for text in read} == set(codes)


def test_a_sheet_says_what_the_ticket_is_in_any_script() -> None:
    (code,) = tokens(1)
    ticket = PrintedTicket(code, "Tageskarte Zürichsee", ("黄山风景区", "No. 281474976710657"))
    text = text_of(ticket_sheets("Order 7", [ticket]))
    for line in (ticket.title, *ticket.lines):
        assert line in text


def test_a_line_that_is_too_long_is_set_smaller_and_stays_on_its_ticket() -> None:
    codes = tokens(2)
    long = "A wonderful evening with fireworks for two adults and three children " * 2
    (page,) = pypdfium2.PdfDocument(ticket_sheets("Order 7", [PrintedTicket(code, long, ()) for code in codes]))
    left = page.get_textpage()
    right_edge = max(left.get_charbox(index)[2] for index in range(left.count_chars() // 2))
    left_edge = min(left.get_charbox(index)[0] for index in range(left.count_chars() // 2 + 1, left.count_chars()))
    assert right_edge < left_edge
