"""QR images as files. A gate gets what the decoder reads in the file; nothing else goes from window to gate.

Sales draw their codes with zxing-cpp. The forged and the cut ones are drawn with segno, as somebody else's would be.
"""

from __future__ import annotations

from pathlib import Path

from gateclient.readers import read_image
from ops.errors import OpsError


def write(folder: Path, name: str, content: bytes) -> Path:
    """Writes a file, an image as sales drew it or a report."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def read(path: Path) -> str:
    """The text of the one code in an image. Raises: OpsError when there is another number of them."""
    codes = list(read_image(path))
    if len(codes) != 1:
        raise OpsError(f"{path} holds {len(codes)} codes, not one.")
    return codes[0].text


def draw(path: Path, text: str) -> Path:
    """Draws any text as a QR code."""
    import segno

    segno.make(text, error="m", micro=False).save(str(path), scale=6)
    return path


def forge(original: Path, path: Path) -> Path:
    """The claims of a ticket, signed with a key that is nobody's."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ticketcore import token as tokens

    claims = tokens.from_qr_text(read(original))[: tokens.CLAIMS_LENGTH]
    signature = Ed25519PrivateKey.generate().sign(claims)
    return draw(path, tokens.to_qr_text(claims + signature))


def cut(original: Path, path: Path, characters: int) -> Path:
    """The beginning of a ticket's code."""
    return draw(path, read(original)[:characters])
