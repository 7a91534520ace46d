"""Puts a backup into an empty data folder: everything is made beside it and takes its place when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ops import signing_keys
from ops.backup import archive, ledger, postgres
from ops.backup.archive import Manifest
from ops.backup.make import LEDGER, PHRASE_SUFFIX, POSTGRES
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.errors import BadInput, OpsError
from ops.files import make_folder, sync_folder, sync_tree, write_atomic

Told = Callable[[str], None]


def restore(path: Path, passphrase: Path | None, data_dir: Path, told: Told) -> Manifest:
    """Restores an archive, whole or not at all. Servers are started for it and stopped again.

    Raises:
        BadInput: the archive is damaged, the passphrase is not the one of its keys, or the folder is not empty.
            Nothing was changed.
        OpsError: a server or the disk does not do its part. What had been made was removed again.
    """
    _check_empty(data_dir)
    manifest = archive.verify(path, told)
    phrase = _read_passphrase(path, passphrase)
    make_folder(data_dir.parent)
    fresh = Path(tempfile.mkdtemp(dir=data_dir.parent, prefix=f".{data_dir.name}."))
    try:
        archive.extract(path, fresh, told)
        _check_keys(fresh, phrase)
        write_atomic(fresh / "secrets" / "signing", phrase.encode())
        _fill_ledger(fresh, manifest, told)
        _fill_postgres(fresh, told)
        _take_place(fresh, data_dir)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def verify_all(path: Path, passphrase: Path | None, told: Told) -> tuple[Manifest, bool]:
    """Reads the whole archive, and tries the passphrase if it is given or lies beside it: answers whether it was tried.

    Raises:
        BadInput: the archive is damaged, or the passphrase is not the one of its keys. Nothing was changed.
    """
    manifest = archive.verify(path, told)
    if passphrase is None and not _beside(path).exists():
        return manifest, False
    phrase = _read_passphrase(path, passphrase)
    with tempfile.TemporaryDirectory(prefix="parkgate-") as folder:  # 0700, and the keys in it stay encrypted
        archive.extract(path, Path(folder), told, within="signing/")
        _check_keys(Path(folder), phrase)
    return manifest, True


def _check_empty(data_dir: Path) -> None:
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise BadInput(
            f"{data_dir} is not empty; a backup is restored into a folder of its own. Nothing was changed.",
            "Choose another with --data-dir, or move that one away.",
        )


def _beside(path: Path) -> Path:
    return path.with_name(path.name + PHRASE_SUFFIX)


def _read_passphrase(path: Path, given: Path | None) -> str:
    try:
        return signing_keys.read_passphrase(given or _beside(path))
    except OpsError as error:
        raise BadInput(
            f"{error.message} Nothing was changed.",
            "The backup left it in a file of its own; name that with --passphrase-file.",
        ) from error


def _check_keys(fresh: Path, phrase: str) -> None:
    try:
        signing_keys.open_ring(fresh, phrase)
    except OpsError as error:
        raise BadInput(
            "The passphrase does not open the signing keys of this backup. Nothing was changed.",
            "Name the file that was made together with it: --passphrase-file.",
        ) from error


def _fill_ledger(fresh: Path, manifest: Manifest, told: Told) -> None:
    told("restoring the ledger")
    server = EmbeddedValkey(fresh)
    ledger.place(fresh / LEDGER, server)
    with server:
        bounds = ledger.renew(server.url, manifest.offsets)
    _check_joins(bounds, manifest.offsets)


def _check_joins(bounds: Mapping[str, tuple[int, int]], offsets: Mapping[str, int]) -> None:
    """Reporting must find its next entry in the log, or be at its end."""
    for name, offset in offsets.items():
        first, last = bounds.get(name, (0, 0))
        if offset > last or (last and first > offset + 1):
            raise BadInput(
                f"The backup is not of one instant: reporting has read {name} up to {offset}, and its log holds "
                f"{first} to {last}. Nothing was changed.",
                "Use another backup.",
            )


def _fill_postgres(fresh: Path, told: Told) -> None:
    told("restoring Postgres")
    with EmbeddedPostgres(fresh) as server:
        postgres.restore(server.url, fresh / POSTGRES)
    (fresh / POSTGRES).unlink()


def _take_place(fresh: Path, data_dir: Path) -> None:
    for left_over in ("run", "logs"):
        shutil.rmtree(fresh / left_over, ignore_errors=True)
    sync_tree(fresh)
    fresh.rename(data_dir)  # over an empty folder or none; nothing else gives way
    sync_folder(data_dir.parent)
