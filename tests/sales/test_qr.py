"""The printed code: small enough, strong enough, and read back by an independent decoder."""

import io
import os

import zxingcpp
from PIL import Image

from sales.qr import qr_png
from ticketcore.token import from_qr_text


def test_a_code_is_version_5_level_m_and_holds_the_token() -> None:
    for first in (0x20, 0x3F):
        token = bytes((first,)) + os.urandom(80)
        image = Image.open(io.BytesIO(qr_png(token)))
        found = zxingcpp.read_barcode(image.convert("L"))
        assert found is not None
        assert (found.extra["Version"], found.ec_level) == ("5", "M")
        assert from_qr_text(found.text) == token
        assert image.size == (45 * 6, 45 * 6)
