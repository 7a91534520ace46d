"""Names of sources, as people give them, to readers."""

from __future__ import annotations

from pathlib import Path

from gateclient.readers.base import Reader
from gateclient.readers.files import FileReader, files_of, read_file
from gateclient.readers.lines import LineReader
from gateclient.readers.serial_port import SerialReader
from gateclient.readers.simulated import Crowd, SimulatedReader
from ticketcore.errors import InvalidInputError

FORMS = "stdin, file:PATH, serial:DEVICE[:BAUD] or simulate:N[:FILE OF CODES]"


def open_source(source: str, seed: int = 1, pause_s: float = 0.05) -> Reader:
    """The reader of a source. Files are looked for now, devices when they are first read.

    Raises:
        InvalidInputError: no such kind of source, or it is not as it must be.
    """
    kind, _, rest = source.partition(":")
    if source in ("stdin", "-"):
        # Unbuffered: Python aborts at its end if a thread still waits with the lock of a buffered stdin.
        return LineReader(open(0, "rb", buffering=0, closefd=False), "stdin")
    if kind == "file" and rest:
        files_of(Path(rest))
        return FileReader(Path(rest))
    if kind == "serial" and rest:
        return _serial(rest)
    if kind == "simulate" and rest:
        return _simulated(rest, seed, pause_s)
    raise InvalidInputError(f"source {source!r} is not one of {FORMS}")


def _serial(rest: str) -> SerialReader:
    port, colon, baud = rest.rpartition(":")
    if colon and baud.isdigit():
        return SerialReader(port, int(baud))
    return SerialReader(rest)


def _simulated(rest: str, seed: int, pause_s: float) -> SimulatedReader:
    number, _, path = rest.partition(":")
    if not number.isdigit() or not 1 <= int(number) <= 10_000_000:
        raise InvalidInputError(f"simulate:{rest}: the number of guests must be 1 to 10000000, not {number!r}")
    codes = [code.text for file in files_of(Path(path)) for code in read_file(file)] if path else []
    return SimulatedReader(Crowd(int(number), seed=seed, pause_s=pause_s), codes)
