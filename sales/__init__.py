"""Sales: catalogue, orders, payments, issue, refunds, reschedules and shifts, over gRPC and Postgres.

`serve(SalesConfig(...))` runs it. It speaks to the cluster over ControlService and to nobody else's Python.
"""

from sales.catalogue_folder import load_folder
from sales.config import SalesConfig, TlsFiles
from sales.sandbox import SandboxProvider
from sales.server import Server, running, serve

__all__ = ["SalesConfig", "SandboxProvider", "Server", "TlsFiles", "load_folder", "running", "serve"]
