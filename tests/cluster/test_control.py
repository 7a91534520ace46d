"""What is in force, changed by several operators at several gateways at once, over a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster import control as control_module
from cluster.control import KEYS, MODES, Control, ring_version
from cluster.ledger import Ledger
from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from ticketcore.admission import Mode
from ticketcore.catalogue_document import canonical_json
from ticketcore.errors import ConflictError, UnavailableError

EMERGENCY, CLOSED, OPEN = gate_pb2.GATE_MODE_EMERGENCY, gate_pb2.GATE_MODE_CLOSED, gate_pb2.GATE_MODE_OPEN
RAW_KEYS = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(4)]
Gateway = Callable[[], Control]


@pytest.fixture
async def gateway(valkey_url: str) -> AsyncIterator[Gateway]:
    """Makes one gateway's control records."""
    ledgers: list[Ledger] = []

    def make() -> Control:
        ledgers.append(Ledger(valkey_url))
        return Control(ledgers[-1])

    await make().publish_catalogue(1, canonical_json(small_park.document()))
    yield make
    for ledger in ledgers:
        await ledger.close()


def modes(*changes: tuple[str, gate_pb2.GateMode.ValueType]) -> control_pb2.SetModesRequest:
    return control_pb2.SetModesRequest(
        changes=[control_pb2.ModeChange(gate_id=gate_id, mode=mode) for gate_id, mode in changes]
    )


async def in_force(control: Control) -> dict[str, Mode]:
    await control.refresh()
    assert control.catalogue is not None
    names = {gate.number: gate.id for gate in control.catalogue.gates.values()}
    return {names[number]: mode for number, mode in control.modes.items()}


async def test_two_operators_who_set_modes_at_once_at_two_gateways_both_have_what_they_were_told(
    gateway: Gateway,
) -> None:
    """An emergency that was confirmed must not vanish because somebody closes another gate."""
    one, other = gateway(), gateway()
    for first in (EMERGENCY, CLOSED, EMERGENCY):
        await asyncio.gather(one.set_modes(modes(("main", first))), other.set_modes(modes(("side", CLOSED))))
        assert await in_force(one) == {"main": Mode(first), "side": Mode.CLOSED}
        await other.set_modes(modes(("", OPEN)))


@pytest.mark.parametrize("seed", range(5))
async def test_modes_set_by_a_crowd_of_operators_are_those_of_some_order_of_their_calls(
    gateway: Gateway, seed: int
) -> None:
    chance = random.Random(seed)
    gates = [gate["id"] for gate in small_park.document()["gates"]]
    controls = [gateway() for _ in range(4)]
    calls = [(chance.choice(gates), chance.choice((EMERGENCY, CLOSED))) for _ in range(24)]
    await asyncio.gather(*(chance.choice(controls).set_modes(modes(call)) for call in calls))
    found = await in_force(controls[0])
    assert found.keys() == {gate for gate, _ in calls}
    assert all((gate, int(mode)) in calls for gate, mode in found.items())


async def test_modes_that_others_change_all_the_time_are_refused_rather_than_lost(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = gateway()

    async def stale(_name: str) -> int:
        return 41

    monkeypatch.setattr(control._ledger, "control_version", stale)
    monkeypatch.setattr(control_module, "MERGE_ATTEMPTS", 3)
    with pytest.raises(UnavailableError, match="nothing was done"):
        await control.set_modes(modes(("main", CLOSED)))
    assert await in_force(control) == {}


async def test_modes_stored_by_an_earlier_version_are_added_to(gateway: Gateway) -> None:
    """It stored every change as version 0."""
    control = gateway()
    await control._ledger.write_control(MODES, 0, modes(("main", EMERGENCY)).SerializeToString())
    await control.set_modes(modes(("side", CLOSED)))
    assert await in_force(control) == {"main": Mode.EMERGENCY, "side": Mode.CLOSED}


def ring(*key_ids: int) -> control_pb2.PublishKeysRequest:
    keys = [control_pb2.PublicKey(key_id=key_id, public_key=RAW_KEYS[key_id]) for key_id in key_ids]
    return control_pb2.PublishKeysRequest(keys=keys)


HISTORY = [(), (0,), (0, 1), (1,), (1, 2), (0, 1, 2, 3), (1, 2, 3), (3,)]
"""Of one ring: keys are added, each with the next id, and old ones dropped."""


def test_each_ring_of_a_history_is_newer_than_those_before() -> None:
    versions = [ring_version(key_ids) for key_ids in HISTORY]
    assert versions == sorted(set(versions))
    assert ring_version(range(32)) < ring_version(range(1, 32))


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise(HISTORY)))
async def test_a_ring_that_arrives_late_does_not_roll_a_newer_one_back(
    gateway: Gateway, older: tuple[int, ...], newer: tuple[int, ...]
) -> None:
    """I7: tickets signed with the new key would be called forged."""
    one, other = gateway(), gateway()
    await one.publish_keys(ring(*older))
    await one.publish_keys(ring(*newer))
    await other.publish_keys(ring(*older))
    await other.refresh()
    assert other.ring.key_ids == newer


async def test_an_older_ring_of_other_keys_is_refused_and_one_of_an_earlier_version_replaced(gateway: Gateway) -> None:
    control = gateway()
    await control._ledger.write_control(KEYS, 0, ring(0).SerializeToString())
    await control.publish_keys(ring(0, 1))
    foreign = ring(0)
    foreign.keys[0].public_key = RAW_KEYS[3]
    with pytest.raises(ConflictError, match="its key 0 is another"):
        await control.publish_keys(foreign)
    await control.refresh()
    assert control.ring.key_ids == (0, 1)


async def test_records_read_at_once_by_two_leave_the_newest_in_force(gateway: Gateway) -> None:
    """A poll that was slow must not put back what a call has just replaced."""
    control, read = gateway(), Ledger.read_control
    await control.publish_keys(ring(0))
    late = asyncio.Event()

    async def slow(name: str) -> tuple[int, bytes] | None:
        stored = await read(control._ledger, name)
        if name == KEYS and not late.is_set():
            late.set()
            await asyncio.sleep(0.05)
        return stored

    control._ledger.read_control = slow  # type: ignore[method-assign]
    poll = asyncio.create_task(control.refresh())
    await late.wait()
    await control.publish_keys(ring(0, 1))
    await asyncio.gather(poll, control.refresh())
    assert control.ring.key_ids == (0, 1)
