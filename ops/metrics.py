"""A Prometheus endpoint a process, on loopback only: a scraper on the machine reads it, the network does not."""

from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ops.errors import BadInput
from ops.state import StackState

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


class StackCollector(Collector):
    """What the supervisor knows of its processes, read when somebody asks."""

    def __init__(self, read: Callable[[], StackState | None]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("parkgate_process_up", "1 while the process serves.", labels=["process"])
        restarts = CounterMetricFamily("parkgate_process_restarts", "Starts after the first.", labels=["process"])
        now = self._read()
        for one in now.processes if now is not None else ():
            up.add_metric([one.name], float(one.healthy))
            restarts.add_metric([one.name], one.restarts)
        yield up
        yield restarts


def serve_stack(port: int, read: Callable[[], StackState | None]) -> None:
    """Serves the supervisor's metrics. Raises: BadInput when the port is taken."""
    REGISTRY.register(StackCollector(read))
    serve(port, "supervisor_metrics_port")
