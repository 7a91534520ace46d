"""Settings: where values come from, and that everything wrong is said at once, without a secret."""

from pathlib import Path

import pytest

from ops.settings import Settings, SettingsError, load, masked


def write(folder: Path, text: str) -> Path:
    path = folder / "parkgate.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(config: Path | None = None, environ: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(config, environ=environ or {})
    return {one.setting: str(one) for one in caught.value.problems}


def test_defaults_embed_everything_and_keep_the_data_beside_the_caller() -> None:
    settings = load(environ={})
    assert settings.embedded_postgres
    assert settings.embedded_ledger
    assert settings.embedded_ray
    assert settings.data_dir == Path.cwd() / "parkgate-data"
    assert settings.catalogue_dir == settings.data_dir / "catalogue"


def test_environment_wins_over_the_file_and_a_flag_over_both(tmp_path: Path) -> None:
    config = write(tmp_path, "gate_port = 1001\nsales_port = 1002\nreporting_port = 1003\n")
    environ = {"PARKGATE_SALES_PORT": "2002", "PARKGATE_REPORTING_PORT": "2003"}
    settings = load(config, {"reporting_port": 3003}, environ)
    assert (settings.gate_port, settings.sales_port, settings.reporting_port) == (1001, 2002, 3003)


def test_the_file_in_the_data_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path, "owners = 3\n")
    assert load(environ={"PARKGATE_DATA_DIR": str(tmp_path)}).owners == 3


def test_a_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    assert load(environ={"PARKGATE_CONFIG": str(write(tmp_path, "owners = 2\n"))}).owners == 2


def test_all_problems_are_reported_at_once_with_where_they_came_from(tmp_path: Path) -> None:
    config = write(tmp_path, 'gate_prot = 1\ngate_port = "abc"\nlog_level = "loud"\n')
    found = problems(config, {"PARKGATE_SALES_PORT": "70000", "PARKGATE_RAY_ADDRESS": "auto"})
    assert set(found) == {"gate_prot", "gate_port", "log_level", "sales_port", "ray_address"}
    assert "Did you mean gate_port?" in found["gate_prot"]
    assert f"file {config}" in found["gate_port"]
    assert "environment PARKGATE_SALES_PORT" in found["sales_port"]
    assert "stranger" in found["ray_address"]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "7443.5", ""])
def test_a_port_outside_of_what_there_is_is_refused(port: str) -> None:
    assert "PARKGATE_GATE_PORT" in problems(environ={"PARKGATE_GATE_PORT": port})["gate_port"]


@pytest.mark.parametrize("port", ["1", "65535"])
def test_the_first_and_the_last_port_are_allowed(port: str) -> None:
    assert load(environ={"PARKGATE_GATE_PORT": port}).gate_port == int(port)


def test_two_services_on_one_port_are_refused() -> None:
    assert "gate_port and sales_port are the same" in problems(environ={"PARKGATE_SALES_PORT": "7443"})["settings"]


@pytest.mark.parametrize(("owners", "partitions", "fits"), [("7", "8", True), ("8", "8", True), ("9", "8", False)])
def test_owners_may_not_exceed_partitions(owners: str, partitions: str, fits: bool) -> None:
    environ = {"PARKGATE_OWNERS": owners, "PARKGATE_PARTITIONS": partitions}
    if fits:
        assert load(environ=environ).owners == int(owners)
    else:
        assert "owners (9) may not exceed partitions (8)" in problems(environ=environ)["settings"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = = 2", "is not valid TOML"),
        ("data_dir", "is not valid TOML"),
        ("x = '\x00'", "is not valid TOML"),
    ],
)
def test_a_broken_file_is_one_clear_problem(tmp_path: Path, text: str, says: str) -> None:
    assert says in problems(write(tmp_path, text))["config"]


def test_a_file_that_is_no_text_or_not_there_is_one_clear_problem(tmp_path: Path) -> None:
    (tmp_path / "raw.toml").write_bytes(b"a = '\xff'")
    assert "is not UTF-8" in problems(tmp_path / "raw.toml")["config"]
    assert "No such file" in problems(tmp_path / "missing.toml")["config"]
    assert "Is a directory" in problems(tmp_path)["config"]


def test_a_file_in_the_data_folder_cannot_move_the_data_folder(tmp_path: Path) -> None:
    write(tmp_path, 'data_dir = "/elsewhere"\n')
    assert "cannot move it" in problems(environ={"PARKGATE_DATA_DIR": str(tmp_path)})["data_dir"]


@pytest.mark.parametrize(
    "variable",
    ["PARKGATE_POSTGRES_URL", "PARKGATE_LEDGER_URL"],
)
@pytest.mark.parametrize(
    "url", ["mysql://u:geheim@h/d", "//u:geheim@h/d", "postgresql://u:geheim@", "redis://:geheim@h:99999"]
)
def test_a_wrong_url_is_refused_without_showing_its_password(variable: str, url: str) -> None:
    found = problems(environ={variable: url})
    assert "geheim" not in str(found)


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    environ = {
        "PARKGATE_POSTGRES_URL": "postgresql://park:geheim@db:5432/park",
        "PARKGATE_LEDGER_URL": "redis://:geheim@ledger:6379/0",
    }
    settings = load(environ=environ)
    assert settings.postgres_url.get_secret_value().endswith("geheim@db:5432/park")
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(masked(settings))]
    assert not any("geheim" in text for text in shown)
    assert masked(settings)["postgres_url"] == "postgresql://park:********@db:5432/park"


def test_settings_cannot_be_changed() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="frozen"):
        load(environ={}).gate_port = 1  # type: ignore[misc]


def test_every_setting_says_what_it_means() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_server_names_are_split_at_commas() -> None:
    assert load(environ={"PARKGATE_SERVER_NAMES": "a.example, 10.0.0.5,"}).server_names == ("a.example", "10.0.0.5")
