"""The installation's settings: one frozen object, built once, every problem reported at once.

From lowest to highest: defaults, a TOML file (`--config`, `PARKGATE_CONFIG`, or `parkgate.toml` in the data folder),
environment variables `PARKGATE_*`, and flags of the command line. The layers are merged here: the sources of
pydantic-settings cannot say where a wrong value came from. No secret has a default, and none is ever printed.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ops.errors import BadInput

PREFIX = "PARKGATE_"
FILE_NAME = "parkgate.toml"
MAX_PARTITIONS = 4096
"""Each partition costs its owner a ledger stream and a task; a national holiday needs some hundreds."""

MOVE = "Use --data-dir or PARKGATE_DATA_DIR, or keep the file elsewhere and name it with --config."

Port = Annotated[int, Field(ge=1, le=65535)]
PORTS = (
    "gate_port",
    "sales_port",
    "reporting_port",
    "supervisor_metrics_port",
    "cluster_metrics_port",
    "sales_metrics_port",
    "reporting_metrics_port",
)


class Settings(BaseModel):
    """Everything that one installation may choose. Venue, zones and time zone are the catalogue's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    data_dir: Path = Field(Path("parkgate-data"), description="Folder of all data, for example /var/lib/parkgate.")
    catalogue_dir: Path = Field(
        default_factory=lambda known: known.get("data_dir", Path("parkgate-data")) / "catalogue",
        description="Folder of the catalogue's files; by default `catalogue` in the data folder.",
    )
    postgres_url: SecretStr = Field(
        SecretStr(""), description="Empty for the embedded Postgres, or postgresql://user:password@host:5432/database."
    )
    ledger_url: SecretStr = Field(
        SecretStr(""), description="Empty for the embedded Valkey, or redis://:password@host:6379/0."
    )
    ray_address: str = Field(
        "local", description="`local` (or empty) for an embedded Ray, or host:6379 of a Ray cluster."
    )

    signing_passphrase_file: Path | None = Field(
        None,
        description="File with the passphrase of the signing keys, such as a systemd credential; by default it is in "
        "the data folder.",
    )

    partitions: int = Field(
        4,
        ge=1,
        le=MAX_PARTITIONS,
        description="Partitions of the ledger, fixed at the first start: as many owners as there may ever be.",
    )
    owners: int = Field(1, ge=1, le=256, description="Partition owner actors; not more than partitions.")
    gateways: int = Field(1, ge=1, le=256, description="Gateway actors.")

    log_limit_mb: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Megabytes of the ledger's log that reporting has not read at which the alarm is at 100 %.",
    )

    gate_host: str = Field("0.0.0.0", min_length=1, description="Address on which gates are served.")  # noqa: S104 - the gRPC ports face the network, with TLS
    gate_port: Port = Field(7443, description="Port on which gates are served, for example 7443.")
    sales_host: str = Field("0.0.0.0", min_length=1, description="Address on which sales windows are served.")  # noqa: S104
    sales_port: Port = Field(7444, description="Port on which sales windows are served, for example 7444.")
    reporting_host: str = Field("0.0.0.0", min_length=1, description="Address on which finance is served.")  # noqa: S104
    reporting_port: Port = Field(7445, description="Port on which finance is served, for example 7445.")
    server_names: tuple[str, ...] = Field(
        (),
        description="Further names and addresses in the server certificates, for example gates.park.example,10.0.0.5.",
    )

    supervisor_metrics_port: Port = Field(7460, description="Loopback port of the supervisor's metrics.")
    sales_metrics_port: Port = Field(7461, description="Loopback port of the sales service's metrics.")
    reporting_metrics_port: Port = Field(7462, description="Loopback port of the reporting service's metrics.")
    cluster_metrics_port: Port = Field(7463, description="First loopback port of the cluster's metrics, one a process.")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error."
    )
    log_format: Literal["console", "json"] = Field("console", description="console for people, json for machines.")

    @field_validator("data_dir", "catalogue_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("signing_passphrase_file", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return value or None

    @field_validator("server_names", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("postgres_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        return _checked_url(value, ("postgresql", "postgres"), needs_path=True)

    @field_validator("ledger_url")
    @classmethod
    def _is_redis(cls, value: SecretStr) -> SecretStr:
        return _checked_url(value, ("redis", "rediss"), needs_path=False)

    @field_validator("ray_address")
    @classmethod
    def _is_explicit(cls, value: str) -> str:
        if value == "auto":
            raise PydanticCustomError("ray_auto", "'auto' could join a stranger's cluster; name the address")
        return value or "local"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.owners > self.partitions:
            raise PydanticCustomError(
                "owners",
                "owners ({owners}) may not exceed partitions ({partitions})",
                {"owners": self.owners, "partitions": self.partitions},
            )
        taken: dict[int, str] = {}
        for name in PORTS:
            other = taken.setdefault(getattr(self, name), name)
            if other != name:
                raise PydanticCustomError("ports", "{a} and {b} are the same port", {"a": other, "b": name})
        return self

    @property
    def embedded_postgres(self) -> bool:
        return not self.postgres_url.get_secret_value()

    @property
    def embedded_ledger(self) -> bool:
        return not self.ledger_url.get_secret_value()

    @property
    def embedded_ray(self) -> bool:
        return self.ray_address == "local"


@dataclass(frozen=True, slots=True)
class Problem:
    """One setting that cannot be used."""

    setting: str
    origin: str
    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"{self.setting} ({self.origin}): {self.wrong}. {self.mend}".strip()


class SettingsError(BadInput):
    """Every setting that is wrong, at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        count = "One setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__(f"{count} wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = problems


def load(
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Builds the settings. `environ` is the process's own unless given. Raises: SettingsError with every problem."""
    env = os.environ if environ is None else environ
    values, origins = _layer_flags_and_environment(flags or {}, env)
    path, named_by = _file(config, env, values)
    problems: list[Problem] = []
    if path is not None:
        for key, value in _read(path, named_by).items():
            if key not in Settings.model_fields:
                problems.append(_unknown(key, f"file {path}"))
            elif key == "data_dir" and named_by == "data folder":
                problems.append(Problem(key, f"file {path}", "a file inside the data folder cannot move it", MOVE))
            elif key not in values:
                values[key], origins[key] = value, f"file {path}"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [_problem(dict(one), origins) for one in error.errors(include_url=False, include_input=False)]
        raise SettingsError(tuple(problems)) from None  # pydantic's own text says the same, less well
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def masked(settings: Settings) -> dict[str, str]:
    """Every setting as text, secrets as stars, an embedded server as `embedded`."""
    texts: dict[str, str] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            texts[name] = _masked_url(value.get_secret_value()) or "embedded"
        else:
            texts[name] = ", ".join(value) if isinstance(value, tuple) else str("" if value is None else value)
    return texts


def _layer_flags_and_environment(
    flags: Mapping[str, Any], env: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if flags.get(name) is not None:
            values[name], origins[name] = flags[name], f"flag --{name.replace('_', '-')}"
        elif variable in env:
            values[name], origins[name] = env[variable], f"environment {variable}"
    return values, origins


def _file(config: Path | None, env: Mapping[str, str], values: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The file to read, and who named it; a file that somebody named must exist."""
    if config is not None:
        return config.expanduser().absolute(), "flag --config"
    if env.get(f"{PREFIX}CONFIG"):
        return Path(env[f"{PREFIX}CONFIG"]).expanduser().absolute(), f"environment {PREFIX}CONFIG"
    path = Path(values.get("data_dir", Settings.model_fields["data_dir"].default)).expanduser().absolute() / FILE_NAME
    return (path, "data folder") if path.exists() else (None, "")


def _read(path: Path, named_by: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        wrong, mend = f"cannot read {path}: {error.strerror}", "Name a file that exists and that this user may read."
    except UnicodeDecodeError as error:
        wrong, mend = f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8."
    except tomllib.TOMLDecodeError as error:
        wrong, mend = (
            f"{path} is not valid TOML: {error}",
            'A line reads like: gate_port = 7443, or data_dir = "/srv/park".',
        )
    raise SettingsError((Problem("config", named_by, wrong, mend),))


def _unknown(key: str, origin: str) -> Problem:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1)
    mend = f"Did you mean {near[0]}?" if near else "`parkgate config show` lists every setting."
    return Problem(key, origin, "there is no such setting", mend)


def _problem(error: Mapping[str, Any], origins: Mapping[str, str]) -> Problem:
    name = str(error["loc"][0]) if error["loc"] else ""
    wrong = str(error["msg"]).removeprefix("Value error, ")
    wrong = wrong[:1].lower() + wrong[1:]
    if not name:
        return Problem("settings", "together", wrong, "Change one of them.")
    field = Settings.model_fields.get(name)
    return Problem(name, origins.get(name, "default"), wrong, (field.description or "") if field else "")


def _checked_url(value: SecretStr, schemes: tuple[str, ...], needs_path: bool) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        return value
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port  # reading the port is what checks it
    except ValueError:
        raise PydanticCustomError("url", "it is not a URL with a host and a port") from None
    if url.scheme not in schemes:
        raise PydanticCustomError("url", "the URL must begin with {scheme}://", {"scheme": schemes[0]})
    if not host or (needs_path and len(url.path) < 2):
        raise PydanticCustomError("url", "the URL names no host or no database")
    return value


def _masked_url(text: str) -> str:
    url = urlsplit(text)
    if not url.password:
        return text
    return url._replace(netloc=f"{url.username or ''}:********@{url.netloc.rpartition('@')[2]}").geturl()
