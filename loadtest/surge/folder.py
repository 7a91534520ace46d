"""The folder of a report: a new one is written beside it, and takes its place when it is whole.

    surge-out/               the last report
    surge-out.unfinished/    a rehearsal that goes on, or that failed: what its parts said
    surge-out.replaced/      the last report, for the instant in which the new one takes its place

So a rehearsal that cannot begin, or fails, costs nobody the report that was there.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import IO

from ops.errors import BadInput, OpsError

MARK = ".parkgate-surge"
"""Says that a folder is the rehearsal's, to be removed and made anew."""
UNFINISHED, REPLACED = ".unfinished", ".replaced"


class ReportFolder:
    """`final` is the folder that people name; `unfinished` the one in which the rehearsal works."""

    def __init__(self, out: Path) -> None:
        self.final = out.resolve()
        self.unfinished = self.final.with_name(self.final.name + UNFINISHED)
        self._replaced = self.final.with_name(self.final.name + REPLACED)
        self._lock: IO[bytes] | None = None

    def check(self) -> None:
        """Changes nothing. Raises: BadInput for a folder with somebody else's files in it, or one that is none."""
        for folder in (self.final, self.unfinished, self._replaced):
            if folder.exists() and not folder.is_dir():
                raise BadInput(f"Cannot make the folder {folder}: Not a directory.", "Name another with --out.")
            if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
                raise BadInput(f"{folder} is not a rehearsal's: it holds other files.", "Name another with --out.")

    def begin(self) -> Path:
        """An empty folder to work in, this process's alone. Raises: BadInput for one that cannot be made; OpsError
        while another rehearsal works in it."""
        self.check()
        try:
            self.unfinished.mkdir(parents=True, exist_ok=True)
            self._take()
            for path in self.unfinished.iterdir():
                if path.name != MARK:
                    _remove(path)
        except OSError as error:
            raise BadInput(
                f"Cannot make the folder {self.unfinished}: {error.strerror}.", "Name another with --out."
            ) from error
        return self.unfinished

    def _take(self) -> None:
        """The lock goes when this process ends, whatever ends it."""
        self._lock = (self.unfinished / MARK).open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise OpsError(
                f"Another rehearsal writes its report to {self.final} just now.",
                "Wait for its end, or name another folder with --out.",
            ) from None

    def finish(self) -> None:
        """What is in the unfinished folder takes the place of the last report. Raises: OpsError that says where it is
        when it cannot."""
        try:
            if self.final.exists():
                if self._replaced.exists():
                    shutil.rmtree(self._replaced)
                self.final.rename(self._replaced)
            self.unfinished.rename(self.final)
            shutil.rmtree(self._replaced, ignore_errors=True)
        except OSError as error:
            raise OpsError(
                f"The report is whole, and cannot take the place of {self.final}: {error.strerror}.",
                f"It is in {self.unfinished}.",
            ) from error
        finally:
            self.end()

    def end(self) -> None:
        """Somebody else may work here. What a rehearsal that failed left stays, for whoever wants to know why."""
        if self._lock is not None:
            self._lock.close()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
