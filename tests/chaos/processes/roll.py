"""Ends actors for good, all that are named at once: `python -m tests.chaos.processes.roll HOST:PORT NAME ...`, in a
process of its own. The park's supervisor makes each anew, on the node that its turn puts it on; then this ends.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import ray

from ops.embedded.ray_node import NAMESPACE

BACK_WITHIN_S = 30.0


def main(address: str, names: list[str]) -> None:
    """Returns when all are back. Raises: TimeoutError for one that does not come back."""
    ray.init(address=address, namespace=NAMESPACE, logging_level="ERROR")
    old = {name: ray.get_actor(name) for name in names}
    for actor in old.values():
        ray.kill(actor, no_restart=True)
    for name, actor in old.items():
        _wait(name, actor)


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
