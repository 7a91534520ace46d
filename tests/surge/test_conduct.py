"""What the conductor does before the doors open."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.surge.conduct import _ready, _Stop
from loadtest.surge.parts import Progress
from loadtest.surge.screen import Screen
from ops.errors import OpsError


class Gates:
    """Connects at once, or is refused."""

    pids = (1,)

    def __init__(self, said: list[str], refused: str = "") -> None:
        self._said = said
        self._refused = refused

    async def ready(self) -> int:
        if self._refused:
            raise OpsError(self._refused)
        self._said.append("ready")
        return 4


class Shop:
    """Sells when it is told to."""

    def __init__(self, said: list[str]) -> None:
        self._said = said
        self.values: dict[str, float] = {"sold": 3.0}

    def tell(self, line: str) -> None:
        self._said.append(line)

    async def says(self, kind: str) -> Progress:
        return Progress(kind, "Day ticket (adult)", {"sold": 7.0, "seconds": 1.5})


async def ready(gates: Any, shop: Any) -> float:
    return await _ready(gates, shop, Screen(), _Stop())


async def test_nothing_is_sold_before_every_gate_is_welcome(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    assert await ready(Gates(said), Shop(said)) == 1.5
    assert said == ["ready", "sell"]
    told = capsys.readouterr().out
    assert "7 tickets sold ahead" in told
    assert "sold out before the day" in told


async def test_nothing_is_sold_when_a_gate_is_refused() -> None:
    said: list[str] = []
    with pytest.raises(OpsError, match="it does not speak for it"):
        await ready(Gates(said, "it does not speak for it"), Shop(said))
    assert said == []
