"""Where the keys that sign tickets are kept. What a token's key id means is ticketcore's.

    <data folder>/signing/key-<id>.pem    private, PKCS8 encrypted with the passphrase, 0600
    <data folder>/signing/ring.json       {"active": 3, "keys": {"0": "<base64>", ...}}, what gates check with

A key id (0 to 31, five bits of the token) is never given to a second key: a printed ticket may carry it for a year.
After a rotation the old private key is deleted, its public half stays.

The passphrase is in `secrets/signing` of the same folder unless `signing_passphrase_file` names another place. Beside
the keys it guards a copy of the folder `signing` alone (a backup has it in a file of its own), not against whoever
reads the whole data folder; elsewhere (a systemd credential, a mounted secret) it guards against that too. Neither
helps against root on the machine where sales run: the key must be in its memory.
"""

import base64
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ops.errors import OpsError
from ops.files import exclusive, make_folder, secret, write_atomic
from ops.settings import Settings

KEY_IDS = range(32)
NAME_FILE = "PARKGATE_SIGNING_PASSPHRASE_FILE names it; without, it is in secrets/ of the data folder."
PUT_BACK = (
    "Put it back, from where it is kept or from the backup's file of it, or name its place with "
    "signing_passphrase_file (PARKGATE_SIGNING_PASSPHRASE_FILE)."
)
RESTORE = "Restore the folder signing/ and secrets/signing from the same backup."


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The ring: one key to sign with, all to check with."""

    active_key_id: int
    private_key: Ed25519PrivateKey
    public_keys: Mapping[int, Ed25519PublicKey]


def passphrase_of(settings: Settings) -> str:
    """The passphrase of the signing keys. Raises: OpsError when the file that should hold it does not."""
    path = settings.signing_passphrase_file
    return _own_passphrase(settings.data_dir) if path is None else read_passphrase(path)


def open_passphrase(settings: Settings) -> str:
    """The passphrase, tried on the active key; nothing is made. Raises: OpsError when it does not open it."""
    load_public(settings.data_dir)  # without a ring there would be nothing to try, and a passphrase be made
    passphrase = passphrase_of(settings)
    open_ring(settings.data_dir, passphrase)
    return passphrase


def read_passphrase(path: Path) -> str:
    """The passphrase that a file holds, without space around it. Raises: OpsError when it holds none."""
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise OpsError(f"The passphrase of the signing keys cannot be read from {path}: {why}.", NAME_FILE) from error
    if not value:
        raise OpsError(f"The file {path} holds no passphrase.", NAME_FILE)
    return value


def load_or_create(folder: Path, passphrase: str = "") -> KeyMaterial:
    """The ring of the data folder, made with key 0 at the first call. Raises: OpsError when it is damaged.

    `passphrase`: "" for the one in `secrets/signing`.
    """
    with _locked(folder):
        if not _ring_path(folder).exists():
            _add_key(folder, {}, 0, passphrase)
        return open_ring(folder, passphrase)


def open_ring(folder: Path, passphrase: str = "") -> KeyMaterial:
    """The ring that is there. Raises: OpsError when there is none, or the passphrase does not open its active key."""
    active, keys = load_public(folder)
    path = _key_path(folder, active)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), _bytes(folder, passphrase))
    except FileNotFoundError as error:
        raise OpsError(f"The signing key {path} is missing.", RESTORE) from error
    except (ValueError, TypeError) as error:
        raise OpsError(f"The signing key {path} does not open with its passphrase.", RESTORE) from error
    if not isinstance(private, Ed25519PrivateKey) or _text(private.public_key()) != _text(keys[active]):
        raise OpsError(f"The signing key {path} is not the one that the ring names.", RESTORE)
    return KeyMaterial(active, private, keys)


def load_public(folder: Path) -> tuple[int, dict[int, Ed25519PublicKey]]:
    """The active key's id and the public ring, for those who only check. Raises: OpsError when there is none."""
    try:
        ring = json.loads(_ring_path(folder).read_bytes())
        keys = {int(number): _public(text) for number, text in ring["keys"].items()}
        active = int(ring["active"])
    except FileNotFoundError as error:
        raise OpsError(f"There is no key ring in {folder}.", "Start the stack once: parkgate up.") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise OpsError(f"{_ring_path(folder)} is damaged.", RESTORE) from error
    if active not in keys or not set(keys) <= set(KEY_IDS):
        raise OpsError(f"{_ring_path(folder)} names keys that it does not hold.", RESTORE)
    return active, keys


def rotate(folder: Path, passphrase: str = "") -> KeyMaterial:
    """Makes a new key the active one; tickets signed by the old ones stay valid. Raises: OpsError when ids run out."""
    load_or_create(folder, passphrase)
    with _locked(folder):
        active, keys = load_public(folder)
        fresh = max(keys) + 1
        if fresh not in KEY_IDS:
            raise OpsError("All 32 key ids are used.", "A new token version is needed; ask the makers of Parkgate.")
        _add_key(folder, keys, fresh, passphrase)
        _key_path(folder, active).unlink(missing_ok=True)
        return open_ring(folder, passphrase)


def _add_key(folder: Path, keys: Mapping[int, Ed25519PublicKey], key_id: int, passphrase: str) -> None:
    """The private key first, then the ring that names it: a crash in between leaves the old ring whole."""
    private = Ed25519PrivateKey.generate()
    encryption = serialization.BestAvailableEncryption(_bytes(folder, passphrase))
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_atomic(_key_path(folder, key_id), pem)
    ring = {str(number): _text(key) for number, key in {**keys, key_id: private.public_key()}.items()}
    write_atomic(_ring_path(folder), json.dumps({"active": key_id, "keys": ring}, indent=1).encode(), mode=0o644)


def _bytes(folder: Path, passphrase: str) -> bytes:
    return (passphrase or _own_passphrase(folder)).encode()


def _own_passphrase(folder: Path) -> str:
    """The one in `secrets/`, made before the first key and never after: a new one would open nothing."""
    path = folder / "secrets" / "signing"
    if _ring_path(folder).exists() and not path.exists():
        raise OpsError(f"{path} is missing, and the signing keys of {folder} open with nothing else.", PUT_BACK)
    return secret(folder, "signing")


def _text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def _public(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def _locked(folder: Path) -> "contextlib.AbstractContextManager[None]":
    return exclusive(make_folder(folder / "signing") / ".lock")


def _ring_path(folder: Path) -> Path:
    return folder / "signing" / "ring.json"


def _key_path(folder: Path, key_id: int) -> Path:
    return folder / "signing" / f"key-{key_id:02}.pem"
