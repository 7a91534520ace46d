"""What is in force: catalogue, keys and gate modes, as control records in the ledger. Read by gateways and owners.

Records are `catalogue` (canonical JSON), `keys` (PublishKeysRequest) and `modes` (SetModesRequest with every mode that
is set). They are never on the path of a scan: each process keeps what it read and asks the ledger's change counter
twice a second, or at once when told to.

Any gateway may be asked to change any of them, so a record is never simply written over. A catalogue and a ring have
an order of their own, and an older one that arrives late changes nothing; modes are merged into what is stored, and
stored only if nobody else has done so meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import structlog

from cluster.ledger import Ledger
from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import Mode
from ticketcore.catalogue import Catalogue, Zone
from ticketcore.catalogue_document import read_catalogue
from ticketcore.errors import ConflictError, DamagedDataError, ParkgateError, TransientError, UnavailableError
from ticketcore.rules import Rules, compile_rules
from ticketcore.seal import reading
from ticketcore.token import KeyRing

CATALOGUE = "catalogue"
KEYS = "keys"
MODES = "modes"
POLL_S = 0.5
MERGE_ATTEMPTS = 32
"""At changing modes: each attempt that fails means that another operator's change is stored, and there are few."""
RING_STEP = 64
"""More than a ring has keys: see `ring_version`."""
DAMAGED_CONTROL = "control records cannot be used: what was in force stays in force until they are published again"
log = structlog.get_logger("cluster.control")


