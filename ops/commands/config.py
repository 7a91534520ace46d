"""`parkgate config`: what the settings are."""

import typer

from ops.commands.options import AsJson, Config, DataDir

app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show the settings."""


@app.command()
def show(data_dir: DataDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """Every setting with its value and meaning; passwords as stars."""
    from ops.commands.options import settings
    from ops.settings import Settings, masked

    values = masked(settings(data_dir, config))
    if as_json:
        import json

        print(json.dumps(values, indent=1))
        return
    from ops.screen import OUT, table

    rows = table(["Setting", "Value", "Meaning"])
    for name, value in values.items():
        rows.add_row(name, value or "-", Settings.model_fields[name].description)
    OUT.print(rows)
