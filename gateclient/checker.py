"""The seam between a turnstile and whoever decides. The cluster decides today; a gate that is cut off will decide by
the same Protocol."""

from __future__ import annotations

from typing import Protocol

from parkgate.gate.v1 import gate_pb2 as pb


class Checker(Protocol):
    """Decides scans and takes what became of them."""

    async def check(self, scan: pb.Scan) -> pb.Verdict:
        """The verdict to show. Always answers, within the guest's patience; what it does not know is RETRY (I7).

        The verdict's scan_id names the admission, and may be that of an earlier attempt of the same guest: passage
        reports must carry it.
        """
        ...

    def report_passage(self, report: pb.PassageReport) -> None:
        """Takes what became of an ADMIT; it will reach the books, however long that takes."""
        ...
