"""The network between simulated processes: it drops, delays, doubles and reorders, breaks connections and cuts ways.

A connection carries whole messages, as the link and the gate's stream write them. TCP would not double or reorder them;
that it is done here all the same is the harder test of the same code. Every choice is drawn from the day's chance, and
every delivery is noted in its trace.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.loop import PROCESS, Process, State, VirtualLoop
from tests.simulation.trace import Trace


@dataclass(frozen=True, slots=True)
class Weather:
    """Shares of messages that suffer each fault, and how long messages take, in seconds."""

    drop: float = 0.0
    double: float = 0.0
    straggle: float = 0.0
    break_connection: float = 0.0
    delay_s: tuple[float, float] = (0.0003, 0.002)
    straggle_s: tuple[float, float] = (0.05, 1.5)


CALM = Weather()


class Wire(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, process: Process | None, protocol: Any) -> None:
        super().__init__()
        self.network, self.process, self.protocol = network, process, protocol
        self.peer: Wire | None = None
        self.open = True
        self.sent = 0

    @property
    def name(self) -> str:
        return self.process.name if self.process is not None else "outside"

    def write(self, data: Any) -> None:
        self.network.carry(self, bytes(data))

    def writelines(self, parts: Any) -> None:
        self.network.carry(self, b"".join(parts))

    def is_closing(self) -> bool:
        return not self.open

    def abort(self) -> None:
        self.network.break_connection(self)

    close = abort

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def deliver(self, data: bytes) -> None:
        """A message arrives."""
        if self.open:
            self.protocol.data_received(data)

    def lose(self) -> None:
        """The connection is gone."""
        if self.open:
            self.open = False
            self.protocol.connection_lost(None)


@dataclass(slots=True)
class _Listener:
    process: Process
    factory: Callable[[], Any]


class Server:
    """What listening answers; closed by `close`."""

    def __init__(self, network: Network, path: str) -> None:
        self._network, self._path = network, path

    def close(self) -> None:
        """Listens no more."""
        self._network.listeners.pop(self._path, None)


@dataclass(slots=True)
class Network:
    """Who listens, what is cut, and the weather."""

    loop: VirtualLoop
    chance: random.Random
    trace: Trace
    weather: Weather = CALM
    listeners: dict[str, _Listener] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    """(from, to) by the names of processes: messages that way are lost."""
    _wires: list[Wire] = field(default_factory=list)

    def listen(self, factory: Callable[[], Any], path: str) -> Server:
        """The calling process listens at an address."""
        process = PROCESS.get()
        assert process is not None
        self.listeners[str(path)] = _Listener(process, factory)
        return Server(self, str(path))

    async def connect(self, factory: Callable[[], Any], path: str) -> tuple[Wire, Any]:
        """Connects the calling process.

        Raises:
            ConnectionRefusedError: nobody listens there, or the way is cut.
        """
        process = PROCESS.get()
        await asyncio.sleep(self.delay())
        listener = self.listeners.get(str(path))
        if listener is None or listener.process.state is State.DEAD or not self.passes(process, listener.process):
            raise ConnectionRefusedError(f"nobody answers at {path}")
        near = Wire(self, process, factory())
        far = Wire(self, listener.process, listener.factory())
        near.peer, far.peer = far, near
        self._wires = [wire for wire in self._wires if wire.open]
        self._wires += [near, far]
        self.loop.call_soon(far.protocol.connection_made, far, context=listener.process.context)
        near.protocol.connection_made(near)
        await asyncio.sleep(self.delay())
        return near, near.protocol

    def passes(self, sender: Process | None, receiver: Process | None) -> bool:
        """Whether a message gets through at all."""
        names = (sender.name if sender else "outside", receiver.name if receiver else "outside")
        return names not in self.cut

    def delay(self) -> float:
        """How long a message takes now."""
        if self.weather.straggle and self.chance.random() < self.weather.straggle:
            return self.chance.uniform(*self.weather.straggle_s)
        return self.chance.uniform(*self.weather.delay_s)

    def carry(self, wire: Wire, data: bytes) -> None:
        """Takes a message from one end to the other: never, once or twice, sooner or later."""
        peer, weather = wire.peer, self.weather
        if not wire.open or peer is None:
            return
        wire.sent += 1
        roll = self.chance.random()
        copies = 1
        if wire.sent > 1 and roll < weather.drop + weather.double:
            copies = 0 if roll < weather.drop else 2
        if not self.passes(wire.process, peer.process):
            copies = 0
        self.trace.note(self.loop.time(), "message", wire.name, peer.name, len(data), copies)
        for _ in range(copies):
            context = peer.process.context if peer.process is not None else None
            self.loop.call_later(self.delay(), peer.deliver, data, context=context)
        if weather.break_connection and self.chance.random() < weather.break_connection:
            self.break_connection(wire)

    def break_connection(self, wire: Wire) -> None:
        """Both ends lose it, each in its own time."""
        for end in (wire, wire.peer):
            if end is not None:
                context = end.process.context if end.process is not None else None
                self.loop.call_later(self.delay(), end.lose, context=context)

    def process_died(self, process: Process) -> None:
        """The kernel closes what a killed process had open."""
        for path in [path for path, listener in self.listeners.items() if listener.process is process]:
            del self.listeners[path]
        for wire in self._wires:
            if wire.process is process:
                self.break_connection(wire)
