"""The guard of an embedded Ray: `python -m ops.embedded.ray_guard <pid of the driver> <Ray's folder>`.

Ray's servers end with a killed driver, but two of its agents stay for a minute to report that to a server that is dead
as well. The guard waits for the driver's end and ends what is left of its session: a next Ray, which may be starting in
the same folder already, is another's. It imports nothing big.
"""

import os
import select
import sys

from ops.processes import end_all_in


def main(pid: int, temp: str) -> None:
    """Returns when the driver and everything of its Ray is gone."""
    try:
        driver = os.pidfd_open(pid)
    except ProcessLookupError:
        end_all_in(temp, pid)
        return
    waiting = select.poll()
    waiting.register(driver, select.POLLIN)
    waiting.poll()
    end_all_in(temp, pid)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
