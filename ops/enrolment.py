"""The authority's files in `<data folder>/pki`: the CA, server certificates, who was enrolled, and who was revoked.

    ca.pem ca.key                the park CA, made at first use
    server/<service>.pem .key    renewed by themselves
    issued.jsonl                 one line a client certificate, written *before* the key leaves: no certificate can
                                 exist that `revoke` does not know
    revoked.json                 {"<serial>": {"name", "kind", "revoked_time"}}; gateways read it again

Both lists are replaced atomically: a crash leaves the old or the new one.

The clock is an argument; only the commands read it.
"""

import json
import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ops import pki
from ops.errors import BadInput, OpsError
from ops.files import exclusive, make_folder, write_atomic
from ops.pki import Issued, Kind, Pair

ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")


def authority(data_dir: Path, now: datetime) -> Pair:
    """The park CA, made at the first call."""
    folder = make_folder(data_dir / "pki")
    with exclusive(folder / ".lock"):
        certificate, key = folder / "ca.pem", folder / "ca.key"
        if not certificate.exists():
            made = pki.create_authority(now)
            write_atomic(key, made.key)
            write_atomic(certificate, made.certificate, mode=0o644)  # last: it says that the pair is whole
        return Pair(certificate.read_bytes(), key.read_bytes())


def server_pair(data_dir: Path, service: str, names: Sequence[str], now: datetime) -> tuple[Pair, bytes]:
    """The certificate and key of one of our servers, renewed when due, and the CA to ask clients against.

    `names`: those of the settings; localhost and this machine's name are always in.
    """
    ca = authority(data_dir, now)
    wanted = tuple(dict.fromkeys((*ALWAYS_NAMED, socket.gethostname(), *names)))
    folder = make_folder(data_dir / "pki" / "server")
    certificate, key = folder / f"{service}.pem", folder / f"{service}.key"
    with exclusive(folder / ".lock"):
        if not certificate.exists() or pki.needs_renewal(certificate.read_bytes(), wanted, ca, now):
            made = pki.issue_server(ca, service, wanted, now)
            certificate.unlink(missing_ok=True)
            write_atomic(key, made.key)
            write_atomic(certificate, made.certificate, mode=0o644)
        return Pair(certificate.read_bytes(), key.read_bytes()), ca.certificate


def enroll(data_dir: Path, kind: Kind, name: str, gates: Sequence[str], now: datetime) -> tuple[Pair, Issued]:
    """Issues a client certificate. Raises: BadInput when that name is enrolled already."""
    uris = pki.identities(kind, name, gates)
    if valid_of(data_dir, kind, name, now):
        raise BadInput(
            f"The {kind} {name} is enrolled already.",
            f"Renew it (parkgate enroll renew {name}) or revoke it first (parkgate enroll revoke {name}).",
        )
    return _issue(data_dir, kind, name, uris, now)


def renew(data_dir: Path, name: str, now: datetime) -> tuple[Pair, Issued]:
    """A new certificate with the identities of the last one; the old stays valid until it ends or is revoked."""
    known = [one for one in issued(data_dir) if one.name == name]
    if not known:
        raise BadInput(f"Nobody named {name} is enrolled.", "`parkgate enroll list` shows who is.")
    if len({one.kind for one in known}) > 1:
        kinds = ", ".join(sorted({one.kind for one in known}))
        raise BadInput(f"{name} is several: {kinds}.", "Revoke and enroll the one that you mean.")
    return _issue(data_dir, Kind(known[-1].kind), name, known[-1].uris, now)


def save(pair: Pair, ca: bytes, name: str, out: Path) -> tuple[Path, Path, Path]:
    """Writes what a client needs into a folder: certificate, key (0600), CA."""
    make_folder(out)
    paths = (out / f"{name}.pem", out / f"{name}.key", out / "ca.pem")
    write_atomic(paths[1], pair.key)
    write_atomic(paths[0], pair.certificate, mode=0o644)
    write_atomic(paths[2], ca, mode=0o644)
    return paths


def issued(data_dir: Path) -> list[Issued]:
    """Every client certificate ever issued, oldest first. Raises: OpsError for a damaged line."""
    path = data_dir / "pki" / "issued.jsonl"
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(_parse(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise OpsError(f"{path}, line {number}, is damaged.", "Restore the file from the backup.") from error
    return found


def revoked_path(data_dir: Path) -> Path:
    """The list of revoked certificates, which every service reads."""
    return data_dir / "pki" / "revoked.json"


def revoked(data_dir: Path) -> dict[str, dict[str, str]]:
    """The revoked serials (hexadecimal). Raises: OpsError when the list is damaged: that is not an empty one."""
    path = revoked_path(data_dir)
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
        return {str(serial): dict(about) for serial, about in found.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise OpsError(f"{path} is damaged.", "Restore the file from the backup.") from error


def valid_of(data_dir: Path, kind: Kind, name: str, now: datetime) -> list[Issued]:
    """The certificates of that client that are neither ended nor revoked."""
    gone = revoked(data_dir)
    mine = (one for one in issued(data_dir) if (one.kind, one.name) == (kind, name))
    return [one for one in mine if one.not_after > now and one.serial not in gone]


def revoke(data_dir: Path, serial_or_name: str, now: datetime) -> list[Issued]:
    """Revokes one certificate by its serial, or all of a name; returns those newly revoked. Raises: BadInput."""
    wanted = serial_or_name.lower().removeprefix("0x")
    with exclusive(make_folder(data_dir / "pki") / ".revoke.lock"):
        gone = revoked(data_dir)
        matching = [one for one in issued(data_dir) if serial_or_name == one.name or wanted == one.serial]
        if not matching:
            raise BadInput(
                f"No certificate has the serial or name {serial_or_name}.", "`parkgate enroll list` shows them all."
            )
        fresh = [one for one in matching if one.serial not in gone]
        for one in fresh:
            gone[one.serial] = {"name": one.name, "kind": one.kind, "revoked_time": now.isoformat()}
        write_atomic(revoked_path(data_dir), json.dumps(gone, indent=1).encode(), mode=0o644)
        return fresh


def _issue(data_dir: Path, kind: Kind, name: str, uris: Sequence[str], now: datetime) -> tuple[Pair, Issued]:
    pair, record = pki.issue_client(authority(data_dir, now), kind, name, uris, now)
    line = {
        "serial": record.serial,
        "kind": record.kind,
        "name": record.name,
        "uris": list(record.uris),
        "not_before": record.not_before.isoformat(),
        "not_after": record.not_after.isoformat(),
    }
    path = data_dir / "pki" / "issued.jsonl"
    with exclusive(path.with_name(".lock")):
        before = path.read_bytes() if path.exists() else b""
        write_atomic(path, before + json.dumps(line).encode() + b"\n")
    return pair, record


def _parse(line: dict[str, str | list[str]]) -> Issued:
    return Issued(
        serial=str(line["serial"]),
        kind=str(Kind(str(line["kind"]))),
        name=str(line["name"]),
        uris=tuple(line["uris"]),
        not_before=datetime.fromisoformat(str(line["not_before"])),
        not_after=datetime.fromisoformat(str(line["not_after"])),
    )
