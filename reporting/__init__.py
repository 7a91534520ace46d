"""Reporting: carries the ledger into Postgres, exactly once, and answers what finance and operations ask."""

from reporting.actors import ReportingActor
from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.joint import JointWriter
from reporting.reconcile import Count, CountBook, Difference, compare
from reporting.recount import recount
from reporting.service import serve
from reporting.worker import PartitionWorker, WorkerState

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
    "recount",
    "serve",
]
