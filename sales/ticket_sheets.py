"""Tickets of a group on sheets of A4, as one PDF: what a travel agency prints, cuts and hands out.

Ten tickets a sheet, with thin lines to cut along. Each has its QR code, 28 mm with its quiet zone, so that a printer of
300 dpi draws a module with seven dots, and some lines of text beside it. Codes are stored one pixel a module.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import zxingcpp
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from ticketcore.token import to_qr_text

COLUMNS, ROWS = 2, 5
CODE_SIZE = 28 * mm
MARGIN_X, MARGIN_Y = 12 * mm, 14 * mm
CELL_WIDTH = (A4[0] - 2 * MARGIN_X) / COLUMNS
CELL_HEIGHT = (A4[1] - 2 * MARGIN_Y) / ROWS
TEXT_X, LINE_HEIGHT = CODE_SIZE + 3 * mm, 5 * mm
TEXT_WIDTH = CELL_WIDTH - TEXT_X - 2 * mm
LATIN, LATIN_BOLD, CHINESE = "Helvetica", "Helvetica-Bold", "STSong-Light"
TITLE_SIZE, TEXT_SIZE = 11, 9
CUT_GREY, CUT_PADDING = 0.75, 4 * mm


@dataclass(frozen=True, slots=True)
class PrintedTicket:
    """A ticket as it is printed: its token, a title, and lines below it."""

    token: bytes
    title: str
    lines: tuple[str, ...]


def ticket_sheets(subject: str, tickets: Iterable[PrintedTicket]) -> bytes:
    """One PDF with all tickets, in order. `subject` is the document's title, for example the order's number."""
    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    canvas.setTitle(subject)
    for position, ticket in enumerate(tickets):
        place = position % (COLUMNS * ROWS)
        if position and place == 0:
            canvas.showPage()
        row, column = divmod(place, COLUMNS)
        _draw(canvas, ticket, MARGIN_X + column * CELL_WIDTH, A4[1] - MARGIN_Y - row * CELL_HEIGHT)
    canvas.save()
    return buffer.getvalue()


def _draw(canvas: Canvas, ticket: PrintedTicket, left: float, top: float) -> None:
    code = zxingcpp.create_barcode(to_qr_text(ticket.token), zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    pixels = zxingcpp.write_barcode_to_image(code, scale=1, add_quiet_zones=True)
    image = ImageReader(Image.fromarray(pixels).convert("1"))
    canvas.setStrokeGray(CUT_GREY)
    canvas.rect(left - CUT_PADDING, top + CUT_PADDING - CELL_HEIGHT, CELL_WIDTH, CELL_HEIGHT)  # where to cut
    canvas.drawImage(image, left, top - CODE_SIZE, CODE_SIZE, CODE_SIZE)
    _write(canvas, ticket.title, (left + TEXT_X, top - LINE_HEIGHT), LATIN_BOLD, TITLE_SIZE)
    for number, line in enumerate(ticket.lines, 2):
        _write(canvas, line, (left + TEXT_X, top - number * LINE_HEIGHT), LATIN, TEXT_SIZE)


def _write(canvas: Canvas, text: str, place: tuple[float, float], font: str, size: float) -> None:
    """A line in its font, smaller where it would be too wide. What is not Latin is set in a font of all readers."""
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        font = CHINESE
    width = pdfmetrics.stringWidth(text, font, size)
    canvas.setFont(font, size * min(1.0, TEXT_WIDTH / width) if width else size)
    canvas.drawString(*place, text)
