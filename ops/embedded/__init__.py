"""Real servers run as child processes, each with its data in one folder. See `base` for what they share."""

from ops.embedded.base import EmbeddedServer
from ops.embedded.postgres import EmbeddedPostgres
from ops.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedServer", "EmbeddedValkey"]
