"""Where sold tickets are written: an image each into a folder, or one PDF to print and cut.

The place is tried before money changes hands. What fails afterwards all the same costs nobody a ticket: sales keep
them, and `parkgate tickets ORDER_ID` writes them again.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ops.errors import BadInput, OpsError
from ops.window import money

if TYPE_CHECKING:
    from parkgate.sales.v1 import sales_pb2
    from sales.ticket_sheets import PrintedTicket
    from ticketcore.catalogue import Catalogue

IMAGE_BYTES = 4096
"""An image has 700, and takes a block of the disk."""
PDF_BYTES, PDF_TICKET_BYTES = 16_384, 512
"""A PDF, and each ticket in it: 2,500 and 130 measured; long names take more."""


@dataclass(frozen=True, slots=True)
class TicketFiles:
    """`pdf`: one file of all tickets. Without it, images in the folder `out`."""

    out: Path
    pdf: Path | None = None

    @property
    def folder(self) -> Path:
        """What must be there to be written into."""
        return self.pdf.absolute().parent if self.pdf else self.out

    @property
    def option(self) -> str:
        """As it is asked for again, elsewhere."""
        return "--pdf FILE" if self.pdf else "--out DIR"

    def try_out(self, count: int) -> None:
        """Makes the folder, and tries whether so many tickets could be written now. Leaves no file.

        Raises:
            BadInput: the PDF's name is a folder's.
            OpsError: it cannot be written, or the disk is too full.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OpsError(f"The folder {self.folder} cannot be made: {error.strerror}.") from error
        try:
            if self.pdf is None:
                _try_room(self.out, count * IMAGE_BYTES)
            elif self.pdf.is_dir():
                raise BadInput(
                    f"--pdf names a file, and {self.pdf} is a folder.",
                    f"Name a file in it: {self.pdf / 'tickets.pdf'}.",
                )
            elif not _is_device(self.pdf):
                _try_name(self.pdf)
                _try_room(self.folder, PDF_BYTES + count * PDF_TICKET_BYTES)
        except OSError as error:
            raise OpsError(f"{self.pdf or self.out} cannot be written: {error.strerror}.") from error

    def write(self, catalogue: Catalogue, order_id: int, tickets: Sequence[sales_pb2.Ticket]) -> dict[int, Path]:
        """Writes them; answers each ticket's file. Raises: OSError."""
        if self.pdf is None:
            self.out.mkdir(parents=True, exist_ok=True)
            paths = {ticket.ticket_id: self.out / f"{ticket.ticket_id}.png" for ticket in tickets}
            for ticket in tickets:
                paths[ticket.ticket_id].write_bytes(ticket.qr_png)
            return paths
        from sales.ticket_sheets import ticket_sheets

        _write_whole(self.pdf, ticket_sheets(f"Order {order_id}", (_printed(catalogue, ticket) for ticket in tickets)))
        return dict.fromkeys((ticket.ticket_id for ticket in tickets), self.pdf)


def _is_device(path: Path) -> bool:
    """A pipe or a printer's device: it is written as it is, and has no room to be tried."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def _try_name(pdf: Path) -> None:
    """Opens it as it will be opened. Raises: OSError."""
    new = not pdf.exists()
    with pdf.open("ab"):
        pass
    if new:
        pdf.unlink()


def _try_room(folder: Path, size: int) -> None:
    """Takes the room and gives it back. Raises: OSError."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


def _write_whole(pdf: Path, data: bytes) -> None:
    """Half a PDF must not look like one: written aside, and renamed. Raises: OSError."""
    if _is_device(pdf):
        pdf.write_bytes(data)
        return
    target = pdf.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name[:200]}.partial")
    try:
        aside.write_bytes(data)
        aside.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _printed(catalogue: Catalogue, ticket: sales_pb2.Ticket) -> PrintedTicket:
    from sales.ticket_sheets import PrintedTicket

    slot = f", slot {ticket.slot}" if ticket.slot else ""
    price = f"{money(ticket.price_minor, catalogue.venue.currency_digits)} {catalogue.venue.currency}"
    who = f"{ticket.concession}, {ticket.persons} persons" if ticket.persons > 1 else ticket.concession
    lines = (catalogue.venue.name, f"{ticket.visit_date}{slot}", f"{who}, {price}", f"No. {ticket.ticket_id}")
    return PrintedTicket(ticket.token, catalogue.products[ticket.product_id].name, lines)
