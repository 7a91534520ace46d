"""One trial: a fault under a crowd, the end of the day, and what the checker says of everything so far."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.processes.desk import Desk
from tests.chaos.processes.faults import Fault, Heal, nothing
from tests.chaos.processes.guests import Crowd
from tests.chaos.processes.park import PARK_GATES, WATER, WATER_CAPACITY, Park
from tests.chaos.processes.turnstiles import Turnstile, now_ms
from tests.checker import OK, UNKNOWN, Books, History, Operation, StoredEntry, Trimmed, Violation, check
from tests.system import traffic

CALM_S = (0.5, 1.0)
"""Before the fault; its moment is drawn."""
AFTER_S = 0.4
RECOVERED_WITHIN_S = 60.0
SETTLED_WITHIN_S = 45.0
"""How long after healing the last guest may take; a park that takes longer is not well (I10)."""
REPORTED_WITHIN_S = 30.0
MORE_THAN_THERE_IS = 3


@dataclass(slots=True)
class Trial:
    """What became of one fault."""

    fault: Fault
    seed: int
    operations: int = 0
    unknown: int = 0
    admitted: int = 0
    recovery_ms: int = 0
    back_ms: int = 0
    """After the healing: until each partition had let somebody in who came since."""
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0
    traceback: str = ""
    """Of what broke the trial itself, if anything did."""


class Rehearsal:
    """Runs trials on one installation, whose turnstiles stay connected from the first to the last."""

    def __init__(self, park: Park) -> None:
        self.park = park
        self.turnstiles: dict[str, Turnstile] = {}

    async def connect(self, gates: Mapping[str, int]) -> None:
        """Opens all turnstiles."""
        for number, gate in enumerate(gates):
            first = number % len(self.park.addresses)
            addresses = (*self.park.addresses[first:], *self.park.addresses[:first])
            turnstile = Turnstile(gate, addresses, self.park.credentials(gate), self.park.history)
            self.turnstiles[gate] = turnstile
            await turnstile.start(30)

    async def close(self) -> None:
        """Hangs up."""
        for turnstile in self.turnstiles.values():
            await turnstile.close()

    async def run(self, fault: Fault, seed: int) -> Trial:
        """One trial. Whatever goes wrong in it is a violation, not an exception."""
        began, trial, chance = time.monotonic(), Trial(fault, seed), random.Random(f"{fault.name}/{seed}")
        self.park.trials += 1
        first = len(self.park.history.operations)
        try:
            await self._whole_day(trial, chance)
        except Exception as error:  # noqa: BLE001 - whatever it is, the trials after it go on, and the run fails
            trial.traceback = "".join(traceback.format_exception(error))
            what = f"did not come to its end: {type(error).__name__}: {str(error)[:500]}"
            trial.violations.append(Violation("I10", "the trial", what))
        self._count(trial, self.park.history.operations[first:])
        trial.seconds = time.monotonic() - began
        return trial

    async def _whole_day(self, trial: Trial, chance: random.Random) -> None:
        async with Desk(self.park, chance) as desk:
            crowd = Crowd(self.park, self.turnstiles, desk, chance)
            try:
                await self._day(trial, crowd, chance)
            finally:
                crowd.abandon()
            trial.violations += dict.fromkeys(desk.surprises)

    async def _day(self, trial: Trial, crowd: Crowd, chance: random.Random) -> None:
        for turnstile in self.turnstiles.values():
            turnstile.return_home()
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                await crowd.prepare()
        except TimeoutError:
            trial.violations.append(Violation("I10", "the park", "sells nothing before the fault"))
            return
        crowd.come()
        await asyncio.sleep(chance.uniform(*CALM_S))
        hit_ms = now_ms()
        await self._suffer(trial, chance)
        healed_ms = now_ms()
        recovered = await self._recovered(healed_ms)
        trial.back_ms = now_ms() - healed_ms
        if not recovered:
            what = f"does not let everybody in again {RECOVERED_WITHIN_S:.0f} s after the fault was over"
            trial.violations.append(Violation("I10", "the park", what, "; ".join(self._missing(healed_ms))))
        await asyncio.sleep(AFTER_S)
        await crowd.stop()
        trial.recovery_ms = self._longest_pause_ms(hit_ms, now_ms())
        await self._in_time(trial, trial.fault.after(self.park))
        full: list[Operation] = []
        if await self._settled(trial, crowd):
            full = await self._fill(trial, crowd)
        else:
            crowd.abandon()
        await self._look(trial, full)
        # For the next trial: whoever may be in the small zone leaves it.
        await self._in_time(trial, self._empty(crowd))

    async def _suffer(self, trial: Trial, chance: random.Random) -> None:
        """The fault, from injecting to healing."""
        heal: Heal = nothing
        try:
            heal = await trial.fault.inject(self.park, chance)
            await asyncio.sleep(chance.uniform(*trial.fault.hold_s))
        except (TimeoutError, LookupError) as error:
            trial.violations.append(Violation("I10", "the park", f"is not there to be hurt: {error}"))
        finally:
            await self._in_time(trial, heal())

    @staticmethod
    async def _in_time(trial: Trial, work: Awaitable[None]) -> None:
        """What the park does not do in time is a violation like any other."""
        try:
            await work
        except TimeoutError as error:
            trial.violations.append(Violation("I10", "the park", str(error)))

    # Recovery, as clients see it

    @property
    def _partitions(self) -> int:
        return self.park.stack.settings.partitions

    def _admissions(self, since_ms: int) -> Iterator[Operation]:
        """Guests who were let in, of those who came after an instant."""
        return (
            scan
            for scan in self.park.history.of("scan")
            if scan.invoked >= since_ms and scan.answer.get("decision") == "ADMIT"
        )

    def _longest_pause_ms(self, since_ms: int, until_ms: int) -> int:
        """The longest time in which one of the partitions, or one of the gates to the park, let nobody in."""
        times: dict[object, list[int]] = {gate: [] for gate in PARK_GATES}
        times |= {number: [] for number in range(self._partitions)}
        for scan in self._admissions(since_ms):
            for who in (scan.process, scan.request["ticket"] % self._partitions):
                if who in times and scan.completed is not None:
                    times[who].append(scan.completed)
        return max(_longest_gap([since_ms, *sorted(heard), until_ms]) for heard in times.values())

    def _missing(self, since_ms: int) -> list[str]:
        served = {scan.request["ticket"] % self._partitions for scan in self._admissions(since_ms)}
        missing = [f"p{number} has admitted nobody" for number in range(self._partitions) if number not in served]
        return missing if self.park.stack.all_running() else [*missing, "a process is not back"]

    async def _recovered(self, since_ms: int) -> bool:
        deadline = time.monotonic() + RECOVERED_WITHIN_S
        while self._missing(since_ms):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.2)
        return True

    # The end of the day

    async def _settled(self, trial: Trial, crowd: Crowd) -> bool:
        """Everybody is done and every report receipted."""
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                await crowd.gone()
                while any(turnstile.session.open_work for turnstile in self.turnstiles.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                return True
        except TimeoutError:
            open_ones = [f"{item.kind} at {item.process}" for item in self.park.history if item.completed is None]
            work = [f"{gate}: {one.session.open_work}" for gate, one in self.turnstiles.items()]
            what = f"{len(open_ones)} operations are not answered {SETTLED_WITHIN_S:.0f} s after the fault was over"
            trial.violations.append(Violation("I10", "the park", what, ", ".join([*open_ones[:5], *work])))
            return False

    async def _fill(self, trial: Trial, crowd: Crowd) -> list[Operation]:
        """More ask than there is, and everything is asked again. Returns what must be exactly full."""
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                full = await self._ask_for_more_than_there_is(crowd)
                left = await crowd.ask_all_again()
        except TimeoutError:
            trial.violations.append(Violation("I10", "the park", "does not come to rest after the fault"))
            return []
        if left:
            trial.violations.append(Violation("I3", "the gates", f"{left} scans are not answered when asked again"))
        return full

    async def _look(self, trial: Trial, full: list[Operation]) -> None:
        """Reporting catches up, and the checker looks, however the day went."""
        try:
            await traffic.wait_reported(self.park.stack, REPORTED_WITHIN_S)
        except AssertionError as error:
            trial.violations.append(Violation("I6", "the books", str(error)))
        found = await asyncio.to_thread(examine, self.park, full)
        trial.violations += [item for item in found if str(item) not in self.park.known]
        self.park.known |= {str(item) for item in found}

    @staticmethod
    async def _empty(crowd: Crowd) -> None:
        leaving = asyncio.gather(*(crowd.leave(ticket) for ticket in list(crowd.bathers.values())))
        try:
            await asyncio.wait_for(leaving, SETTLED_WITHIN_S)
        except TimeoutError as error:
            raise TimeoutError(f"lets nobody out of the small zone for {SETTLED_WITHIN_S:.0f} s") from error

    async def _ask_for_more_than_there_is(self, crowd: Crowd) -> list[Operation]:
        """The small zone, the evening and the quota of holds must end exactly full."""
        park, desk = self.park, crowd.desk
        evening, holds = park.evening_quota(park.trials), park.hold_quota(park.trials)
        bathers = await desk.stock("water", WATER_CAPACITY + MORE_THAN_THERE_IS)
        await asyncio.gather(*(crowd.insist(ticket) for ticket in bathers), self._sell_out(desk), self._hold_out(desk))
        await asyncio.gather(desk.wait_confirmed(evening), desk.wait_confirmed(holds))
        asked: list[dict[str, object]] = [{"zone": WATER}, {"quota": evening}, {"quota": holds}]
        return [Operation("full", "nobody", now_ms(), full, now_ms(), OK) for full in asked]

    async def _sell_out(self, desk: Desk) -> None:
        while await desk.order("evening", self.park.evening(self.park.trials)):
            pass

    @staticmethod
    async def _hold_out(desk: Desk) -> None:
        while await desk.hold(0.0) == "DONE":
            pass

    # Numbers

    @staticmethod
    def _count(trial: Trial, operations: list[Operation]) -> None:
        asked = [item for item in operations if item.kind in ("scan", "refund", "hold")]
        trial.operations = len(asked) + sum(item.kind == "issue" for item in operations)
        trial.unknown = sum(item.outcome == UNKNOWN for item in asked)
        trial.admitted = sum(item.kind == "scan" and item.answer.get("decision") == "ADMIT" for item in asked)


def _longest_gap(times: list[int]) -> int:
    return max(after - before for before, after in pairwise(times))


def examine(park: Park, full: list[Operation]) -> list[Violation]:
    """The checker over all that clients saw, the ledger and Postgres. `full`: what more was asked of than there is."""
    voids = park.void_ids()
    history = History([*park.history.operations, *full])
    for refund in history.of("refund"):
        # Sales ask the owner under an id of their own; the books say which.
        refund.request["request_id"] = voids.get(refund.request["request_id"], refund.request["request_id"])
    broken = [Violation("I8", "an actor", "met a state that cannot be", line) for line in park.broken_actors()]
    return [*check(history, *_at_rest(park)), *broken]


def _at_rest(park: Park) -> tuple[list[StoredEntry], Books, list[Trimmed]]:
    """Ledger and books of one instant: passages that nobody reported are still settled by the clock. And what was
    trimmed until then. A park that does not come to rest is looked at as it is."""
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while True:
        trims, entries, books = park.trims(), park.entries(), park.books()
        last = {entry.partition: entry.number for entry in entries}
        if len(park.entries()) == len(entries) and all(books.offsets.get(name) == last[name] for name in last):
            return entries, books, trims
        if time.monotonic() > deadline:
            return entries, books, trims
        time.sleep(0.1)