class Control:
    """The control records as this process knows them. `catalogue` is None until one was published."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen = -1
        self._reading = asyncio.Lock()
        self.catalogue: Catalogue | None = None
        self.catalogue_version = 0
        self.rules: Rules | None = None
        self.ring = KeyRing({})
        self.modes: dict[int, Mode] = {}
        self.change_count = 0

    async def refresh(self) -> bool:
        """Reads again if anything changed; says whether it did.

        Raises:
            DamagedDataError: a record is not what was written. What was in force stays in force.
        """
        async with self._reading:  # of two that read at once the earlier might put its older records in force last
            return await self._refresh()

    async def refresh_or_keep(self, who: str) -> None:
        """As `refresh`, for an owner: damage is told loudly, and what was in force stays in force.

        Raises:
            TransientError: the ledger is away.
        """
        try:
            await self.refresh()
        except TransientError:
            raise
        except ParkgateError as error:
            log.critical(DAMAGED_CONTROL, owner=who, error=str(error))

    async def _refresh(self) -> bool:
        seen = await self._ledger.control_changes()
        if seen == self._seen:
            return False
        await self._read_catalogue()
        await self._read_keys()
        await self._read_modes()
        self._seen = seen
        self.change_count += 1
        return True

    async def _read_catalogue(self) -> None:
        stored = await self._ledger.read_control(CATALOGUE)
        if stored is None or stored[0] == self.catalogue_version:
            return
        version, document = stored
        with reading("the control record catalogue"):
            self.catalogue = read_catalogue(document)
        self.rules = compile_rules(self.catalogue, version)
        self.catalogue_version = version

    async def _read_keys(self) -> None:
        stored = await self._ledger.read_control(KEYS)
        if stored is not None:
            with reading("the control record keys"):
                request = control_pb2.PublishKeysRequest.FromString(stored[1])
            self.ring = KeyRing.from_bytes(_keys_of(request))

    async def _read_modes(self) -> None:
        stored = await self._ledger.read_control(MODES)
        if stored is not None and self.catalogue is not None:
            with reading("the control record modes"):
                request = control_pb2.SetModesRequest.FromString(stored[1])
            self.modes = modes_by_gate(self.catalogue, request)

    async def publish_catalogue(self, version: int, document: bytes) -> int:
        """Puts a catalogue in force unless a newer one is; returns the version in force.

        Raises:
            InvalidInputError: the document is no catalogue.
            ConflictError: it would move the park to another time zone, which its counters cannot follow.
        """
        catalogue = read_catalogue(document)
        with suppress(DamagedDataError):  # what is published now takes its place
            await self.refresh()
        if self.catalogue is not None and self.catalogue.venue.time_zone != catalogue.venue.time_zone:
            raise ConflictError(
                f"the park's time zone is {self.catalogue.venue.time_zone}; it cannot be changed to "
                f"{catalogue.venue.time_zone} while tickets are counted by its days"
            )
        return await self._ledger.write_control(CATALOGUE, version, document)

    def newly_limited(self, document: bytes) -> list[Zone]:
        """Zones that have no capacity in the catalogue in force, and one in this.

        Raises:
            InvalidInputError: the document is no catalogue.
        """
        if self.catalogue is None:
            return []
        now = self.catalogue.zones
        zones = read_catalogue(document).zones.values()
        return [zone for zone in zones if zone.capacity and zone.id in now and not now[zone.id].capacity]

    async def publish_keys(self, request: control_pb2.PublishKeysRequest) -> None:
        """Puts a ring of keys in force unless a newer one is.

        Raises:
            InvalidInputError: it is no ring.
            ConflictError: a newer one is in force, which is not of the same keys.
        """
        ring = KeyRing.from_bytes(_keys_of(request))
        version = ring_version(ring.key_ids)
        if await self._ledger.write_control(KEYS, version, request.SerializeToString()) > version:
            await self._check_related(request)

    async def _check_related(self, request: control_pb2.PublishKeysRequest) -> None:
        """An older ring of the same history is no mistake; one of another would leave its tickets unknown."""
        stored = await self._ledger.read_control(KEYS)
        assert stored is not None
        newer = _keys_of(control_pb2.PublishKeysRequest.FromString(stored[1]))
        for key_id, key in _keys_of(request).items():
            if newer.get(key_id, key) != key:
                raise ConflictError(
                    f"a newer ring of keys is in force, and its key {key_id} is another than this ring's"
                )

    async def set_modes(self, request: control_pb2.SetModesRequest) -> None:
        """Adds mode changes to those in force; the last one for a gate counts.

        Raises:
            UnavailableError: others changed modes all the while. Nothing was done, ask again.
        """
        for _ in range(MERGE_ATTEMPTS):
            version = await self._ledger.control_version(MODES)  # first: what is read then may only be newer
            merged = _merged(await self._stored_modes(), request)
            if await self._ledger.replace_control(MODES, version, merged.SerializeToString()):
                return
        raise UnavailableError("gate modes are changed by others all the time; nothing was done, ask again")

    async def _stored_modes(self) -> control_pb2.SetModesRequest:
        try:
            stored = await self._ledger.read_control(MODES)
        except DamagedDataError:
            return self._modes_in_force()
        return control_pb2.SetModesRequest.FromString(stored[1]) if stored else control_pb2.SetModesRequest()

    def _modes_in_force(self) -> control_pb2.SetModesRequest:
        request, gates = control_pb2.SetModesRequest(), self.catalogue.gates.values() if self.catalogue else ()
        for gate in gates:
            request.changes.add(gate_id=gate.id, mode=int(self.modes.get(gate.number, Mode.OPEN)))
        return request


def _merged(modes: control_pb2.SetModesRequest, request: control_pb2.SetModesRequest) -> control_pb2.SetModesRequest:
    changes = list(modes.changes)
    for change in request.changes:
        changes = [known for known in changes if change.gate_id and known.gate_id != change.gate_id]
        changes.append(change)
    return control_pb2.SetModesRequest(changes=changes)


def _keys_of(request: control_pb2.PublishKeysRequest) -> dict[int, bytes]:
    return {key.key_id: key.public_key for key in request.keys}


def ring_version(key_ids: Iterable[int]) -> int:
    """Rises with each change of a ring. It changes in two ways: a key is added, whose id is above all that were ever
    given, or one is dropped, when its last ticket has expired. So of two rings the one with the higher last id is
    newer, and of two with the same last id the one with fewer keys. 0 for the empty ring."""
    ids = set(key_ids)
    return (max(ids) + 1) * RING_STEP - len(ids) if ids else 0


def modes_by_gate(catalogue: Catalogue, request: control_pb2.SetModesRequest) -> dict[int, Mode]:
    """Modes other than open, by gate number. A change without a gate is for all; later changes win."""
    modes: dict[int, Mode] = {}
    for change in request.changes:
        mode = Mode(change.mode) if change.mode != gate_pb2.GATE_MODE_UNSPECIFIED else Mode.OPEN
        for gate in catalogue.gates.values():
            if change.gate_id in ("", gate.id):
                modes[gate.number] = mode
    return {number: mode for number, mode in modes.items() if mode is not Mode.OPEN}
