"""A Prometheus endpoint a process, on loopback only: a scraper on the machine reads it, the network does not."""

from prometheus_client import start_http_server

from ops.errors import BadInput

HOST = "127.0.0.1"


def serve(port: int, setting: str) -> None:
    """Serves the default registry at http://127.0.0.1:<port>/metrics, from a daemon thread.

    `setting` is the name of the setting that the port came from, for the error. Raises: BadInput when it is taken.
    """
    try:
        start_http_server(port, addr=HOST)
    except OSError as error:
        raise BadInput(
            f"{setting}: port {port} on {HOST} cannot be used for metrics: {error.strerror}.",
            f"Choose another with {setting} or PARKGATE_{setting.upper()}.",
        ) from error
