"""Readers: where codes come from. Each yields text; what it means is decided elsewhere."""

from gateclient.readers.base import ReadCode, Reader
from gateclient.readers.files import FileReader, read_image
from gateclient.readers.framing import Framer
from gateclient.readers.lines import LineReader
from gateclient.readers.serial_port import SerialReader
from gateclient.readers.simulated import Crowd, SimulatedReader
from gateclient.readers.source import FORMS, open_source

__all__ = [
    "FORMS",
    "Crowd",
    "FileReader",
    "Framer",
    "LineReader",
    "ReadCode",
    "Reader",
    "SerialReader",
    "SimulatedReader",
    "open_source",
    "read_image",
]
