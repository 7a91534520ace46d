"""How modules of ours are started as processes: with nothing of the folder that the user is in."""

import ast
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import ops
from ops.embedded.base import own_module

ROOT = Path(ops.__file__).parents[1]


@pytest.fixture
def strange_folder(tmp_path: Path) -> Path:
    """One that holds what hides a package of ours, and a module that a library of ours imports."""
    (tmp_path / "parkgate").mkdir()
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "__init__.py").write_text("raise SystemExit('the code of a stranger')\n")
    (tmp_path / "secrets.py").write_text("raise SystemExit('the code of a stranger')\n")
    return tmp_path


def test_a_module_starts_in_a_folder_with_names_of_ours(strange_folder: Path) -> None:
    said = _said(own_module("ops.run", "nothing"), strange_folder, os.environ)
    assert "usage: python -m ops.run NAME" in said


def test_a_supervisor_starts_in_a_folder_with_names_of_ours(strange_folder: Path) -> None:
    """It imports the whole stack, and says in its own words that the settings are wrong."""
    environment = os.environ | {"PARKGATE_SALES_PORT": "none"}
    for module in ("ops.watcher", "ops.supervisor"):
        said = _said(own_module(module), strange_folder, environment)
        assert "PARKGATE_SALES_PORT" in said


def test_every_start_of_a_module_is_by_own_module() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in _sources() for line in _module_switches(path)]
    assert [place.partition(":")[0] for place in found] == ["ops/embedded/base.py"], found


def _said(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, timeout=30, check=False
    )
    return done.stderr


def _sources() -> Iterator[Path]:
    for package in ("ticketcore", "cluster", "sales", "gateclient", "reporting", "loadtest", "ops"):
        yield from sorted((ROOT / package).rglob("*.py"))


def _module_switches(path: Path) -> list[int]:
    """Lines of lists and calls that name both `sys.executable` and `-m`."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = node.elts if isinstance(node, ast.List | ast.Tuple) else node.args if isinstance(node, ast.Call) else []
        words = [ast.unparse(part) for part in parts]
        if "sys.executable" in words and "'-m'" in words:
            lines.append(node.lineno)
    return lines
