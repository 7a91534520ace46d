"""How the gates' part of the generator is shared by several processes: whose each device and each party is. Pure.

A party is shown at one entrance, at whichever of its gates a lane is free first, and everything that is foretold of
its codes stays in one place: so it goes to a process that has a device at each of them. Devices are dealt out in turn,
by rows of one turnstile a gate, which are numbered through all entrances. Tickets of the ramp too, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from loadtest.surge.guests import Guests
from loadtest.surge.scenario import Scenario

SCANS_A_PROCESS = 4_000
"""A second, one a frame, in the ramp's highest step: some two thirds of what one process sent on a core."""
DEVICES_A_PROCESS = 2_500


@dataclass(frozen=True, slots=True)
class Share:
    """One process's: the `index`-th of `of`."""

    index: int = 0
    of: int = 1

    def has(self, number: int) -> bool:
        """Whether a row of devices, or a ticket of the ramp, is this process's."""
        return number % self.of == self.index

    def invites(self, guests: Guests, scenario: Scenario) -> bool:
        """Whether a party is."""
        first = list(accumulate((one.rows for one in scenario.entrances), initial=0))[guests.entrance]
        return self.has(first + guests.number % scenario.entrances[guests.entrance].whole_rows)


def processes(scenario: Scenario, cores: int, *, here: bool) -> int:
    """How many processes the gates get: what the scenario says, or as many as they need and there are cores to spare.

    A system on this machine (`here`) keeps two cores and every other one; elsewhere the shop's part keeps one. At most
    one a row of devices, so that none has nothing to do.
    """
    ramp = scenario.ramp
    fastest = max(ramp.rates, default=0.0) if ramp else 0.0
    spare = (cores - 2) // 2 if here else cores - 1
    needed = max(-(-scenario.devices // DEVICES_A_PROCESS), -(-int(fastest) // SCANS_A_PROCESS))
    wanted = scenario.gate_processes or max(min(needed, spare), 1)
    return min(wanted, scenario.rows, ramp.turnstiles if ramp and ramp.gates else wanted)
