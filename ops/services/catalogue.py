"""The park's catalogue folder: the shipped example at the first start, and what is in force at every later one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ops.errors import BadInput
from ops.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "catalogue"


def ensure_catalogue(settings: Settings) -> None:
    """Copies the example park into a new data folder, so that a newcomer has something to sell and to edit.

    Raises:
        BadInput: a folder was named elsewhere, and is not there.
    """
    if settings.catalogue_dir.exists():
        return
    if settings.catalogue_dir != settings.data_dir / "catalogue":
        raise BadInput(
            f"The catalogue's folder {settings.catalogue_dir} does not exist.",
            "Name the folder with your park's files in PARKGATE_CATALOGUE_DIR, or leave it out for the example park.",
        )
    shutil.copytree(EXAMPLE, settings.catalogue_dir)


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
