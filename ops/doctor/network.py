"""Checks of ports and of the servers behind them."""

from typing import TYPE_CHECKING, Any

from ops import ports, processes, state
from ops.doctor.finding import Finding, fault, ok, warning
from ops.errors import OpsError
from ops.settings import PORTS, Settings
from ops.stack import Endpoints

if TYPE_CHECKING:
    import psycopg
    import redis

CONNECT_TIMEOUT_S = 3
POSTGRES_FROM = 140000
LEDGER_WANTS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


def ports_free_or_ours(settings: Settings) -> Finding:
    taken = {name: getattr(settings, name) for name in PORTS if not ports.is_free(getattr(settings, name))}
    ours = _our_ports(settings)
    foreign = {name: port for name, port in taken.items() if port not in ours}
    if foreign:
        found = "; ".join(f"{port} ({name}) is taken{ports.holder(port)}" for name, port in foreign.items())
        names = ", ".join(f"PARKGATE_{name.upper()}" for name in foreign)
        return fault(found, f"End that program, or choose another port with {names}.")
    return ok(f"{len(PORTS) - len(taken)} free, {len(taken)} ours")


def postgres(settings: Settings) -> Finding:
    if settings.embedded_postgres and not _runs(settings, "postgres"):
        return ok("embedded, not running")
    try:
        link = postgres_link(settings)
    except OpsError as error:
        return fault(error.message, error.mend)
    if link is None:
        return warning("embedded, not answering", "See logs/postgres.log in the data folder.")
    with link:
        version = link.info.server_version
    if version < POSTGRES_FROM:
        return fault(f"Postgres {version // 10000} answers", "Use Postgres 14 or later.")
    return ok(f"Postgres {version // 10000} answers")


def ledger(settings: Settings) -> Finding:
    if settings.embedded_ledger and not _runs(settings, "valkey"):
        return ok("embedded, not running")
    try:
        client = ledger_client(settings)
    except OpsError as error:
        return fault(error.message, error.mend)
    if client is None:
        return warning("embedded, not answering", "See logs/valkey.log in the data folder.")
    with client:
        return _judge_ledger(client)


def _judge_ledger(client: "redis.Redis") -> Finding:
    import redis

    try:
        found = {name: str(client.config_get(name).get(name, "")) for name in LEDGER_WANTS}
    except redis.ResponseError:
        return warning(
            "answers, but does not show its configuration", f"See to it that it has {_config(LEDGER_WANTS)}."
        )
    wrong = {name: value for name, value in LEDGER_WANTS.items() if found[name] != value}
    if wrong:
        return fault(f"answers, with {_config({n: found[n] for n in wrong})}", f"Set {_config(wrong)} there.")
    return ok("answers; append-only, synced always, never evicts")


def postgres_link(settings: Settings) -> "psycopg.Connection[Any] | None":
    """A connection; `None` when the embedded one does not run. Raises: OpsError when a named one is not there."""
    import psycopg

    if settings.embedded_postgres and not _runs(settings, "postgres"):
        return None
    try:
        return psycopg.connect(Endpoints(settings).postgres_url, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.Error as error:
        if settings.embedded_postgres:
            return None
        first = str(error).strip().splitlines()[0]
        raise OpsError(f"cannot connect: {first}", "Check PARKGATE_POSTGRES_URL and that server.") from error


def ledger_client(settings: Settings) -> "redis.Redis | None":
    """A client; `None` when the embedded one does not run. Raises: OpsError when one that was named is not there."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if settings.embedded_ledger and not _runs(settings, "valkey"):
        return None
    client = redis.Redis.from_url(
        Endpoints(settings).ledger_url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        client.ping()
    except redis.RedisError as error:
        client.close()
        if settings.embedded_ledger:
            return None
        raise OpsError(f"cannot connect: {error}", "Check PARKGATE_LEDGER_URL and that server.") from error
    return client


def _runs(settings: Settings, name: str) -> bool:
    now = state.read(settings.data_dir)
    return now is not None and now.alive and any(one.name == name and one.healthy for one in now.processes)


def _our_ports(settings: Settings) -> set[int]:
    """What the processes of the stack say that they listen on, and what the supervisor and its descendants hold: the
    ports of its own metrics and of the actors' are on no process's list."""
    now = state.read(settings.data_dir)
    if now is None or not now.alive:
        return set()
    family = {now.supervisor.pid, *(one.pid for one in processes.descendants(now.supervisor.pid))}
    return {port for one in now.processes for port in one.ports.values()} | ports.held_by(family)


def _config(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value or 'unset'}" for name, value in values.items())
