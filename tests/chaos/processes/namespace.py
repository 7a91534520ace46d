"""A host of its own for the second node: a network namespace with one wire to this machine, which may be cut.

Rules are set inside of the namespace only: whatever else runs on this machine is not touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from ops.processes import Identity, identity
from tests.chaos.processes.tools import run, tool

DROP = "counter drop"


@dataclass(frozen=True, slots=True)
class Way:
    """TCP between this machine and the other, by the port of whoever listens, and on which side that is."""

    port: int
    inside: bool = False

    def arriving(self) -> str:
        """Packets that come into the namespace."""
        return f"tcp {'dport' if self.inside else 'sport'} {self.port}"

    def leaving(self) -> str:
        """Packets that leave it."""
        return f"tcp {'sport' if self.inside else 'dport'} {self.port}"


class Namespace:
    """The other host. `here` is this machine's address on the wire, `there` the other's."""

    def __init__(self) -> None:
        self.name = f"pgchaos-{os.getpid()}"
        block = 4 * (os.getpid() % 8_192)
        net = f"10.230.{block // 256}"
        self.here, self.there = f"{net}.{block % 256 + 1}", f"{net}.{block % 256 + 2}"
        self._wire = f"pgc{os.getpid()}"

    def make(self) -> None:
        """Namespace and wire."""
        inside = f"{self._wire}i"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._wire, "type", "veth", "peer", "name", inside, "netns", self.name)
        run("ip", "addr", "add", f"{self.here}/30", "dev", self._wire)
        run("ip", "link", "set", self._wire, "up")
        run("ip", "-n", self.name, "addr", "add", f"{self.there}/30", "dev", inside)
        for device in (inside, "lo"):
            run("ip", "-n", self.name, "link", "set", device, "up")

    def remove(self) -> None:
        """Takes everything away again, whatever there is of it."""
        for who in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(who.pid, 9)
        for command in (("netns", "del", self.name), ("link", "del", self._wire)):
            subprocess.run([tool("ip"), *command], capture_output=True, check=False)

    def enter(self) -> list[str]:
        """The prefix of a command that shall run there."""
        return [tool("ip"), "netns", "exec", self.name]

    def processes(self) -> list[Identity]:
        """What runs there."""
        told = subprocess.run([tool("ip"), "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [who for pid in told.stdout.split() if (who := identity(int(pid))) is not None]

    # Cuts

    def cut(self, *ways: Way) -> None:
        """Both directions of some ways."""
        self._drop([way.arriving() for way in ways], [way.leaving() for way in ways])

    def cut_arriving(self, *ways: Way) -> None:
        """What comes in is dropped, what goes out is not."""
        self._drop([way.arriving() for way in ways], [])

    def cut_leaving(self, *ways: Way) -> None:
        """What goes out is dropped, what comes in is not."""
        self._drop([], [way.leaving() for way in ways])

    def cut_all_but(self, *ways: Way) -> None:
        """Everything to this machine but some ways."""
        self._filter(
            [*(f"{way.arriving()} accept" for way in ways), f"ip saddr {self.here} {DROP}"],
            [*(f"{way.leaving()} accept" for way in ways), f"ip daddr {self.here} {DROP}"],
        )

    def mend(self) -> int:
        """No cut any more; answers how many packets were dropped."""
        told = run(*self.enter(), "nft", "-j", "list", "ruleset")
        run(*self.enter(), "nft", "flush", "ruleset")
        rules = [item["rule"] for item in json.loads(told)["nftables"] if "rule" in item]
        return sum(part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part)

    def _drop(self, arriving: Iterable[str], leaving: Iterable[str]) -> None:
        self._filter([f"{rule} {DROP}" for rule in arriving], [f"{rule} {DROP}" for rule in leaving])

    def _filter(self, arriving: list[str], leaving: list[str]) -> None:
        chains = [
            f"chain {hook} {{ type filter hook {hook} priority 0; {'; '.join(rules)}; }}"
            for hook, rules in (("input", arriving), ("output", leaving))
            if rules
        ]
        run(*self.enter(), "nft", "flush ruleset\ntable inet cut {\n" + "\n".join(chains) + "\n}")
