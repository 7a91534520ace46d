"""Structured logs: structlog, as lines for people or JSON for machines, to stderr and to a rotating file.

Every event passes `redact`, which lets no secret through: by the name of its field, and by the look of its text.
"""

import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ops.files import make_folder
from ops.settings import Settings

FILE_BYTES = 10 * 1024 * 1024
FILE_COUNT = 5
"""Five files of 10 MB a service: some days of a busy park, and a bound on the disk that they take."""
MASK = "********"
SECRET_NAME = re.compile(
    r"pass(word|phrase)?$|secret|token|authorization|private_?key|api_?key|credential|cookie|signature|qr_?(text|code)",
    re.IGNORECASE,
)
NOT_SECRET = frozenset({"token_count", "token_length", "key_id"})
URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+(?=@)")
BEARER = re.compile(r"(?i)\b(bearer\s+)\S+")
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def configure(service: str, settings: Settings) -> None:
    """Sets up logging of this process: structlog and the standard library's. Call once, at the start of a service.

    Under the supervisor only the file is written: its stderr is kept for what a crash says at the end.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _named(service),
        redact,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in _handlers(service, settings):
        handler.setFormatter(_formatter(settings, shared))
        root.addHandler(handler)
    root.setLevel(settings.log_level.upper())


def redact(_logger: WrappedLogger | None, _method: str, event: EventDict) -> EventDict:
    """Masks secrets, at any depth, by field name and by what a text looks like."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any) -> Any:
    if SECRET_NAME.search(key) and key not in NOT_SECRET and not isinstance(value, bool | type(None)):
        return MASK
    if isinstance(value, Mapping):
        return {inner: _clean(str(inner), one) for inner, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(key, one) for one in value]
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"  # a token's bytes are a ticket: they are never logged
    return value if isinstance(value, int | float | bool | type(None)) else redact_text(str(value))


def redact_text(text: str) -> str:
    """Masks passwords in URLs, bearer tokens and private keys inside a text."""
    text = URL_PASSWORD.sub(rf"\1{MASK}", text)
    return PRIVATE_KEY.sub(MASK, BEARER.sub(rf"\1{MASK}", text))


def _named(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add


def _formatter(settings: Settings, shared: list[Processor]) -> logging.Formatter:
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _handlers(service: str, settings: Settings) -> list[logging.Handler]:
    folder = make_folder(settings.data_dir / "logs")
    file = logging.handlers.RotatingFileHandler(
        folder / f"{service}.events.log", maxBytes=FILE_BYTES, backupCount=FILE_COUNT, encoding="utf-8"
    )
    return [file] if os.environ.get("PARKGATE_SUPERVISED") else [logging.StreamHandler(sys.stderr), file]
