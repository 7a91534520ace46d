"""Options that commands share, and the settings that come of them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ops.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of all data (PARKGATE_DATA_DIR).", show_default="./parkgate-data"),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file (PARKGATE_CONFIG).", show_default="parkgate.toml in the data folder"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def settings(data_dir: Path | None, config: Path | None) -> "Settings":
    """The settings under these flags. The flags enter the environment, so that child processes find the same."""
    from ops.settings import load

    found = load(config, {"data_dir": data_dir})
    # Children run elsewhere: what was given relative to this folder reaches them absolute.
    os.environ["PARKGATE_DATA_DIR"] = str(found.data_dir)
    if "PARKGATE_CATALOGUE_DIR" in os.environ:
        os.environ["PARKGATE_CATALOGUE_DIR"] = str(found.catalogue_dir)
    if config is not None:
        os.environ["PARKGATE_CONFIG"] = str(config.expanduser().absolute())
    return found
