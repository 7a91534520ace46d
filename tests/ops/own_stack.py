"""A stack with free ports in a folder of the test's own, driven by the `parkgate` command as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ops.files import make_folder
from ops.own_stack import write_settings


class CommandLine:
    """`parkgate` on one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = make_folder(data_dir)
        write_settings(self.data_dir)

    def run(self, *arguments: str, timeout: float = 120, **settings: str) -> subprocess.CompletedProcess[str]:
        """`settings` by the names of their environment variables, without the prefix, in lower case."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PARKGATE_")}
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            env=env
            | {f"PARKGATE_{name.upper()}": value for name, value in settings.items()}
            | {"PARKGATE_DATA_DIR": str(self.data_dir)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, *arguments: str, timeout: float = 120) -> str:
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def verdicts(self, gate: str, source: Path, *arguments: str) -> list[dict[str, Any]]:
        """What `parkgate gate run` says of the images in a folder."""
        shown = self.ok("gate", "run", "--gate", gate, "--source", f"file:{source}", "--json", *arguments)
        lines = [json.loads(line) for line in shown.splitlines()]
        return [line for line in lines if line["event"] == "verdict"]
