"""Certificates of this installation's own windows and gates, made at their first use and kept in `pki/clients`.

For the embedded stack, where one machine is window, gate and park at once. A device elsewhere gets its folder from
`parkgate enroll`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ops import enrolment
from ops.errors import BadInput
from ops.files import exclusive
from ops.pki import RENEW_BEFORE, Kind

MAX_NAME = 63


def window_folder(data_dir: Path, window_id: str) -> Path:
    """The certificate folder of a window. Raises: BadInput for an id that is no name."""
    return _folder(data_dir, Kind.WINDOW, window_id, ())


def gate_folder(data_dir: Path, gates: Sequence[str], device: str = "") -> Path:
    """The certificate folder of a device that speaks for these gates; a name is made of the gates if none is given."""
    return _folder(data_dir, Kind.GATE, device or _device_name(gates), gates)


def _device_name(gates: Sequence[str]) -> str:
    name = "local-" + "-".join(gates)
    if len(name) <= MAX_NAME:
        return name
    return f"local-{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}"


def _folder(data_dir: Path, kind: Kind, name: str, gates: Sequence[str]) -> Path:
    """A folder holds one device's ca.pem, NAME.pem and NAME.key. A name that was enrolled elsewhere is not taken over:
    its key is there."""
    now = datetime.now(UTC)
    folder = data_dir / "pki" / "clients" / f"{kind}-{name}"
    with exclusive(data_dir / "pki" / ".clients.lock"):
        valid = enrolment.valid_of(data_dir, kind, name, now)
        complete = (folder / f"{name}.key").exists() and (folder / f"{name}.pem").exists()
        if valid and not complete:
            raise BadInput(
                f"The {kind} {name} was enrolled before, and its key is not in {folder}.",
                f"Use another name, or take the old certificate back: parkgate enroll revoke {name}.",
            )
        due = not valid or max(one.not_after for one in valid) - now < RENEW_BEFORE
        if due:
            made = enrolment.renew(data_dir, name, now) if valid else enrolment.enroll(data_dir, kind, name, gates, now)
            enrolment.save(made[0], enrolment.authority(data_dir, now).certificate, name, folder)
    return folder
