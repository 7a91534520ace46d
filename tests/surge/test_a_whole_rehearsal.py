"""Tiny rehearsals from end to end: on a system of its own, and at the address of one that runs already."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loadtest.surge.folder import MARK
from loadtest.surge.record import Record
from loadtest.surge.rehearse import Options, addresses, rehearse, system_of
from loadtest.surge.report import page
from loadtest.surge.report.figures import Figures, figures_of
from loadtest.surge.target import DEVICE, SERVICE
from loadtest.surge.watch import GENERATOR
from ops import enrolment
from ops.errors import BadInput, OpsError
from ops.pki import Kind
from parkgate.sales.v1 import sales_pb2
from tests.surge.small_day import TEXT
from tests.system.stack import Stack

GATES = ("main-1", "main-2", "lake-1", "lake-2")


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "small-day.toml"
    path.write_text(TEXT)
    return path


def outcome(out: Path) -> tuple[Record, Figures]:
    record = page.read(out)
    return record, figures_of(record)


NOT_THE_PARK_S = TEXT.replace('gates = ["main-1", "main-2"]', 'gates = ["main-9"]')
NO_SUCH_SLOT = TEXT + "slot_quota = { 7 = 100 }\n"


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("name = 1", {}, "The scenario cannot be used"),
        (NOT_THE_PARK_S, {}, "there is no gate main-9; did you mean main-"),
        (NO_SUCH_SLOT, {}, "there is no slot 7"),
        (TEXT, {"faults": ("owner@23:00",)}, "is outside of the day"),
        (TEXT, {"address": ["localhost"], "credentials": Path("nowhere"), "yes": True}, "ca.pem"),
        (TEXT, {"address": ["localhost"]}, "needs certificates"),
    ],
)
def test_bad_input_costs_nobody_the_last_report(text: str, given: dict[str, object], said: str, tmp_path: Path) -> None:
    scenario, out = tmp_path / "day.toml", tmp_path / "out"
    scenario.write_text(text)
    out.mkdir()
    (out / MARK).touch()
    (out / "report.html").write_text("the last one")
    with pytest.raises(OpsError, match=re.escape(said)):
        rehearse(Options(str(scenario), out, **given))  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.toml", "out"]
    assert (out / "report.html").read_text() == "the last one"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": ["park"]}, "needs certificates"),
        ({"address": ["park"], "credentials": Path("keys")}, "say so with --yes"),
        ({"address": ["gate=a:1"], "credentials": Path("keys"), "yes": True}, "'gate=a:1' is no address"),
        ({"address": ["park:7443"], "credentials": Path("keys"), "yes": True}, "'park:7443' is no address"),
        ({"address": ["gates=a:1", "sales=a:2"], "credentials": Path("keys"), "yes": True}, "no address of reporting"),
        ({"address": ["park"], "credentials": Path("keys"), "data_dir": Path("data")}, "name two systems"),
        ({"data_dir": Path("data")}, "tickets at the installation in data. If that is no open park, say so with --yes"),
        ({"credentials": Path("keys")}, "for a system that runs already"),
    ],
)
def test_an_address_needs_certificates_consent_and_all_three_services(given: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput) as error:
        system_of(Options("x", Path("out"), **given))  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_host_has_the_standard_ports_and_gateways_may_be_several(tmp_path: Path) -> None:
    host = addresses(Options("x", tmp_path, address=["park"], credentials=tmp_path, yes=True))
    assert (host.gates, host.sales, host.reporting) == (("park:7443",), "park:7444", "park:7445")
    given = ["gates=a:1", "gates=b:1", "sales=c:2", "reporting=d:3"]
    assert addresses(Options("x", tmp_path, address=given, credentials=tmp_path, yes=True)).gates == ("a:1", "b:1")


def test_a_missing_certificate_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    given = addresses(Options("x", tmp_path, address=["park"], credentials=tmp_path, yes=True))
    with pytest.raises(OpsError, match=f"parkgate enroll gate {DEVICE} --gates"):
        given.certificates()


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_small_day_on_a_system_of_its_own_survives_a_cut_line_and_its_books_agree(
    tmp_path: Path, scenario_file: Path
) -> None:
    """Sold = admitted + refunded + unused, every answer right (I1, I3, I5, I6), with all lines cut at noon."""
    out = tmp_path / "out"
    assert rehearse(Options(str(scenario_file), out, faults=("network@12:00",)))
    record, figures = outcome(out)
    assert figures.passed, figures.headline  # whoever stood in the cut was answered late: right, and not "ready"
    assert len(record.counts) > 40
    assert record.tickets["sold"] == sum(record.tickets[name] for name in ("admitted", "refunded", "unused"))
    assert record.tickets["issued"] == record.tickets["sold"]
    assert record.gates["traffic"]["reconnects"] >= 4
    assert [one.says for one in record.faults] == ["every line to the gates is cut for 3 s"]
    assert figures.slowest_ms > 2_000, "who was in the cut had to wait"
    assert len(figures.steps) >= 1
    assert {"gateway", "partition owner", "Postgres", "generator: gates"} <= set(record.usage["processes"])
    refused = figures.day["refusals"]
    assert {"ALREADY_USED", "BAD_SIGNATURE", "CONCESSION_PROOF_REQUIRED"} <= set(refused)
    assert sorted(path.name for path in out.iterdir()) == [MARK, "record.json", "report.html"]


@pytest.mark.system
@pytest.mark.timeout(240)
def test_ctrl_c_ends_the_day_in_order_with_a_report_of_what_there_is(tmp_path: Path) -> None:
    scenario_file, out = tmp_path / "long-day.toml", tmp_path / "out"
    scenario_file.write_text(TEXT.replace("seconds = 4\n", "seconds = 60\n"))
    command = [sys.executable, "-m", "ops.cli", "surge", "-s", str(scenario_file), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = False
        for line in process.stdout:
            if "scans/s" in line and " 09:" in line and not told:
                told = True
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
    record, figures = outcome(out)
    assert record.interrupted
    assert figures.differences == []
    assert figures.wrong == []
    assert "Interrupted" in (out / "report.html").read_text()


@pytest.fixture
def park(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "park")
    stack.up()
    yield stack
    stack.kill_everything()


def keys_of(park: Stack, folder: Path) -> Path:
    now = datetime.now(UTC)
    for kind, name, gates in ((Kind.GATE, DEVICE, GATES), (Kind.SERVICE, SERVICE, ())):
        pair, _ = enrolment.enroll(park.data_dir, kind, name, gates, now)
        enrolment.save(pair, enrolment.authority(park.data_dir, now).certificate, name, folder)
    return folder


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_park_that_runs_already_is_rehearsed_by_its_address_and_by_its_folder(park: Stack, tmp_path: Path) -> None:
    """What its books said before is taken off, so that the second rehearsal agrees like the first; and two processes
    that share the gates of the second count to the unit what one counted of the first."""
    scenario_file = tmp_path / "small-day.toml"
    scenario_file.write_text(TEXT.replace("refund_in_queue = 0.05", ""))  # who is first is not the same twice
    ports = park.settings
    given = [f"gates=localhost:{ports.gate_port}", f"sales=localhost:{ports.sales_port}"]
    given.append(f"reporting=localhost:{ports.reporting_port}")
    keys = keys_of(park, tmp_path / "keys")
    elsewhere = tmp_path / "water-park.toml"
    elsewhere.write_text(TEXT.replace('"family", concession', '"water", concession'))
    for system in ({"address": given, "credentials": keys}, {"data_dir": park.data_dir}):
        with pytest.raises(BadInput, match="Water Park: is for none of the gates"):
            rehearse(Options(str(elsewhere), tmp_path / "refused", yes=True, **system))  # type: ignore[arg-type]
    more = tmp_path / "more-gates.toml"
    more.write_text(TEXT.replace('"main-2"', '"main-3"'))
    with pytest.raises(OpsError, match=r"devices were not welcome: .*main-3"):
        rehearse(Options(str(more), tmp_path / "refused", address=given, credentials=keys, yes=True))
    assert not (tmp_path / "refused.unfinished" / "work" / "sold.jsonl").read_text(), "nothing was sold"
    first = rehearsed(
        Options(str(scenario_file), tmp_path / "first", {"ramp": None}, address=given, credentials=keys, yes=True)
    )
    asyncio.run(left_open(park, "surge-window-1"))
    shared = {"ramp": None, "gate_processes": 2}
    second = rehearsed(Options(str(scenario_file), tmp_path / "second", shared, data_dir=park.data_dir, yes=True))

    assert [one.gates["processes"] for one in (first, second)] == [1, 2]
    assert {"surge-window-1-2", "surge-window-2"} <= {name for name, _, _ in second.shop["tills"]}
    assert verdicts(first) == verdicts(second)
    assert first.tickets == second.tickets
    assert first.tickets["sold"] > 100
    assert set(first.usage["processes"]) == set(GENERATOR)
    assert {"gateway", "partition owner", *GENERATOR} < set(second.usage["processes"])
    assert (first.here, second.here) == (False, True)


async def left_open(park: Stack, window_id: str) -> None:
    """A shift, as a rehearsal that was broken off leaves it."""
    async with park.sales() as sales:
        await sales.OpenShift(
            sales_pb2.OpenShiftRequest(request_id=bytes(16), window_id=window_id, operator="Rehearsal")
        )


def rehearsed(options: Options) -> Record:
    assert rehearse(options), figures_of(page.read(options.out)).differences
    return page.read(options.out)


def verdicts(record: Record) -> dict[tuple[str, str], int]:
    return {(decision, reason): number for decision, reason, number in record.gates["verdicts"]}
