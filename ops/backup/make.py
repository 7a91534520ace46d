"""Makes a backup of a running park: gathers its parts in a folder beside the file, then packs them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from ops import signing_keys
from ops.backup import archive, postgres
from ops.backup.archive import Manifest
from ops.backup.ledger import LedgerImage, first_entries
from ops.errors import BadInput, OpsError
from ops.files import write_atomic
from ops.services.catalogue import read_catalogue
from ops.settings import FILE_NAME, Settings
from ops.stack import Endpoints

LEDGER, POSTGRES = "ledger.rdb", "postgres.dump"
FOLDERS = ("pki", "signing")
STAYS_HERE = frozenset(
    {"data_dir", "catalogue_dir", "postgres_url", "ledger_url", "ray_address", "signing_passphrase_file"}
)
"""Settings of this machine: paths, and addresses with passwords of servers that a restored park does not use."""
ATTEMPTS = 3
PHRASE_SUFFIX = ".passphrase"


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup."""

    archive: Path
    passphrase: Path
    manifest: Manifest


def make(settings: Settings, out: Path, now: datetime, told: Callable[[str], None]) -> Made:
    """Writes the archive, and beside it the passphrase of the signing keys in it, which is to be kept elsewhere.

    Raises:
        BadInput: one of the files exists.
        OpsError: the passphrase does not open the keys (nothing was written), a server does not do its part, or the
            disk is full.
    """
    phrase = out.with_name(out.name + PHRASE_SUFFIX)
    if out.exists() or phrase.exists():
        raise BadInput(f"{out} or {phrase} exists; a backup is never written over.", "Choose another --out.")
    passphrase = signing_keys.open_passphrase(settings)
    try:
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise OpsError(f"{out.parent} cannot be written: {error.strerror}.", "Choose another --out.") from error
    try:
        offsets = _copy_servers(Endpoints(settings), folder, told)
        told("copying keys, certificates, catalogue and settings")
        _copy_files(settings, folder)
        manifest = archive.write_archive(folder, _manifest(settings, now, offsets), out, told)
        write_atomic(phrase, passphrase.encode())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Made(out, phrase, manifest)


def _copy_servers(endpoints: Endpoints, folder: Path, told: Callable[[str], None]) -> dict[str, int]:
    """Both servers as of one instant; answers how far reporting had read. See `ops.backup` for why in this order."""
    for _ in range(ATTEMPTS):
        with ExitStack() as open_:
            image = open_.enter_context(LedgerImage(endpoints.ledger_url))
            told("fixing the instant")
            with postgres.sales_held(endpoints.postgres_url):
                seen = open_.enter_context(postgres.view(endpoints.postgres_url))
                image.begin()
            if _trimmed_between(endpoints.ledger_url, seen.offsets):
                continue
            told("copying the ledger")
            image.finish(folder / LEDGER)
            told("copying Postgres")
            postgres.dump(endpoints.postgres_url, seen.snapshot, folder / POSTGRES)
            return seen.offsets
    raise OpsError("The ledger was trimmed each time between the two looks at it.", "Try again.")


def _trimmed_between(ledger_url: str, offsets: Mapping[str, int]) -> bool:
    """Whether an entry may be missing from the image that reporting, as dumped, has yet to read. What the log begins
    with now, it began with or before when the image was taken."""
    return any(first > offsets[name] + 1 for name, first in first_entries(ledger_url, offsets).items())


def _copy_files(settings: Settings, folder: Path) -> None:
    for name in FOLDERS:
        _copy_tree(settings.data_dir / name, folder / name)
    _copy_tree(settings.catalogue_dir, folder / "catalogue")
    write_atomic(folder / FILE_NAME, _settings_text(settings).encode())


def _copy_tree(source: Path, target: Path) -> None:
    """Files with their rights; locks and half-written files begin with a dot and stay."""
    shutil.copytree(source, target, ignore=lambda _folder, names: [name for name in names if name.startswith(".")])


def _settings_text(settings: Settings) -> str:
    """The settings that are in force and not the default, and the number of partitions, which must never change."""
    lines = ["# The settings in force when the backup was made, without addresses and paths of that machine."]
    for name, known in Settings.model_fields.items():
        value = getattr(settings, name)
        if name not in STAYS_HERE and (value != known.default or name == "partitions"):
            lines.append(f"{name} = {json.dumps(value)}")  # numbers, texts and lists of texts are the same in TOML
    return "\n".join(lines) + "\n"


def _manifest(settings: Settings, now: datetime, offsets: dict[str, int]) -> Manifest:
    venue = read_catalogue(settings.catalogue_dir)[1].venue
    return Manifest(version("parkgate"), now.isoformat(timespec="seconds"), venue.name, settings.partitions, offsets)


def default_path(now: datetime) -> Path:
    """Where a backup goes that was given no name."""
    return Path(os.curdir).absolute() / f"parkgate-{now:%Y%m%d-%H%M%S}.backup"
