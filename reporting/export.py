"""Writes a report as CSV or Excel, a row at a time, with totals that foot. Amounts are decimals, never floats, in CSV;
in Excel they are numbers with the currency's digits, and the total line is what the database summed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import xlsxwriter

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so is a formula to spreadsheets; it gets an apostrophe."""


class Table:
    """How values of a report are put into cells. `money` names the columns that hold minor units."""

    def __init__(self, columns: Sequence[str], digits: int, zone: tzinfo) -> None:
        self.columns = [column.removesuffix("_minor") for column in columns]
        self._money = [column.endswith("_minor") for column in columns]
        self._digits = digits
        self._zone = zone

    def cells(self, row: Sequence[Any]) -> list[Any]:
        """The cells of a row."""
        return [self._cell(value, is_money) for value, is_money in zip(row, self._money, strict=True)]

    def is_money(self, column: int) -> bool:
        """Whether a column holds money."""
        return self._money[column]

    @property
    def money_format(self) -> str:
        """How Excel shows money."""
        return "#,##0" + ("." + "0" * self._digits if self._digits else "")

    def _cell(self, value: Any, is_money: bool) -> Any:
        if is_money:
            return Decimal(value or 0).scaleb(-self._digits)
        if isinstance(value, datetime):
            return value.astimezone(self._zone).strftime("%Y-%m-%d %H:%M")
        if isinstance(value, str) and value.startswith(FORMULA_STARTS):
            return f"'{value}"
        return "" if value is None else value


class CsvWriter:
    """Lines of CSV; `take` hands over what was written since the last call."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(table.columns)

    def write(self, row: Sequence[Any]) -> None:
        """Writes a row."""
        self._writer.writerow(self._table.cells(row))

    def write_total(self, row: Sequence[Any]) -> None:
        """Totals are not part of a CSV: whoever reads it sums by machine."""

    def take(self) -> bytes:
        """What is ready."""
        data = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return data

    def finish(self) -> bytes:
        """The rest."""
        return self.take()


class XlsxWriter:
    """An Excel workbook, written to a file in constant memory."""

    def __init__(self, table: Table, path: Path, title: str) -> None:
        self._table = table
        self._path = path
        self._book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "strings_to_formulas": False})
        self._sheet = self._book.add_worksheet(title[:31])
        self._bold = self._book.add_format({"bold": True})
        self._plain = self._book.add_format({})
        self._money = self._book.add_format({"num_format": table.money_format})
        self._bold_money = self._book.add_format({"num_format": table.money_format, "bold": True})
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(table.columns) - 1, 16)
        self._line = 0
        self._put(table.columns, self._bold, self._bold)

    def write(self, row: Sequence[Any]) -> None:
        """Writes a row."""
        self._put(self._table.cells(row), self._plain, self._money)

    def write_total(self, row: Sequence[Any]) -> None:
        """Writes a line of totals."""
        cells = self._table.cells(row)
        cells[0] = "Total" if not isinstance(cells[0], Decimal | int) else cells[0]
        self._put(cells, self._bold, self._bold_money)

    def take(self) -> bytes:
        """Nothing is ready before the end."""
        return b""

    def finish(self) -> bytes:
        """The whole file."""
        self._book.close()
        return self._path.read_bytes()

    def _put(self, cells: Sequence[Any], plain: Any, money: Any) -> None:
        for column, cell in enumerate(cells):
            style = money if self._table.is_money(column) else plain
            if isinstance(cell, Decimal | int):
                self._sheet.write_number(self._line, column, float(cell), style)
            else:
                self._sheet.write_string(self._line, column, str(cell), style)
        self._line += 1
