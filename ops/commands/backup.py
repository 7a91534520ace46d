"""`parkgate backup` and `parkgate restore`: a whole park in one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from ops.commands.options import Config, DataDir

KEYS_OPEN = "The passphrase opens its signing keys."
NOT_TRIED = (
    "[yellow]The passphrase of its signing keys was not tried:[/yellow] it is not beside the archive; name it with "
    "--passphrase-file."
)


def backup(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The archive.", show_default="./parkgate-DATE-TIME.backup"),
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Write one consistent archive of the running park: Postgres, ledger, keys, certificates, catalogue, settings.

    Gates go on; a sale may wait for a moment. Beside the archive is a file with the passphrase of its signing keys.
    """
    from datetime import UTC, datetime

    from ops.backup.make import default_path, make
    from ops.commands.options import settings
    from ops.running import require_running
    from ops.screen import OUT, size

    found, now = settings(data_dir, config), datetime.now(UTC)
    require_running(found.data_dir)
    with OUT.status("Backing up") as status:
        made = make(found, (out or default_path(now)).absolute(), now, lambda text: status.update(f"{text} ..."))
    OUT.print(f"{made.archive}  [dim]{size(made.archive.stat().st_size)}; it holds private keys[/dim]", soft_wrap=True)
    OUT.print(f"{made.passphrase}  [dim]the passphrase of its signing keys: keep it elsewhere[/dim]", soft_wrap=True)


def restore(
    archive: Annotated[Path, typer.Argument(help="The file that `parkgate backup` made.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The passphrase's file.", show_default="beside the archive")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only read the archive, and try the passphrase if it is there.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make the park of an archive, in an empty data folder. A damaged archive is refused before anything is touched."""
    from ops.backup.restore import restore as put_back
    from ops.backup.restore import verify_all
    from ops.screen import OUT
    from ops.settings import load

    with OUT.status("Reading") as status:
        if verify:
            manifest, tried = verify_all(archive, passphrase_file, lambda text: status.update(f"{text} ..."))
        else:
            folder = load(None, {"data_dir": data_dir}).data_dir
            manifest = put_back(archive, passphrase_file, folder, lambda text: status.update(f"{text} ..."))
    made = f"{manifest.venue}, {manifest.made_time}, Parkgate {manifest.parkgate}"
    OUT.print(f"{made}: {len(manifest.members)} files, all of them whole.", soft_wrap=True)
    if verify:
        OUT.print(KEYS_OPEN if tried else NOT_TRIED, soft_wrap=True)
    else:
        OUT.print(f"Restored to {folder}. Start it: [cyan]parkgate up --data-dir {folder}[/cyan]", soft_wrap=True)
