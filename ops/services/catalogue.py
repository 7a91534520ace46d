"""The park's catalogue folder: the shipped example at the first start, and what is in force at every later one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ops.errors import BadInput
from ops.files import sync_folder, sync_tree
from ops.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "catalogue"


def ensure_catalogue(settings: Settings) -> None:
    """Copies the example park into a new data folder, so that a newcomer has something to sell and to edit.

    Raises:
        BadInput: a folder was named elsewhere, and is not there.
    """
    if settings.catalogue_dir.exists():
        return
    if _incoming(settings).exists():  # a crash between the two renames of `adopt`
        _incoming(settings).rename(settings.catalogue_dir)
        return
    if not _is_ours(settings):
        raise BadInput(
            f"The catalogue's folder {settings.catalogue_dir} does not exist.",
            "Name the folder with your park's files in PARKGATE_CATALOGUE_DIR, or leave it out for the example park.",
        )
    partial = _partial(settings)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(EXAMPLE, partial)
    _make_count(partial, settings.catalogue_dir)


def adopt(folder: Path, settings: Settings) -> bool:
    """After a publish: makes the folder's files those of the data folder, since every start puts those in force.

    The files that were there go to `catalogue.before`. A catalogue folder that the park keeps elsewhere is its own to
    change. Returns whether the next start puts `folder`'s files in force.
    """
    kept = settings.catalogue_dir
    if folder.resolve() == kept.resolve():
        return True
    if not _is_ours(settings):
        return False
    before, incoming, partial = kept.with_name("catalogue.before"), _incoming(settings), _partial(settings)
    for remains in (partial, incoming, before):
        shutil.rmtree(remains, ignore_errors=True)
    partial.mkdir(mode=0o700)
    for file in sorted(folder.glob("*.toml")):
        shutil.copy(file, partial)
    _make_count(partial, incoming)
    kept.rename(before)
    incoming.rename(kept)
    sync_folder(kept.parent)
    return True


def require_gates(catalogue: Any, gates: Sequence[str]) -> None:
    """Raises: BadInput when a gate is not in the catalogue, with those that it may have been meant to be."""
    unknown = [gate for gate in gates if gate not in catalogue.gates]
    if not unknown:
        return
    meant = list(dict.fromkeys(near for gate in unknown for near in get_close_matches(gate, catalogue.gates, n=3)))
    raise BadInput(
        f"There is no gate {', '.join(unknown)} in the catalogue.",
        f"Nearest: {', '.join(meant)}." if meant else f"Known are {', '.join(catalogue.gates)}.",
    )


def _is_ours(settings: Settings) -> bool:
    return settings.catalogue_dir == settings.data_dir / "catalogue"


def _make_count(partial: Path, folder: Path) -> None:
    """It is whole from here on, and on the disk: a power cut must not leave empty files that look like a catalogue."""
    sync_tree(partial)
    partial.rename(folder)
    sync_folder(folder.parent)


def _partial(settings: Settings) -> Path:
    return settings.data_dir / "catalogue.partial"


def _incoming(settings: Settings) -> Path:
    return settings.data_dir / "catalogue.incoming"


def read_catalogue(folder: Path) -> tuple[dict[str, Any], Any]:
    """The document and the catalogue of a folder.

    Raises:
        BadInput: with every fault, its file and line.
    """
    from sales.catalogue_folder import load_folder
    from ticketcore.errors import InvalidInputError

    try:
        return load_folder(folder)
    except InvalidInputError as error:
        raise BadInput(str(error), "Mend the files; `parkgate catalogue check` looks again.") from error
