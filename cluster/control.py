"""What is in force: catalogue, keys and gate modes, as control records in the ledger. Read by gateways and owners.

Records are `catalogue` (canonical JSON), `keys` (PublishKeysRequest) and `modes` (SetModesRequest with every mode that
is set). They are never on the path of a scan: each process keeps what it read and asks the ledger's change counter
twice a second, or at once when told to.
"""

from __future__ import annotations

from contextlib import suppress

from cluster.ledger import Ledger
from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import Mode
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import read_catalogue
from ticketcore.errors import ConflictError, DamagedDataError
from ticketcore.rules import Rules, compile_rules
from ticketcore.seal import reading
from ticketcore.token import KeyRing

CATALOGUE = "catalogue"
KEYS = "keys"
MODES = "modes"
POLL_S = 0.5
DAMAGED_CONTROL = "control records cannot be used: what was in force stays in force until they are published again"


class Control:
    """The control records as this process knows them. `catalogue` is None until one was published."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen = -1
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
            self.ring = KeyRing.from_bytes({key.key_id: key.public_key for key in request.keys})

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

    async def publish_keys(self, request: control_pb2.PublishKeysRequest) -> None:
        """Puts a ring of keys in force."""
        KeyRing.from_bytes({key.key_id: key.public_key for key in request.keys})
        await self._ledger.write_control(KEYS, 0, request.SerializeToString())

    async def set_modes(self, request: control_pb2.SetModesRequest) -> None:
        """Adds mode changes to those in force; the last one for a gate counts."""
        merged = await self._stored_modes()
        for change in request.changes:
            kept = [known for known in merged.changes if change.gate_id and known.gate_id != change.gate_id]
            del merged.changes[:]
            merged.changes.extend([*kept, change])
        await self._ledger.write_control(MODES, 0, merged.SerializeToString())

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


def modes_by_gate(catalogue: Catalogue, request: control_pb2.SetModesRequest) -> dict[int, Mode]:
    """Modes other than open, by gate number. A change without a gate is for all; later changes win."""
    modes: dict[int, Mode] = {}
    for change in request.changes:
        mode = Mode(change.mode) if change.mode != gate_pb2.GATE_MODE_UNSPECIFIED else Mode.OPEN
        for gate in catalogue.gates.values():
            if change.gate_id in ("", gate.id):
                modes[gate.number] = mode
    return {number: mode for number, mode in modes.items() if mode is not Mode.OPEN}
