"""Reporting: carries the ledger into Postgres, exactly once, and answers what finance and operations ask.

A name is imported when it is asked for: whoever only asks for a report needs neither Ray nor what speaks to Postgres.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reporting.actors import ReportingActor
    from reporting.config import ReportingConfig
    from reporting.database import migrate
    from reporting.joint import JointWriter
    from reporting.reconcile import Count, CountBook, Difference, compare
    from reporting.service import serve
    from reporting.worker import PartitionWorker, WorkerState

_MODULES = {
    "Count": "reconcile",
    "CountBook": "reconcile",
    "Difference": "reconcile",
    "JointWriter": "joint",
    "PartitionWorker": "worker",
    "ReportingActor": "actors",
    "ReportingConfig": "config",
    "WorkerState": "worker",
    "compare": "reconcile",
    "migrate": "database",
    "serve": "service",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = [
    "Count",
    "CountBook",
    "Difference",
    "JointWriter",
    "PartitionWorker",
    "ReportingActor",
    "ReportingConfig",
    "WorkerState",
    "compare",
    "migrate",
    "serve",
]
