"""What people wait for: a cold start to the first sale and the first admission, and a group's tickets as one PDF.

Timed around the `parkgate` command, as whoever types it feels it, the start of Python included.
"""

from __future__ import annotations

import time
from pathlib import Path

from loadtest.bench import system

GROUP = 1_000


def cold_start_s(folder: Path, base_port: int) -> float:
    """From `parkgate up` on an empty folder until one ticket was sold and admitted. Stops and removes it all."""
    since = time.monotonic()
    with system.running(folder, base_port) as stack:
        tickets = folder / "first"
        stack.parkgate("sell", "--product", "day", "--out", str(tickets))
        said = stack.parkgate("gate", "run", "--gate", "main-1", "--source", f"file:{tickets}")
        taken = time.monotonic() - since
    if "ADMIT" not in said:
        raise RuntimeError(f"the first ticket was not admitted: {said}")
    return taken


def bulk_issue_s(stack: system.Stack) -> float:
    """From the order of a group to its PDF on the disk: held, paid, signed, booked, drawn."""
    pdf = stack.data_dir / "group.pdf"
    since = time.monotonic()
    stack.parkgate("sell", "--product", "day", "--concession", "group", "--count", str(GROUP), "--pdf", str(pdf))
    taken = time.monotonic() - since
    if not pdf.read_bytes().startswith(b"%PDF"):
        raise RuntimeError(f"{pdf} is no PDF")
    return taken
