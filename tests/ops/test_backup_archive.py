"""The file of a backup: whole, or refused before anything is touched."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.backup.archive import HEAD_LENGTH, Manifest, extract, verify, write_archive
from ops.backup.make import make
from ops.backup.restore import restore, verify_all
from ops.errors import BadInput, OpsError
from ops.settings import load
from ops.signing_keys import load_or_create

MANIFEST = Manifest("1.0", "2026-05-01T08:00:00+00:00", "Small park", 4, {"p0": 7})


def quiet(_text: str) -> None: ...


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    (folder / "pki").mkdir(parents=True)
    (folder / "pki" / "ca.key").write_bytes(b"secret")
    (folder / "pki" / "ca.key").chmod(0o600)
    (folder / "ledger.rdb").write_bytes(os.urandom(700))
    (folder / "empty").write_bytes(b"")
    write_archive(folder, MANIFEST, tmp_path / "park.backup", quiet)
    return tmp_path / "park.backup"


def test_what_was_packed_is_unpacked_with_its_rights(archive: Path, tmp_path: Path) -> None:
    manifest = verify(archive, quiet)
    assert (manifest.venue, manifest.offsets, list(manifest.members)) == (
        "Small park",
        {"p0": 7},
        ["empty", "ledger.rdb", "pki/ca.key"],
    )
    extract(archive, tmp_path / "out", quiet)
    for name in manifest.members:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert (tmp_path / "out" / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert archive.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "park.backup", "parts"]


def test_an_archive_with_any_one_byte_changed_is_refused(archive: Path) -> None:
    whole = archive.read_bytes()
    with archive.open("r+b", buffering=0) as file:
        for position in range(len(whole)):
            os.pwrite(file.fileno(), bytes([whole[position] ^ 0x01]), position)
            with pytest.raises(BadInput, match=r"Nothing was changed"):
                verify(archive, quiet)
            os.pwrite(file.fileno(), whole[position : position + 1], position)
    verify(archive, quiet)


@pytest.mark.parametrize("length", [0, 1, HEAD_LENGTH - 1, HEAD_LENGTH, HEAD_LENGTH + 512, -1])
def test_an_archive_that_was_cut_off_is_refused(archive: Path, length: int) -> None:
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(BadInput, match="is damaged"):
        verify(archive, quiet)


def test_an_archive_with_bytes_too_many_is_refused(archive: Path) -> None:
    with archive.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match="is damaged"):
        verify(archive, quiet)


def test_an_archive_of_a_later_format_is_refused_as_such(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes().replace(b"BACKUP 1 ", b"BACKUP 2 ", 1))
    with pytest.raises(BadInput, match="has format 2, this version reads 1"):
        verify(archive, quiet)


def test_a_backup_is_never_written_over(archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(BadInput, match="exists"):
        write_archive(tmp_path / "parts", MANIFEST, archive, quiet)
    assert archive.read_bytes() == before


def test_a_damaged_archive_a_missing_passphrase_and_a_folder_in_use_change_nothing(
    archive: Path, tmp_path: Path
) -> None:
    target, used = tmp_path / "new" / "data", tmp_path / "used"
    used.mkdir()
    (used / "kept").touch()
    with pytest.raises(BadInput, match="is not empty"):
        restore(archive, None, used, quiet)
    with pytest.raises(BadInput, match="passphrase"):
        restore(archive, None, target, quiet)
    archive.write_bytes(archive.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BadInput, match="damaged"):
        restore(archive, None, target, quiet)
    assert not target.parent.exists()
    assert [path.name for path in used.iterdir()] == ["kept"]


def test_a_backup_with_a_passphrase_that_does_not_open_the_keys_is_not_made(data_dir: Path, tmp_path: Path) -> None:
    load_or_create(data_dir)
    secret, out = data_dir / "secrets" / "signing", tmp_path / "out" / "park.backup"
    out.parent.mkdir()
    settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir)})
    secret.write_text("another passphrase")
    with pytest.raises(OpsError, match="does not open with its passphrase"):
        make(settings, out, datetime.now(UTC), quiet)
    secret.unlink()
    with pytest.raises(OpsError, match="signing_passphrase_file"):
        make(settings, out, datetime.now(UTC), quiet)
    assert not secret.exists()
    assert list(out.parent.iterdir()) == []


def test_the_passphrase_is_tried_where_it_is_known_when_an_archive_is_verified(data_dir: Path, tmp_path: Path) -> None:
    load_or_create(data_dir, "correct horse")
    archive, given = tmp_path / "keys.backup", tmp_path / "given"
    write_archive(data_dir, MANIFEST, archive, quiet)
    assert not verify_all(archive, None, quiet)[1]
    with pytest.raises(BadInput, match="cannot be read"):
        verify_all(archive, given, quiet)
    given.write_text("another")
    with pytest.raises(BadInput, match="does not open the signing keys"):
        verify_all(archive, given, quiet)
    beside = tmp_path / "keys.backup.passphrase"
    beside.write_text("correct horse\n")
    assert verify_all(archive, None, quiet)[1]
    with pytest.raises(BadInput, match="does not open the signing keys"):
        verify_all(archive, given, quiet)
    beside.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="cannot be read"):
        verify_all(archive, None, quiet)
