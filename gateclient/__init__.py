"""The gate's client: readers, the stream to the cluster, barriers and displays of turnstiles and handhelds."""

from gateclient.checker import Checker
from gateclient.client import GateClient, LinkConfig
from gateclient.credentials import Credentials, load_credentials
from gateclient.link_events import SessionLimits
from gateclient.run import GateConfig, GateSummary, check_config, run_gate
from gateclient.scans import LaneSetting, make_scan

__all__ = [
    "Checker",
    "Credentials",
    "GateClient",
    "GateConfig",
    "GateSummary",
    "LaneSetting",
    "LinkConfig",
    "SessionLimits",
    "check_config",
    "load_credentials",
    "make_scan",
    "run_gate",
]
