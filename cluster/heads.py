"""What the short way asks of a scan, in a fixed form: gateways take it from the frame, so that owners need not.

An owner has one thread, and a gateway has time: reading a scan's fields out of protobuf and hashing its token were a
fifth of what an owner did for a scan of a large frame. A head stands in for nothing: the frame travels beside it, and
a scan that is no plain entry has a head that is blank.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cluster.runs import SCAN_ID_LENGTH
from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens

HEAD = struct.Struct("<Q8s12s12s16sq")
"""Ticket id; the same as protobuf writes it; gate number and terms (`at`); digest of the token; scan id; scan time."""
BLANK = bytes(HEAD.size)
"""No registered ticket has a digest of nothing but zeros."""
_GATE_LENGTH = 4
_AS_CUT = struct.Struct("<8s8sI8s12s16sq")
_EXIT = gate_pb2.DIRECTION_EXIT
_TERMS_OFFSET = 9
"""Where in a token's claims its terms begin: behind version and ticket id."""
_TERMS = slice(_TERMS_OFFSET, tokens.CLAIMS_LENGTH)
_TICKET_BACKWARDS = slice(8, 0, -1)


def heads_of(frame: gate_pb2.ClientFrame, gate_numbers: Sequence[int]) -> bytes:
    """A head for each scan of a frame, in order; `gate_numbers` by lane."""
    heads, lanes = list[bytes](), len(gate_numbers)
    for scan in frame.scans:
        token, scan_id, lane = scan.token, scan.scan_id, scan.lane
        if (
            len(token) != tokens.TOKEN_LENGTH
            or len(scan_id) != SCAN_ID_LENGTH
            or lane >= lanes
            or scan.persons
            or scan.proof_seen
            or scan.direction == _EXIT
        ):
            heads.append(BLANK)
            continue
        ticket = token[_TICKET_BACKWARDS]
        gate, digest = gate_numbers[lane], tokens.digest(token)
        heads.append(_AS_CUT.pack(ticket, ticket, gate, token[_TERMS], digest, scan_id, scan.scan_time_ms))
    return b"".join(heads)


def gate_of(at: bytes) -> int:
    """The gate number of a head's `at`."""
    return int.from_bytes(at[:_GATE_LENGTH], "little")


def claims_of(at: bytes) -> bytes:
    """The claims of any ticket on a head's terms; version and ticket id are zero."""
    return bytes(_TERMS_OFFSET) + at[_GATE_LENGTH:]
