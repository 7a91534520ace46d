"""Faults on demand: at a time of the rehearsed day something is killed or cut, and the day must go on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from loadtest.surge.clock import of_day
from ops.errors import BadInput


class Kind(StrEnum):
    """What happens."""

    OWNER = "owner"
    """The partition owner's process is killed: nothing is decided until Ray has started it again."""
    GATEWAY = "gateway"
    """The gateway's process is killed: every stream breaks."""
    NETWORK = "network"
    """All lines between gates and gateways are cut for some seconds."""
    POSTGRES = "postgres"
    """Postgres is killed: sales stop, gates go on."""


CUT_S = 3.0
ACTORS = {Kind.OWNER: "ray::OwnerActor", Kind.GATEWAY: "ray::GatewayActor"}
SAYS = {
    Kind.OWNER: "the partition owner is killed",
    Kind.GATEWAY: "the gateway is killed",
    Kind.NETWORK: f"every line to the gates is cut for {CUT_S:g} s",
    Kind.POSTGRES: "Postgres is killed",
}
_FORM = re.compile(r"([a-z]+)(?:@([01][0-9]|2[0-3]):([0-5][0-9]))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them; `at_s` is a time of the rehearsed day."""

    kind: Kind
    at_s: float


def parse(text: str, day_s: tuple[float, float], *, own: bool) -> Fault:
    """`owner@11:30`; without a time, in the middle of the day, which is from opening to closing. Raises: BadInput."""
    found = _FORM.fullmatch(text)
    kinds = ", ".join(Kind)
    if found is None or found[1] not in list(Kind):
        raise BadInput(f"{text!r} is no fault.", f"Faults are {kinds}, with a time of the day: owner@11:30.")
    kind = Kind(found[1])
    if kind is not Kind.NETWORK and not own:
        raise BadInput(
            f"The fault {kind} needs a system of the rehearsal's own.", "Against an address only network works."
        )
    opens_s, closes_s = day_s
    if not found[2]:
        return Fault(kind, (opens_s + closes_s) / 2)
    at_s = (int(found[2]) * 60 + int(found[3])) * 60.0
    if not opens_s <= at_s <= closes_s:  # it would never strike, and the report would say that all went well
        raise BadInput(f"{text} is outside of the day, which is from {of_day(opens_s)} to {of_day(closes_s)}.")
    return Fault(kind, at_s)
