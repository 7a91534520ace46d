"""One target guided by coverage: `python -m tests.fuzz.guided TARGET [SECONDS]`.

atheris keeps each case that reaches new code, and goes on from there. It pays where a format has many branches that
chance seldom meets one after the other: claims, replay, HTTP, catalogues. It is an extra (`pip install atheris`): its
wheels are there for Linux only. Nothing of ours may be imported before it watches the imports.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

INSTRUMENTED = ["ticketcore", "cluster", "gateclient", "sales", "reporting", "ops"]
SECONDS = 60


def main() -> None:
    """Runs until the time is over; a finding ends the process with the case that broke it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.run import silence
        from tests.fuzz.targets import MAKERS

    target = MAKERS[sys.argv[1]]()
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    with silence(), tempfile.TemporaryDirectory(prefix="parkgate-corpus-") as folder:
        for number, seed in enumerate(target.seeds):
            (Path(folder) / f"{number:04}").write_bytes(seed)
        flags = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", folder]
        atheris.Setup([sys.argv[0], *flags], lambda data: target.case(data) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
