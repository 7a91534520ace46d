"""A whole gate, from source to display and exit code, over real gRPC."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date
from pathlib import Path
from zoneinfo import ZoneInfo

import grpc
import pytest
from gate_certs import TestAuthority
from gate_server import TinyGateway
from rich.console import Console
from typer.testing import CliRunner

from gateclient import GateConfig, check_config, run_gate
from gateclient.display import JsonDisplay, PanelDisplay, Shown
from gateclient.readers import ReadCode
from gateclient.texts import Displays
from ops.commands.gate import app
from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.errors import InvalidInputsError, NotPermittedError
from ticketcore.token import Claims, encode_claims, to_qr_text


def code_of(ticket: int) -> str:
    return to_qr_text(encode_claims(Claims(1, ticket, 7, date(2026, 5, 1))) + bytes(64))


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
async def gateway(authority: TestAuthority) -> AsyncIterator[TinyGateway]:
    gateway = await TinyGateway("one").start(authority)
    gateway.displays = [
        pb.Display(reason=pb.REASON_ALREADY_USED, decision=pb.DECISION_REJECT, lamp=pb.LAMP_RED, guest_text="Used.")
    ]
    yield gateway
    await gateway.stop()


async def run_lines(config: GateConfig) -> tuple[list[dict[str, object]], bool]:
    out = io.StringIO()
    summary = await run_gate(config, display=JsonDisplay(out, UTC))
    return [json.loads(line) for line in out.getvalue().splitlines()], summary.succeeded


async def test_two_gates_read_a_file_and_every_code_gets_a_verdict_and_its_passage_is_in_the_books(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    source = tmp_path / "codes.txt"
    source.write_text(f"{code_of(1)}\nnorth-2\t{code_of(2)}\n{code_of(1)}\nnorth-9\t{code_of(3)}\n")
    config = GateConfig(
        ("north-1", "north-2"), (f"localhost:{gateway.port}",), authority.folder(tmp_path / "c"), f"file:{source}"
    )
    lines, succeeded = await run_lines(config)
    verdicts = [line for line in lines if line["event"] == "verdict"]
    assert sorted((line["ticket_id"], line["decision"]) for line in verdicts) == [
        ("1", "ADMIT"),
        ("1", "REJECT"),
        ("2", "ADMIT"),
    ]
    assert {line["gate"] for line in verdicts if line["ticket_id"] == "2"} == {"north-2"}
    assert [line["guest_text"] for line in verdicts if line["reason"] == "ALREADY_USED"] == ["Used."]
    assert set(gateway.cluster.passages.values()) == {pb.PASSAGE_OUTCOME_PASSED}
    assert not succeeded
    assert "north-9" in str(lines[-1]["detail"])


async def test_guests_who_turn_back_get_their_entry_back(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    source = tmp_path / "codes.txt"
    source.write_text(f"{code_of(1)}\n{code_of(1)}\n")
    config = GateConfig(
        ("north-1",),
        (f"localhost:{gateway.port}",),
        authority.folder(tmp_path / "c"),
        f"file:{source}",
        not_passed_share=1.0,
    )
    lines, succeeded = await run_lines(config)
    assert [line["decision"] for line in lines if line["event"] == "verdict"] == ["ADMIT", "ADMIT"]
    assert gateway.cluster.used == {1: 0}
    assert succeeded


async def test_a_cluster_that_is_busy_is_asked_until_it_decides(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    """I7."""
    source = tmp_path / "codes.txt"
    source.write_text("".join(f"{code_of(ticket)}\n" for ticket in range(1, 30)))
    gateway.cluster.retry_share = 0.6
    config = GateConfig(
        ("north-1",), (f"localhost:{gateway.port}",), authority.folder(tmp_path / "c"), f"file:{source}"
    )
    lines, succeeded = await run_lines(config)
    assert [line["decision"] for line in lines if line["event"] == "verdict"] == ["ADMIT"] * 29
    assert succeeded


def test_all_faults_of_a_configuration_are_told_at_once() -> None:
    config = GateConfig(("a", "a"), ("nohost", "h:99999"), Path("x"), "stdin", persons=65, time_zone="Mars/Olympus")
    with pytest.raises(InvalidInputsError) as caught:
        check_config(config)
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("reason", [pb.REASON_TIMEOUT, pb.REASON_BACKPRESSURE, pb.REASON_INTERNAL_ERROR])
def test_a_fault_of_ours_is_amber_and_asks_for_another_try(reason: pb.Reason.ValueType) -> None:
    """I7: even if a catalogue had a red text for the same reason."""
    red = pb.Display(reason=reason, decision=pb.DECISION_REJECT, lamp=pb.LAMP_RED, guest_text="Bad ticket")
    shown = Displays(pb.Welcome(displays=[red])).of(pb.Verdict(decision=pb.DECISION_RETRY, reason=reason))
    assert shown.lamp == pb.LAMP_AMBER
    assert "again" in shown.guest_text


def test_a_used_ticket_shows_when_and_where_it_was_first_used_in_the_parks_time() -> None:
    out = io.StringIO()
    display = PanelDisplay(Console(file=out, width=80), ZoneInfo("Asia/Shanghai"))
    verdict = pb.Verdict(decision=pb.DECISION_REJECT, reason=pb.REASON_ALREADY_USED)
    verdict.first_use.admit_time_ms, verdict.first_use.gate_number = 1_777_608_000_000, 4
    display.verdict(Shown("north-1", ReadCode("X", "stdin line 1"), verdict, 1.5))
    assert "First used Fri 01 May 2026, 12:00:00 at gate 4" in out.getvalue()
    assert "north-1 · REJECT · ALREADY_USED" in out.getvalue()


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["run", "--gate", "north-1", "--source", "simulate:1", *arguments])
    return result.exit_code, " ".join(result.output.split())


def test_the_command_says_what_is_wrong_and_how_to_mend_it_and_ends_with_its_code(
    authority: TestAuthority, tmp_path: Path
) -> None:
    folder = str(authority.folder(tmp_path / "c"))
    code, said = call("--server", "localhost:1", "--cert", str(tmp_path / "none"))
    assert (code, "there is no such folder; enrol" in said) == (2, True)
    code, said = call("--server", "nohost", "--cert", folder)
    assert (code, "is not HOST:PORT" in said) == (2, True)
    assert call("--server", "localhost:1")[0] == 2
    code, said = call("--server", "localhost:1", "--cert", folder, "--connect", "0.5")
    assert (code, "nothing listens there" in said, "Check --server" in said) == (1, True, True)


async def test_a_refused_gate_is_told_why_in_the_clusters_words(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    gateway.refuse = (grpc.StatusCode.PERMISSION_DENIED, "the certificate is not for gate north-1")
    config = GateConfig(("north-1",), (f"localhost:{gateway.port}",), authority.folder(tmp_path / "c"), "simulate:1")
    with pytest.raises(NotPermittedError, match="not for gate north-1"):
        await run_lines(config)


async def test_ctrl_c_while_the_gate_waits_for_codes_ends_it_cleanly(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    folder = authority.folder(tmp_path / "c")
    arguments = ("run", "--gate", "north-1", "--server", f"localhost:{gateway.port}", "--cert", str(folder), "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from ops.commands.gate import app; app()",
        *arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{code_of(1)}\n".encode())
    events = [json.loads(await process.stdout.readline())["event"] for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert (events, process.returncode) == (["linked", "verdict", "passage"], 0)
    assert b"1 ADMIT" in said
