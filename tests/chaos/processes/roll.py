"""Ends actors for good, one after the other: `python -m tests.chaos.processes.roll HOST:PORT NAME ...`, in a process of
its own. The park's supervisor makes each anew, on the node that its turn puts it on; the next is ended when it answers.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import ray

from ops.embedded.ray_node import NAMESPACE

BACK_WITHIN_S = 30.0


def main(address: str, names: list[str]) -> None:
    """Raises: TimeoutError for one that does not come back."""
    ray.init(address=address, namespace=NAMESPACE, logging_level="ERROR")
    for name in names:
        old: Any = ray.get_actor(name)
        ray.kill(old, no_restart=True)
        _wait(name, old)


def _wait(name: str, old: Any) -> None:
    deadline = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < deadline:
        try:
            new: Any = ray.get_actor(name)
            if new._actor_id != old._actor_id:
                ray.get(new.__ray_ready__.remote(), timeout=BACK_WITHIN_S)
                if not name.startswith("owner"):  # whose partitions its caller looks for
                    ray.get(new.start.remote(), timeout=BACK_WITHIN_S)
                return
        except (ValueError, ray.exceptions.RayActorError):
            pass  # not made yet
        time.sleep(0.1)
    raise TimeoutError(f"{name} is not back after {BACK_WITHIN_S:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
