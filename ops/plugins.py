"""Commands that other packages bring along: entry points of the group `parkgate.commands`.

So the rehearsal is `parkgate surge`, and nothing of ours needs to know of it. Like all modules of commands, one that is
brought along imports only typer and the standard library at its top.
"""

from importlib.metadata import EntryPoint, entry_points

import typer

GROUP = "parkgate.commands"


def add_commands(app: typer.Typer, panel: str) -> None:
    """Adds each as a group of commands under its name, in the order of names."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        app.add_typer(_loaded(point), name=point.name, rich_help_panel=panel)


def _loaded(point: EntryPoint) -> typer.Typer:
    """The command; one whose package is broken says so when it is called, and breaks no other."""
    try:
        found = point.load()
    except ImportError as error:
        return _broken(point, error)
    return found if isinstance(found, typer.Typer) else _broken(point, TypeError(f"{point.value} is no command"))


def _broken(point: EntryPoint, error: Exception) -> typer.Typer:
    broken = typer.Typer(help=f"Cannot be loaded: {error}.")

    @broken.callback(invoke_without_command=True)
    def call() -> None:
        from ops.errors import OpsError

        raise OpsError(f"The command {point.name} cannot be loaded: {error}.", "Install its package again.")

    return broken
