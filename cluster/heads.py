"""What the short way asks of a scan, in a fixed form: gateways take it from the frame, so that owners need not.

An owner has one thread, and gateways are as many as one likes: reading a scan's fields out of protobuf and hashing its
token were a fifth of what an owner did for a scan of a large frame. The frame travels beside the heads, for scans that
are looked at closely; one that is no plain entry has a head that is blank.

For a plain entry the head is what is decided, so whoever sends it is believed: that it was cut from the frame, and that
its token was shown. Ticket, terms and digest must be those of one registered ticket; gate, scan and time were always
the gateway's to say. Links carry the cluster's own certificate on both ends.

A head is 64 bytes, little-endian. Versions of gateways and owners mix while a cluster is brought up to date, so another
layout is another field of the protocol:

| offset | bytes | what |
|---|---|---|
| 0 | 8 | ticket id, a number |
| 8 | 8 | the same again, as protobuf writes it |
| 16 | 4 | number of the gate |
| 20 | 8 | terms: the last 8 bytes of the token's claims |
| 28 | 12 | digest of the token |
| 40 | 16 | scan id |
| 56 | 8 | scan time, UTC milliseconds since 1970 |
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cluster.runs import SCAN_ID_LENGTH
from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens

HEAD = struct.Struct("<Q8s12s12s16sq")
"""As it is read, a `Head`."""
Head = tuple[int, bytes, bytes, bytes, bytes, int]
"""Ticket id, the same again, gate number and terms (`at`), digest, scan id, scan time."""
BLANK = bytes(HEAD.size)
"""No registered ticket has a digest of nothing but zeros."""
GATE_LENGTH = 4
_AS_CUT = struct.Struct("<8s8sI8s12s16sq")
_EXIT = gate_pb2.DIRECTION_EXIT
_TERMS_OFFSET = 9
"""Where in a token's claims its terms begin: behind version and ticket id."""
_TERMS = slice(_TERMS_OFFSET, tokens.CLAIMS_LENGTH)
_TICKET_BACKWARDS = slice(8, 0, -1)


def heads_of(frame: gate_pb2.ClientFrame, gate_numbers: Sequence[int]) -> bytes:
    """A head for each scan of a frame, in order; `gate_numbers` by lane."""
    heads: list[bytes] = []
    lanes = len(gate_numbers)
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
    return int.from_bytes(at[:GATE_LENGTH], "little")


def claims_of(at: bytes) -> bytes:
    """The claims of any ticket on a head's terms; version and ticket id are zero."""
    return bytes(_TERMS_OFFSET) + at[GATE_LENGTH:]
