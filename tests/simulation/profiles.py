"""The kinds of days: which faults the nemesis may use, and how often. One row of the table of `make chaos` each."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.network import CALM, Weather
from tests.simulation.servers import NO_TROUBLE, Trouble


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of day. `attacks` are names of the nemesis' methods, drawn as often as they are listed."""

    name: str
    says: str
    weather: Weather = CALM
    ledger: Trouble = NO_TROUBLE
    postgres: Trouble = NO_TROUBLE
    attacks: tuple[str, ...] = ()
    every_s: tuple[float, float] = (0.6, 2.5)
    skew_ms: int = 0
    deadlines: bool = False
    publishes: bool = False
    """Whether other catalogues are published while gates are open."""


STORMY = Weather(drop=0.05, double=0.05, straggle=0.08, break_connection=0.01)
ROUGH = Weather(drop=0.02, double=0.02, straggle=0.03, break_connection=0.003)
SHAKY = Trouble(lost_before=0.03, lost_after=0.03, broken_before=0.04, broken_after=0.04, slow=0.06)
UNEASY = Trouble(lost_before=0.003, lost_after=0.003, broken_before=0.004, broken_after=0.004, slow=0.02)
"""Publishing asks the ledger some twenty times, and begins anew after each call that fails."""
FLAKY = Trouble(lost_before=0.1, lost_after=0.1, broken_before=0.1, broken_after=0.1, slow=0.05)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("calm", "no fault: what a good day looks like"),
        Profile("network", "messages dropped, doubled, delayed, reordered; connections break", STORMY),
        Profile("cuts", "ways between processes cut, one way or both", ROUGH, attacks=("cut", "cut_replies")),
        Profile("owners", "owners killed, also while they append", ROUGH, SHAKY, attacks=("kill_owner",)),
        Profile(
            "zombies", "owners stopped past their fail-over and continued; two live at once", ROUGH, SHAKY,
            attacks=("stop_owner", "stop_owner", "double_owner", "wake"),
        ),
        Profile("hung", "owners and the quota owner stopped for good and replaced", ROUGH,
                attacks=("hang_owner", "hang_quota"), every_s=(1.5, 4.0), deadlines=True),
        Profile("ledger", "appends slow, failed and answered by nobody; the ledger stands still", CALM, SHAKY,
                attacks=("stop_ledger",)),
        Profile(
            "quota", "the quota owner killed, stopped and doubled while zones fill", ROUGH, SHAKY,
            attacks=("kill_quota", "stop_quota", "double_quota", "wake"),
        ),
        Profile("gates", "gates restarted, with scans and passages on their way", ROUGH, attacks=("restart_gate",),
                every_s=(0.1, 0.9)),
        Profile("gateways", "gateways killed under their streams", ROUGH, attacks=("kill_gateway",)),
        Profile(
            "reporting", "reporting killed, stopped and doubled, commits with no answer, Postgres away", CALM,
            postgres=FLAKY, attacks=("kill_reporting", "stop_reporting", "double_reporting", "stop_postgres"),
        ),
        Profile("clocks", "clocks of owners and gates up to 110 s apart, and owners killed", ROUGH,
                attacks=("kill_owner", "turn_clock"), skew_ms=55_000),
        Profile(
            "catalogue", "other catalogues while gates are open; owners, quota owner and gateways killed and doubled",
            ROUGH, UNEASY,
            attacks=("kill_owner", "stop_owner", "double_owner", "wake", "kill_quota", "double_quota", "kill_gateway"),
            every_s=(1.0, 4.0), publishes=True,
        ),
        Profile(
            "everything", "all of it at once", ROUGH, SHAKY, FLAKY,
            ("kill_owner", "stop_owner", "double_owner", "wake", "kill_quota", "stop_quota", "kill_gateway", "cut",
             "cut_replies", "restart_gate", "kill_reporting", "stop_ledger", "turn_clock"),
            skew_ms=20_000,
        ),
    )
}  # fmt: skip
