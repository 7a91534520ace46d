"""Logs carry no secret, whatever is logged; metrics are on loopback."""

import json
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import Counter

from ops import metrics, ports
from ops.errors import BadInput
from ops.logs import configure, redact
from ops.settings import load

SECRET = "geheim-7f3a"
URL = f"postgresql://park:{SECRET}@127.0.0.1:5432/parkgate"


@pytest.fixture
def log_file(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PARKGATE_SUPERVISED", "1")
    root = logging.getLogger()
    before = list(root.handlers), root.level
    for handler in before[0]:
        root.removeHandler(handler)
    configure("sales", load(environ={"PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_LOG_FORMAT": "json"}))
    yield data_dir / "logs" / "sales.events.log"
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.handlers, root.level = before
    structlog.reset_defaults()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "fields",
    [
        {"password": SECRET},
        {"db_password": SECRET},
        {"passphrase": SECRET},
        {"token": SECRET},
        {"auth_token": SECRET},
        {"api_key": SECRET},
        {"private_key": SECRET},
        {"Authorization": SECRET},
        {"headers": {"authorization": SECRET}},
        {"many": [{"client_secret": SECRET}]},
        {"url": URL},
        {"note": f"connecting to {URL} failed"},
        {"header": f"Bearer {SECRET}"},
        {"error": ValueError(f"no route to {URL}")},
        {"raw": SECRET.encode()},
        {"pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"},
        {"token": [SECRET]},
    ],
)
def test_no_secret_passes(fields: dict[str, object]) -> None:
    assert SECRET not in str(redact(None, "info", {"event": "tried", **fields}))


def test_what_is_no_secret_passes() -> None:
    event = {"event": "scan", "gate": "main-1", "count": 3, "rate": 0.5, "ok": True, "key_id": 7, "token_count": 2}
    assert redact(None, "info", dict(event)) == event


def test_structlog_and_the_standard_library_write_the_same_redacted_lines(log_file: Path) -> None:
    structlog.get_logger("ours").info("connected", url=URL, gate="main-1")
    logging.getLogger("theirs").warning("lost %s", URL)
    try:
        raise ValueError(URL)
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    structlog.get_logger("ours").debug("not shown at this level")
    found = lines(log_file)
    assert found[0]["event"] == "connected"
    assert [one["level"] for one in found] == ["info", "warning", "error"]
    assert {one["service"] for one in found} == {"sales"}
    assert found[0]["gate"] == "main-1"
    assert "ValueError" in str(found[2]["exception"])
    assert SECRET not in log_file.read_text()


def test_metrics_are_served_on_loopback_only() -> None:
    port = ports.choose()
    Counter("parkgate_test_scans", "For this test.").inc(3)
    metrics.serve(port, "sales_metrics_port")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"parkgate_test_scans_total 3.0" in answer.read()
    assert ports.is_free(port, "127.0.0.2")
    assert not ports.is_free(port)


def test_a_taken_metrics_port_names_the_setting() -> None:
    import socket

    wanted = r"sales_metrics_port.*PARKGATE_SALES_METRICS_PORT"
    with socket.create_server(("127.0.0.1", 0)) as taker, pytest.raises(BadInput, match=wanted):
        metrics.serve(taker.getsockname()[1], "sales_metrics_port")
