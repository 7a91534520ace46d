"""The `parkgate` command as a newcomer meets it: help, errors of one line, exit codes, and what it prints."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from ops import ports, run
from ops.readiness import is_ready, mark_ready
from ops.settings import Settings, load
from ops.stack import Endpoints, processes, service
from ops.watcher import stop_stack

HEAVY = ("grpc", "ray", "redis", "psycopg", "pydantic", "cryptography", "structlog", "prometheus_client", "psutil")


def parkgate(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env={**os.environ, "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_shows_the_commands_the_examples_and_the_exit_codes() -> None:
    shown = parkgate("--help")
    assert shown.returncode == 0
    for text in ("up", "status", "down", "doctor", "enroll", "config", "Examples", "Exit codes", "parkgate.toml"):
        assert text in shown.stdout


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, ops.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["reporting.client", "sales.catalogue_folder"])
def test_who_asks_for_a_report_or_reads_a_catalogue_loads_neither_ray_nor_what_speaks_to_postgres(module: str) -> None:
    """They are half a second and more of every command that does."""
    code = f"import sys, {module}; print([name for name in ('ray', 'sqlalchemy', 'psycopg') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", ["up", "status", "down", "rebalance", "doctor", "config", "enroll", "enroll gate", "enroll revoke"]
)
def test_every_command_has_help(command: str) -> None:
    assert "Usage" in parkgate(*command.split(), "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (["status"], {"PARKGATE_GATE_PORT": "abc"}, 2, "gate_port (environment PARKGATE_GATE_PORT)"),
        (["status", "--config", "/nowhere.toml"], {}, 2, "cannot read /nowhere.toml"),
        (["up", "--data-dir", "/proc/park"], {}, 1, "Cannot make the folder /proc/park"),
        (["up", "--data-dir", "/dev/null/park"], {}, 1, "Cannot make the folder"),
        (["enroll", "gate", "Nord", "--gates", "a"], {}, 2, "cannot be a gate name"),
        (["enroll", "gate", "nord", "--gates", ","], {}, 2, "would speak for no gate"),
        (["enroll", "revoke", "nobody"], {}, 2, "No certificate has"),
        (["enroll", "gate", "nord", "--gates", "main-1,mian-2"], {}, 2, "Nearest: main-2"),
        (["enroll", "gate", "nord", "--gates", "xyz"], {}, 2, "Known are main-1"),
        (["enroll", "gate"], {}, 2, "Missing argument"),
        (["fly"], {}, 2, "No such command"),
        (["status", "--nope"], {}, 2, "No such option"),
        (["status"], {}, 1, "Nothing runs on"),
        (["down"], {}, 0, "Nothing runs on"),
        (["rebalance"], {}, 1, "Start the stack first"),
        (["rebalance", "owner-0", "--all"], {}, 2, "--all goes without names"),
    ],
)
def test_bad_input_gets_one_clear_error_and_its_exit_code(
    arguments: list[str], env: dict[str, str], code: int, says: str, data_dir: Path
) -> None:
    done = parkgate(*arguments, **{"PARKGATE_DATA_DIR": str(data_dir), **env})
    assert says in done.stdout + done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_traceback_is_there_for_who_asks(data_dir: Path) -> None:
    done = parkgate("enroll", "revoke", "nobody", PARKGATE_DATA_DIR=str(data_dir), PARKGATE_DEBUG="1")
    assert "Traceback" in done.stderr


def test_config_show_masks_secrets(data_dir: Path) -> None:
    env = {"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_POSTGRES_URL": "postgresql://a:geheim@db/park"}
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        done = parkgate(*arguments, **env)
        assert "postgresql://a:********@db/park" in done.stdout
        assert "geheim" not in done.stdout


def test_enrolment_writes_what_a_gate_needs_and_lists_it(data_dir: Path, tmp_path: Path) -> None:
    env = {"PARKGATE_DATA_DIR": str(data_dir)}
    usb = tmp_path / "usb"
    assert parkgate("enroll", "gate", "north-1", "--gates", "main-1,main-2", "--out", str(usb), **env).returncode == 0
    assert sorted(path.name for path in usb.iterdir()) == ["ca.pem", "north-1.key", "north-1.pem"]
    listed = json.loads(parkgate("enroll", "list", "--json", **env).stdout)
    assert [(one["name"], one["standing"]) for one in listed] == [("north-1", "valid")]
    assert "gate/main-2" in parkgate("enroll", "list", **env).stdout
    assert parkgate("enroll", "revoke", listed[0]["serial"], **env).returncode == 0
    assert json.loads(parkgate("enroll", "list", "--json", **env).stdout)[0]["standing"] == "revoked"


@pytest.fixture
def own_ports(data_dir: Path) -> Iterator[dict[str, str]]:
    names = [name for name in Settings.model_fields if name.endswith("_port")]
    chosen: set[int] = set()
    while len(chosen) < len(names):
        chosen.add(ports.choose())
    numbers = {f"PARKGATE_{name.upper()}": str(port) for name, port in zip(names, chosen, strict=True)}
    yield {"PARKGATE_DATA_DIR": str(data_dir), **numbers}
    stop_stack(data_dir)


@pytest.mark.system
def test_up_status_doctor_and_down_tell_what_they_do(data_dir: Path, own_ports: dict[str, str]) -> None:
    up = parkgate("up", "--detach", **own_ports)
    assert up.returncode == 0
    assert "postgres is ready" in up.stdout
    assert "Everything is up" in up.stdout
    status = parkgate("status", "--json", **own_ports)
    assert status.returncode == 0
    shown = json.loads(status.stdout)
    names = ["cluster", "postgres", "reporting", "sales", "valkey"]
    assert sorted((one["name"], one["healthy"]) for one in shown["processes"]) == [(name, True) for name in names]
    assert all(one["memory_bytes"] > 1_000_000 for one in shown["processes"])
    assert "running" in parkgate("status", **own_ports).stdout
    findings = {one["name"]: one for one in json.loads(parkgate("doctor", "--json", **own_ports).stdout)}
    assert findings["Postgres"]["found"] == "Postgres 18 answers"
    assert findings["ledger"]["level"] == "ok"
    assert findings["agrees with Postgres"]["found"].endswith(("ahead", "behind"))
    assert "Stopped after" in parkgate("down", **own_ports).stdout
    assert parkgate("status", **own_ports).returncode == 1


@pytest.mark.system
def test_up_in_the_foreground_stops_everything_at_ctrl_c(data_dir: Path, own_ports: dict[str, str]) -> None:
    import signal

    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "ops.cli", "up"],
        env={**os.environ, **own_ports},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "Everything is up" in line:
            break
    child.send_signal(signal.SIGINT)
    rest = child.communicate(timeout=60)[0]
    assert "Stopped." in rest
    assert child.returncode == 0
    assert not stop_stack(data_dir)


@pytest.mark.system
def test_up_says_who_has_the_port(own_ports: dict[str, str]) -> None:
    port = own_ports["PARKGATE_SUPERVISOR_METRICS_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        for arguments in (["up"], ["up", "--detach"]):
            done = parkgate(*arguments, **own_ports)
            assert done.returncode != 0
            assert "supervisor_metrics_port" in done.stderr
            assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_names_the_program_and_the_setting() -> None:
    from ops.errors import OpsError

    wanted = rf"taken by .* \(process {os.getpid()}\).*PARKGATE_GATE_PORT"
    with socket.create_server(("127.0.0.1", 0)) as taker, pytest.raises(OpsError, match=wanted):
        ports.require_free(taker.getsockname()[1], "gate_port")


def test_a_port_may_be_held_by_programs_of_a_certain_name_only() -> None:
    from ops.errors import OpsError

    with socket.create_server(("127.0.0.1", 0)) as taker:
        port, mine = taker.getsockname()[1], psutil.Process().name()
        ports.require_free(port, "gate_port", may_hold=mine)
        with pytest.raises(OpsError, match="is taken"):
            ports.require_free(port, "gate_port", may_hold="ray::")


def test_doctor_finds_foreign_ports_unknown_variables_and_a_missing_server(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taker:
        port = taker.getsockname()[1]
        done = parkgate(
            "doctor",
            "--json",
            PARKGATE_DATA_DIR=str(data_dir),
            PARKGATE_GATE_PORT=str(port),
            PARKGATE_GATE_PROT="1",
            PARKGATE_POSTGRES_URL="postgresql://a:geheim@127.0.0.1:1/park",
            PARKGATE_LEDGER_URL="redis://:geheim@127.0.0.1:1/0",
        )
    findings = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert findings["ports"]["level"] == "fault"
    assert f"(process {os.getpid()})" in findings["ports"]["found"]
    assert "PARKGATE_GATE_PROT" in findings["settings"]["found"]
    assert "PARKGATE_GATE_PORT" in findings["settings"]["mend"]
    assert findings["Postgres"]["level"] == "fault"
    assert findings["ledger"]["level"] == "fault"
    assert "geheim" not in done.stdout
    assert not data_dir.exists()  # a check changes nothing


def test_doctor_judges_a_ledger_that_forgets(data_dir: Path, valkey_url: str) -> None:
    import redis

    from ops.doctor.network import ledger

    settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_LEDGER_URL": valkey_url})
    assert ledger(settings).level == "ok"
    with redis.Redis.from_url(valkey_url) as client:
        client.config_set("appendfsync", "everysec")
        found = ledger(settings)
        client.config_set("appendfsync", "always")
    assert found.level == "fault"
    assert found.mend == "Set appendfsync always there."


def test_doctor_warns_of_a_secret_that_others_may_read(data_dir: Path) -> None:
    from ops.doctor.machine import secrets_private
    from ops.files import secret

    settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir)})
    assert secrets_private(settings).level == "ok"
    secret(data_dir, "signing")
    secret(data_dir, "webhook")
    path = data_dir / "secrets" / "signing"
    for mode, level in ((0o400, "ok"), (0o600, "ok"), (0o640, "warning"), (0o604, "warning")):
        path.chmod(mode)
        assert secrets_private(settings).level == level, oct(mode)
    found = secrets_private(settings)
    assert "signing" in found.found
    assert "webhook" not in found.found
    assert found.mend == f"chmod 600 {path}"


def test_doctor_says_when_it_cannot_look_at_the_secrets(data_dir: Path) -> None:
    from ops.doctor.machine import secrets_private

    data_dir.mkdir()
    (data_dir / "secrets").touch()
    found = secrets_private(load(environ={"PARKGATE_DATA_DIR": str(data_dir)}))
    assert (found.level, found.found) == ("warning", f"{data_dir}/secrets cannot be looked at: Not a directory")


def test_every_finding_that_is_not_ok_says_how_to_mend_it(data_dir: Path) -> None:
    from ops.doctor import CHECKS, examine

    found = examine(load(environ={"PARKGATE_DATA_DIR": str(data_dir)}))
    assert len(found) == len(CHECKS)
    assert not [one for one in found if one.level != "ok" and not one.mend]
    assert not [one for one in found if "the check broke" in one.found]


def test_the_stack_embeds_only_what_is_not_given(data_dir: Path) -> None:
    own = load(environ={"PARKGATE_DATA_DIR": str(data_dir)})
    assert {one.name for one in processes(own)} >= {"postgres", "valkey"}
    url = "postgresql://a:b@db/park"
    given = load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_POSTGRES_URL": url})
    assert "postgres" not in {one.name for one in processes(given)}
    assert Endpoints(given).postgres_url == url


def test_a_service_is_ready_when_it_says_so_and_lives(data_dir: Path) -> None:
    assert not is_ready(data_dir, "sales")
    code = (
        f"from pathlib import Path; from ops.readiness import mark_ready; mark_ready(Path({str(data_dir)!r}), 'sales')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not is_ready(data_dir, "sales")  # it said so, and is gone
    mark_ready(data_dir, "sales")
    assert is_ready(data_dir, "sales")


def test_a_service_of_the_stack_refuses_to_start_on_a_taken_port(data_dir: Path) -> None:
    from ops.errors import OpsError

    with socket.create_server(("127.0.0.1", 0)) as taker:
        port = str(taker.getsockname()[1])
        settings = load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_SALES_PORT": port})
        with pytest.raises(OpsError, match="PARKGATE_SALES_PORT"):
            service("sales", settings, ("sales_port",)).command()
    command = service("sales", settings, ("sales_port",)).command()
    assert list(command.argv[-3:]) == ["-m", "ops.run", "sales"]
    assert command.env["PARKGATE_DATA_DIR"] == str(data_dir)


def test_run_starts_a_registered_service_with_the_settings(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Path] = []
    module = ModuleType("kiosk_service")
    module.__dict__["serve"] = lambda settings: seen.append(settings.data_dir)
    monkeypatch.setitem(sys.modules, "kiosk_service", module)
    monkeypatch.setitem(run.SERVICES, "kiosk", "kiosk_service:serve")
    monkeypatch.setattr(run, "_configure_logs", lambda *_: None)
    monkeypatch.setenv("PARKGATE_DATA_DIR", str(data_dir))
    assert run.main(["kiosk"]) == 0
    assert seen == [data_dir]
    assert run.main(["nothing"]) == 2
    assert "kiosk" in capsys.readouterr().err


def test_nobody_is_enrolled_when_the_key_cannot_be_written(data_dir: Path, tmp_path: Path) -> None:
    env = {"PARKGATE_DATA_DIR": str(data_dir)}
    (tmp_path / "file").touch()
    refused = parkgate("enroll", "finance", "anna", "--out", str(tmp_path / "file" / "usb"), **env)
    assert (refused.returncode, "Nobody was enrolled" in refused.stderr, "--out" in refused.stderr) == (1, True, True)
    assert parkgate("enroll", "finance", "anna", "--out", str(tmp_path / "usb"), **env).returncode == 0


def test_a_ticket_id_beyond_64_bits_is_wrong_use(data_dir: Path) -> None:
    refused = parkgate("refund", str(2**64), PARKGATE_DATA_DIR=str(data_dir))
    assert (refused.returncode, "TICKET_ID" in refused.stderr) == (2, True)
