"""Codes from a file or a folder: text files (a code a line) and images (PNG, JPEG), decoded by zxing-cpp."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import zxingcpp
from PIL import Image, UnidentifiedImageError

from gateclient.readers.base import ReadCode
from gateclient.readers.lines import read_text_file
from ticketcore.errors import InvalidInputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
TEXT_SUFFIXES = frozenset({".txt", ".csv", ".codes", ""})

MAX_IMAGE_PIXELS = 50_000_000
"""A camera's largest; more is a mistake or a bomb."""


class FileReader:
    """Codes of a file, or of all files of a folder in the order of their names. A file that cannot be read or holds no
    code is named in `problems`, and the others are read all the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problems: list[str] = []

    async def codes(self) -> AsyncIterator[ReadCode]:
        """See Reader. Images are decoded in a thread: one takes some milliseconds."""
        for path in files_of(self._path):
            try:
                found = await asyncio.to_thread(read_file, path)
            except InvalidInputError as error:
                self.problems.append(str(error))
                continue
            for code in found:
                yield code


def files_of(path: Path) -> list[Path]:
    """The files to read.

    Raises:
        InvalidInputError: there is nothing to read.
    """
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES | {".txt"})
        if not files:
            raise InvalidInputError(f"folder {path} holds no .png, .jpg or .txt file")
        return files
    if not path.exists():
        raise InvalidInputError(f"there is no file {path}")
    return [path]


def read_file(path: Path) -> list[ReadCode]:
    """The codes of one file.

    Raises:
        InvalidInputError: it cannot be read, or is an image without a code.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return list(read_image(path))
    try:
        return list(read_text_file(path))
    except OSError as error:
        raise InvalidInputError(f"file {path} cannot be read: {error.strerror}") from error


def read_image(path: Path) -> Iterator[ReadCode]:
    """The codes in an image, in the order in which the decoder finds them. An image without one is an error: a
    turnstile would simply not have seen it, but a file is meant to hold one.

    Raises:
        InvalidInputError: it is no image, or holds no readable QR code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise InvalidInputError(f"image {path} has more than {MAX_IMAGE_PIXELS:,} pixels")
                grey = image.convert("L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombWarning, SyntaxError, ValueError) as error:
        raise InvalidInputError(f"image {path} cannot be read: {error}") from error
    found = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    if not found:
        raise InvalidInputError(f"image {path} holds no readable QR code")
    for barcode in found:
        yield ReadCode(barcode.text, path.name)
