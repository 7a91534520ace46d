"""The wall clock of a host, which jumps: every Python process of the second node reads one that is off.

libfaketime makes Python's `time.sleep` fail, and a time namespace has no wall clock of its own. So `time.time` and
`time.time_ns` are moved where Python starts (`sitecustomize`). The monotonic clock, which never jumps on a real host
either, and the clocks of Ray's own C++ are left alone.
"""

from __future__ import annotations

from pathlib import Path

SITECUSTOMIZE = """\
import time

_OFFSET = {path!r}
_monotonic, _time, _time_ns = time.monotonic, time.time, time.time_ns
_read, _seconds = -1.0, 0


def _offset():
    global _read, _seconds
    now = _monotonic()
    if now - _read > 0.1:
        _read = now
        with open(_OFFSET) as file:
            _seconds = int(file.read() or _seconds)
    return _seconds


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + 1_000_000_000 * _offset()
"""


class Clock:
    """An offset in a file, read anew every tenth of a second."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self._offset = folder, folder / "offset"
        self.turn(0)
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(path=str(self._offset)))

    def turn(self, seconds: int) -> None:
        """Sets the clock this far from the true time."""
        self._offset.write_text(str(seconds))
