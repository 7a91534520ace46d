"""Codes from a serial scanner (RS-232 or USB-CDC). An unplugged one is opened again when it comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import serial

from gateclient.readers.base import ReadCode
from gateclient.readers.framing import IDLE_GAP_MS, Framer
from gateclient.readers.outage import Outage

READ_BYTES = 4_096
REOPEN_S = (0.2, 5.0)
"""First and longest wait before a port that is gone is tried again."""

log = logging.getLogger(__name__)


class SerialReader:
    """Codes from a serial port; never ends. Control lines are left alone: a pseudo-terminal has none (ENOTTY)."""

    def __init__(self, port: str, baud: int = 9_600) -> None:
        self._port = port
        self._baud = baud
        self.framer = Framer()
        # Its return is a warning too: logs that show no more than warnings would leave it missing for ever.
        self._outage = Outage(f"scanner {port}", log.warning, log.warning)

    async def codes(self) -> AsyncIterator[ReadCode]:
        """See Reader."""
        wait_s, longest_s = REOPEN_S
        while True:
            try:
                device = serial.Serial(self._port, self._baud, timeout=0, exclusive=True)
            except (serial.SerialException, OSError) as error:
                self._outage.missing(error, time.monotonic())
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, longest_s)
                continue
            wait_s = REOPEN_S[0]
            self._outage.back(time.monotonic())
            async for text in self._until_unplugged(device):
                yield ReadCode(text, self._port)

    async def _until_unplugged(self, device: serial.Serial) -> AsyncIterator[str]:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(device.fileno(), ready.set)
        try:
            while True:
                try:
                    async with asyncio.timeout(IDLE_GAP_MS / 1000 if self.framer.waiting else None):
                        await ready.wait()
                    ready.clear()
                    data = device.read(READ_BYTES)
                except TimeoutError:
                    data = b""
                except (serial.SerialException, OSError) as error:
                    self._outage.missing(error, time.monotonic())
                    return
                now_ms = time.monotonic_ns() // 1_000_000
                for text in self.framer.feed(data, now_ms) if data else self.framer.pause(now_ms):
                    yield text
        finally:
            loop.remove_reader(device.fileno())
            device.close()
