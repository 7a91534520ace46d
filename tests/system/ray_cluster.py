"""Two nodes of Ray on this machine, in a process of their own: `python -m tests.system.ray_cluster`, with RAY_TMPDIR.

Says where it is and which nodes there are; removes the second at the word `remove`, adds another at `add`; ends with
its standard input.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 2, "object_store_memory": 100 * 1024 * 1024, "include_dashboard": False}


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)  # noqa: T201


def main() -> None:
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=NODE)
    try:
        second = cluster.add_node(**NODE)
        say(address=cluster.address, head=cluster.head_node.node_id, second=second.node_id)
        for line in sys.stdin:
            if line.strip() == "remove":
                cluster.remove_node(second, allow_graceful=False)
                say(removed=second.node_id)
            elif line.strip() == "add":
                second = cluster.add_node(**NODE)
                say(second=second.node_id)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
