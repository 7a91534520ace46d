"""Runs one service of the stack in this process: `python -m ops.run NAME`.

A service is a function of the settings. It builds its parts, serves, calls `ops.readiness.mark_ready` once it does, and
returns after SIGTERM. Its module is imported only when it is run.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ops.errors import EXIT_OK, EXIT_USAGE, OpsError
from ops.settings import Settings, load

SERVICES: dict[str, str] = {
    "cluster": "ops.services.cluster:run",
    "sales": "ops.services.sales:run",
    "reporting": "ops.services.reporting:run",
}


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 ended in order, 1 operating failure, 2 bad input."""
    if len(argv) != 1 or argv[0] not in SERVICES:
        known = ", ".join(sorted(SERVICES)) or "none registered"
        print(f"parkgate: usage: python -m ops.run NAME, where NAME is one of: {known}.", file=sys.stderr)
        return EXIT_USAGE
    try:
        settings = load()
        _configure_logs(argv[0], settings)
        service(argv[0])(settings)
    except OpsError as error:
        print(f"parkgate: {argv[0]}: {error}", file=sys.stderr)
        return error.exit_code
    return EXIT_OK


def service(name: str) -> Callable[[Settings], None]:
    """The function of a registered service."""
    module, _, function = SERVICES[name].partition(":")
    found: Callable[[Settings], None] = getattr(import_module(module), function)
    return found


def _configure_logs(name: str, settings: Settings) -> None:
    from ops.logs import configure

    configure(name, settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
