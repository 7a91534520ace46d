"""One target guided by coverage: atheris keeps each case that reaches new code, and goes on from there.

It pays where a format has many branches that chance seldom meets one after the other: claims, replay, HTTP, catalogues.
atheris is an extra (`uv pip install atheris`): its wheels are there for Linux only.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

INSTRUMENTED = ["ticketcore", "cluster", "gateclient", "sales", "reporting", "ops"]


def guided(name: str, seconds: int) -> int:
    """Runs until the time is over; a finding ends the process with the case that broke it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.run import silence
        from tests.fuzz.targets import MAKERS

    target = MAKERS[name]()
    with silence(), tempfile.TemporaryDirectory(prefix="parkgate-corpus-") as folder:
        for number, seed in enumerate(target.seeds):
            (Path(folder) / f"{number:04}").write_bytes(seed)
        flags = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", folder]
        atheris.Setup([sys.argv[0], *flags], lambda data: target.case(data) and None)
        atheris.Fuzz()
    return 0
