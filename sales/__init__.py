"""Sales: catalogue, orders, payments, issue, refunds, reschedules and shifts, over gRPC and Postgres.

`serve(SalesConfig(...))` runs it. It speaks to the cluster over ControlService and to nobody else's Python.

A name is imported when it is asked for: whoever only reads a catalogue does not need what speaks to Postgres.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sales.catalogue_folder import load_folder
    from sales.config import SalesConfig, TlsFiles
    from sales.sandbox import SandboxProvider
    from sales.server import Server, running, serve

_MODULES = {
    "SalesConfig": "config",
    "SandboxProvider": "sandbox",
    "Server": "server",
    "TlsFiles": "config",
    "load_folder": "catalogue_folder",
    "running": "server",
    "serve": "server",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = ["SalesConfig", "SandboxProvider", "Server", "TlsFiles", "load_folder", "running", "serve"]
