"""Commands that other packages bring along: they join `parkgate`, and a broken one breaks no other."""

from __future__ import annotations

import importlib.util
from importlib.metadata import EntryPoint

import pytest
import typer
from typer.testing import CliRunner

from ops import plugins
from ops.errors import OpsError


def app_with(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> typer.Typer:
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "parkgate.commands" else ())
    app = typer.Typer()
    app.command()(hello)
    plugins.add_commands(app, "More")
    return app


def hello() -> None:
    print("hello")  # noqa: T201


brought = typer.Typer()
brought.callback(invoke_without_command=True)(hello)


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "parkgate.commands")


def test_a_command_that_a_package_brings_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_with(monkeypatch, point("greet", f"{__name__}:brought"))
    assert CliRunner().invoke(app, ["greet"]).output == "hello\n"


@pytest.mark.parametrize(
    ("value", "said"),
    [("no_such_package:app", "No module named"), ("ops.errors:EXIT_OK", "ops.errors:EXIT_OK is no command")],
)
def test_a_command_that_cannot_be_loaded_says_so_and_breaks_no_other(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    app = app_with(monkeypatch, point("broken", value))
    assert CliRunner().invoke(app, ["hello"]).output == "hello\n"
    failed = CliRunner().invoke(app, ["broken"])
    assert isinstance(failed.exception, OpsError)
    assert said in failed.exception.message


def test_a_rehearsal_without_its_packages_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from loadtest.surge.command import require_packages

    require_packages("jinja2", "locust")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "locust" else found(name))
    with pytest.raises(OpsError, match=r"needs locust.*pip install .*locust"):
        require_packages("jinja2", "locust")


def test_the_rehearsal_is_brought_along_and_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    heavy = ("grpc", "locust", "gevent", "jinja2", "pydantic", "psutil")
    code = f"import sys, loadtest.surge.command; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    shown = subprocess.run([sys.executable, "-m", "ops.cli", "--help"], capture_output=True, text=True, check=True)
    assert "surge" in shown.stdout
