"""What the real code takes from the real world, put in the hands of the simulation for as long as a day lasts.

Randomness comes from the seed, time from the virtual clock, Postgres and the ledger's connection from memory, the
caller's identity from the stream instead of a certificate; snapshots come after a few entries instead of thousands, so
that a small day has them. Everything else runs as it is.
"""

from __future__ import annotations

import gc
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from cluster import control, gate_service, hosting, quota_owner, snapshots
from cluster.identity import Identity
from reporting import joint, worker
from tests.simulation import remembered
from tests.simulation.loop import PROCESS
from tests.simulation.park import Park
from tests.simulation.servers import Ledger
from ticketcore import token

BYTES_PER_EVENT = 60


@contextmanager
def replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Attributes of modules and classes, replaced and put back."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


@contextmanager
def as_one_world(park: Park, chance: random.Random) -> Iterator[None]:
    """Everything that a day needs from outside."""
    with (
        _silence(),
        replaced(
            (control, "read_catalogue", remembered.read_catalogue),
            (control, "compile_rules", remembered.compile_rules),
            (token, "Ed25519PublicKey", remembered.PublicKey),
            (os, "urandom", chance.randbytes),
            (os, "getpid", _pid),
            (hosting, "Ledger", lambda _url: Ledger(park.ledger.client())),
            (worker, "random", chance),
            (worker, "metrics", _Unmeasured()),
            (worker, "make_client", lambda _url: park.ledger.client()),
            (joint, "connect", park.postgres.connect),
            (joint, "read_offset", park.postgres.read_offset),
            (joint, "write", park.postgres.write),
            (gate_service, "identity_of", _identity_of),
            (gate_service, "wall_clock_ms", park.clock("gateway")),
            (snapshots, "KEPT_ENTRIES", 0),
            (snapshots, "BYTES_PER_EVENT", BYTES_PER_EVENT),
            (quota_owner, "SNAPSHOT_AFTER_ENTRIES", 6),
        ),
    ):
        yield


class _Unmeasured:
    """In the place of metrics, which are the whole process's and not a day's: takes everything, keeps nothing."""

    def __getattr__(self, _name: str) -> _Unmeasured:
        return self

    def __call__(self, *_: object) -> _Unmeasured:
        return self


def _pid() -> int:
    process = PROCESS.get()
    return process.pid if process is not None else 0


def _identity_of(context: Any) -> Identity:
    return Identity({"gate": context.names, "device": frozenset({"simulated"})}, 1)


@contextmanager
def _silence() -> Iterator[None]:
    """Owners and workers log what happens to them, which on such days is much."""
    before, enabled = structlog.get_config(), gc.isenabled()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    reporting = logging.getLogger("reporting")
    level = reporting.level
    reporting.setLevel(logging.CRITICAL + 1)
    gc.disable()  # what is collected when must not depend on what ran before
    try:
        yield
    finally:
        structlog.configure(**before)
        reporting.setLevel(level)
        if enabled:
            gc.enable()
