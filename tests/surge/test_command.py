"""`parkgate surge` where the packages of its extra are not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from loadtest.surge.command import app
from ops.errors import OpsError


@pytest.mark.parametrize("arguments", [[], ["compare", "a", "b"], ["report", "a"]])
def test_what_needs_the_extra_says_how_to_install_it(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, OpsError)
    assert "jinja2" in error.message
    assert "pip install 'jinja2>=3.1' 'locust>=2.40'." in error.mend
    assert "pip install '.[surge]'" in error.mend
