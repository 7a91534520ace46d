"""One target guided by coverage: `python -m tests.fuzz.guided TARGET [SECONDS]`.

atheris keeps each case that reaches new code, and goes on from there. It pays where a format has many branches that
chance seldom meets one after the other: claims, replay, HTTP, catalogues. It is an extra (`pip install atheris`): its
wheels are there for Linux only. Nothing of ours may be imported before it watches the imports.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

INSTRUMENTED = ["ticketcore", "cluster", "gateclient", "sales", "reporting", "ops"]
SECONDS = 60
CORPUS = 3
"""The argument by which the process that fuzzes is told its folder."""


def main() -> int:
    """Runs until the time is over; a finding ends the process with the case that broke it. libFuzzer ends its process
    without a word to Python, so it has one of its own, and the corpus is removed by this one."""
    if len(sys.argv) > CORPUS:
        fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[CORPUS]))
        return 0
    seconds = sys.argv[2] if len(sys.argv) > 2 else str(SECONDS)
    with tempfile.TemporaryDirectory(prefix="parkgate-corpus-") as folder:
        return subprocess.run(
            [sys.executable, "-m", __spec__.name, sys.argv[1], seconds, folder], check=False
        ).returncode


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Does not return: atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.run import silence
        from tests.fuzz.targets import MAKERS

    target = MAKERS[name]()
    with silence():
        for number, seed in enumerate(target.seeds):
            (folder / f"{number:04}").write_bytes(seed)
        flags = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", str(folder)]
        atheris.Setup([sys.argv[0], *flags], lambda data: target.case(data) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
