"""Targets for files that people and other machines leave: settings, catalogues, lists of certificates, keys, backups.

And for what a gate hears: frames of a server. A file is read, or refused by an error for people that names it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from google.protobuf.message import DecodeError

from cluster.identity import Identity, Revoked
from gateclient.link_events import Instant, Settled
from gateclient.session import Session
from ops import enrolment, signing_keys
from ops.backup.archive import HEAD_LENGTH, Manifest, verify, write_archive
from ops.errors import BadInput, OpsError
from ops.settings import SettingsError, load
from parkgate.gate.v1 import gate_pb2
from sales.catalogue_folder import load_folder
from tests.cluster import small_park
from tests.fuzz.target import ADMITTED, Target, require
from ticketcore.errors import DamagedDataError, InvalidInputError, NotPermittedError

CATALOGUE = Path(__file__).parents[2] / "catalogue"
SERIAL = 0xABCDEF


class Folder:
    """A place for the files of a target, gone with it."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="parkgate-fuzz-")
        self.path = Path(self._kept.name)

    def write(self, name: str, data: bytes) -> Path:
        """Writes a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def close(self) -> None:
        """Removes it all."""
        self._kept.cleanup()


def settings_target() -> Target:
    """The file of settings."""
    folder = Folder()

    def case(data: bytes) -> str:
        """Settings are frozen values, or every problem is told; a password in the file is in no problem."""
        path = folder.write("parkgate.toml", data)
        try:
            load(config=path, environ={})
        except SettingsError as error:
            require(b"swordfish" not in str(error).encode(), "a password stands in an error")
            return "SettingsError"
        return "settings"

    text = (
        b'gate_port = 7443\nserver_names = ["a.example", "10.0.0.5"]\nlog_level = "debug"\npartitions = 8\nowners = 2\n'
    )
    urls = b'postgres_url = "postgresql://p:swordfish@h:5432/d"\nledger_url = "redis://:swordfish@h:6379/0"\n'
    return Target("settings", "the file of settings", case, [text, urls, text + urls], folder.close)


def catalogue_folder_target() -> Target:
    """Files of a catalogue."""
    folder = Folder()
    names = sorted(path.name for path in CATALOGUE.glob("*.toml"))
    seeds = [bytes((number,)) + (CATALOGUE / name).read_bytes() for number, name in enumerate(names)]
    for name in names:
        folder.write(name, (CATALOGUE / name).read_bytes())

    def case(data: bytes) -> str:
        """One file of the folder is replaced: the park is read, or each fault is told with its file."""
        name = names[(data[0] if data else 0) % len(names)]
        path = folder.write(name, data[1:])
        try:
            load_folder(folder.path)
        except InvalidInputError as error:
            require(bool(str(error).strip()), "a fault without words")
            return type(error).__name__
        finally:
            path.write_bytes((CATALOGUE / name).read_bytes())
        return "catalogue"

    return Target("catalogue-files", "files of a catalogue", case, seeds, folder.close)


def certificates_target() -> Target:
    """The lists of certificates, and the ring of keys."""
    folder = Folder()
    revoked = Revoked(folder.path / "pki" / "revoked.json")
    somebody = Identity({"gate": frozenset({"main"})}, SERIAL)

    def case(data: bytes) -> str:
        """A list that cannot be read is damage or an error for people; whoever was revoked is never let in by it."""
        kind, body = (data[0] if data else 0) % 4, data[1:]
        try:
            match kind:
                case 0:
                    folder.write("pki/revoked.json", body)
                    revoked.check(somebody)
                case 1:
                    folder.write("pki/revoked.json", body)
                    enrolment.revoked(folder.path)
                case 2:
                    folder.write("pki/issued.jsonl", body)
                    enrolment.issued(folder.path)
                case _:
                    folder.write("signing/ring.json", body)
                    signing_keys.load_public(folder.path)
        except (OpsError, DamagedDataError, NotPermittedError) as error:
            require(bool(str(error)), "an error without words")
            return type(error).__name__
        require(
            kind != 0 or f"{SERIAL:x}".encode() not in body or body not in seeds_bodies, "a revoked device is let in"
        )
        return "read"

    gone = json.dumps({f"{SERIAL:x}": {"name": "n", "kind": "gate", "revoked_time": "2026-05-01T00:00:00+00:00"}})
    issued = {
        "serial": f"{SERIAL:x}",
        "kind": "gate",
        "name": "n",
        "uris": ["parkgate://device/n"],
        "not_before": "2026-05-01T00:00:00+00:00",
        "not_after": "2028-05-01T00:00:00+00:00",
    }
    ring = {"active": 0, "keys": {"0": "A" * 42 + "I="}}
    bodies = [gone.encode(), gone.encode(), json.dumps(issued).encode() + b"\n", json.dumps(ring).encode()]
    seeds_bodies = frozenset(bodies)
    seeds = [bytes((kind,)) + body for kind, body in enumerate(bodies)]
    return Target("certificates", "lists of certificates and keys", case, seeds, folder.close)


def backup_target() -> Target:
    """The archive of a backup."""
    folder = Folder()
    folder.write("parts/pki/ca.key", b"secret")
    folder.write("parts/ledger.rdb", bytes(range(256)))
    manifest = Manifest("1.0", "2026-05-01T08:00:00+00:00", "Small park", 4, {"p0": 7})
    write_archive(folder.path / "parts", manifest, folder.path / "park.backup", lambda _: None)
    whole = (folder.path / "park.backup").read_bytes()

    def case(data: bytes) -> str:
        """Only the very bytes that were written are a backup; and where somebody has made the first line fit what he
        changed (the first byte of the case says so), what is inside is read without a guess."""
        forged, body = data[:1] == b"\1", data[1:]
        if forged:
            rest = body[HEAD_LENGTH:]
            body = f"PARKGATE-BACKUP 1 {hashlib.sha256(rest).hexdigest()}\n".encode() + rest
        path = folder.write("try.backup", body)
        try:
            verify(path, lambda _: None)
        except BadInput as error:
            require("Nothing was changed" in str(error) or "damaged" in str(error), "a refusal that does not say so")
            return "BadInput"
        require(forged or body == whole, "an archive is taken for a backup that is none")
        return "backup"

    return Target("backup", "the archive of a backup", case, [b"\0" + whole, b"\1" + whole], folder.close)


def heard_by_gate(data: bytes) -> str:
    """A gate that hears nonsense shows ADMIT for nothing that it was not told ADMIT for, and asks on (I7)."""
    now = Instant(1_000, small_park.NOON_MS)
    session = Session(("main",), "fuzz")
    session.connected(now)
    session.next_frame(now)
    session.received(gate_pb2.ServerFrame(welcome=gate_pb2.Welcome(gateway="g")), now)
    scan_id, _ = session.submit(small_park.scan(small_park.token("day", 1), 1), now)
    session.next_frame(now)
    try:
        frame = gate_pb2.ServerFrame.FromString(data)
    except DecodeError:
        return "not protobuf"
    said = {(v.scan_id, v.decision) for v in frame.verdicts}
    told = []
    for at in range(1_000, 8_000, 500):
        later = Instant(at, small_park.NOON_MS)
        events = session.received(frame, later) if at == 1_000 else session.tick(later)
        told += [event.verdict for event in events if isinstance(event, Settled)]
        session.next_frame(later)
    require(len(told) == 1, f"one scan was settled {len(told)} times")
    admitted = told[0].decision == gate_pb2.DECISION_ADMIT
    require(not admitted or (scan_id, gate_pb2.DECISION_ADMIT) in said, "I7: a gate admits what nobody admitted")
    return ADMITTED if admitted else gate_pb2.Decision.Name(told[0].decision)


def gate_client_target() -> Target:
    """What a gate hears."""
    scan_id = small_park.scan_id(1)
    frames = [
        gate_pb2.ServerFrame(verdicts=[gate_pb2.Verdict(scan_id=scan_id, decision=decision, retry_after_ms=50)])  # type: ignore[arg-type]
        for decision in range(1, 5)
    ]
    frames += [
        gate_pb2.ServerFrame(
            receipts=[gate_pb2.PassageReceipt(scan_id=scan_id, recorded=gate_pb2.PASSAGE_OUTCOME_PASSED)]
        ),
        gate_pb2.ServerFrame(heartbeat=gate_pb2.Heartbeat(count=1), welcome=gate_pb2.Welcome(gateway="h")),
        gate_pb2.ServerFrame(command=gate_pb2.Command(message="Hello", catalogue_version=3)),
    ]
    seeds = [frame.SerializeToString() for frame in frames]
    return Target("gate-client", "frames of a server, at the gate", heard_by_gate, seeds)


MAKERS: dict[str, Callable[[], Target]] = {
    "settings": settings_target,
    "catalogue-files": catalogue_folder_target,
    "certificates": certificates_target,
    "backup": backup_target,
    "gate-client": gate_client_target,
}
