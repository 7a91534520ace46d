"""Heads: what gateways tell owners of plain entries says what the frame says, and of everything else nothing."""

from __future__ import annotations

import os

import pytest

from cluster.batch import Group
from cluster.heads import BLANK, HEAD, claims_of, gate_of, heads_of
from cluster.short_way import ShortWay
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_partition import GATES, Bench, Ignored
from tests.cluster.small_park import MAIN, NOON_MS, SIDE, reason, scan, scan_id, ticket_id, token
from ticketcore import token as tokens

CODES = [token("day", number) for number in (1, 2, 3)]


def test_a_head_says_what_the_scan_says() -> None:
    frame = gate_pb2.ClientFrame(scans=[scan(CODES[0], 1), scan(CODES[1], 2, lane=1)])
    heads = list(HEAD.iter_unpack(heads_of(frame, GATES)))
    for (number, little_endian, at, digest, asked, time_ms), code, sent, gate in zip(
        heads, CODES, frame.scans, (MAIN, SIDE), strict=False
    ):
        assert number == ticket_id(code)
        assert little_endian == number.to_bytes(8, "little")
        assert gate_of(at) == gate
        assert claims_of(at)[9:] == code[9 : tokens.CLAIMS_LENGTH]
        assert digest == tokens.digest(code)
        assert (asked, time_ms) == (sent.scan_id, NOON_MS)


@pytest.mark.parametrize(
    "odd",
    [
        scan(CODES[0], 1, direction=gate_pb2.DIRECTION_EXIT),
        scan(CODES[0], 1, persons=1),
        scan(CODES[0], 1, proof_seen=True),
        scan(CODES[0], 1, lane=len(GATES)),
        gate_pb2.Scan(scan_id=b"short", token=CODES[0], scan_time_ms=NOON_MS),
        gate_pb2.Scan(scan_id=scan_id(1), token=CODES[0][:-1], scan_time_ms=NOON_MS),
        gate_pb2.Scan(scan_id=scan_id(1), qr_text=tokens.to_qr_text(CODES[0]), scan_time_ms=NOON_MS),
    ],
)
def test_a_scan_that_is_no_plain_entry_has_a_blank_head(odd: gate_pb2.Scan) -> None:
    heads = heads_of(gate_pb2.ClientFrame(scans=[scan(CODES[1], 2), odd, scan(CODES[2], 3)]), GATES)
    assert [heads[start : start + HEAD.size] == BLANK for start in range(0, len(heads), HEAD.size)] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("sent", [b"", BLANK[1:], BLANK * 3])
def test_an_owner_makes_the_heads_that_a_gateway_has_not_sent(sent: bytes) -> None:
    frame = gate_pb2.ClientFrame(scans=[scan(CODES[0], 1), scan(CODES[1], 2)])
    group = Group(Ignored(), 1, frame, GATES, sent)  # type: ignore[arg-type]
    assert group.heads == heads_of(frame, GATES)


def test_the_bytes_of_a_head_are_those_of_every_version() -> None:
    """Gateways and owners of neighbouring versions meet: another layout must be another field."""
    code = bytes(range(100, 100 + tokens.TOKEN_LENGTH))
    asked = gate_pb2.Scan(scan_id=bytes(range(16)), token=code, scan_time_ms=0x0102030405060708, lane=1)
    assert heads_of(gate_pb2.ClientFrame(scans=[asked]), [1, 0x0A0B0C0D]) == (
        bytes(range(108, 100, -1)) * 2
        + bytes.fromhex("0d0c0b0a")
        + bytes(range(109, 117))
        + tokens.digest(code)
        + bytes(range(16))
        + bytes(range(8, 0, -1))
    )


@pytest.mark.parametrize("place", [range(20, 28), range(28, 40)], ids=["terms", "digest"])
def test_a_head_whose_terms_or_digest_are_not_the_registered_ones_is_not_believed(place: range) -> None:
    """I1: what the frame holds is decided; a mistake of a gateway's lets nobody in on other terms."""
    bench = Bench()
    bench.register(CODES[0])
    frame = gate_pb2.ClientFrame(scans=[scan(CODES[0], 1)])
    for position in place:
        altered = bytearray(heads_of(frame, GATES))
        altered[position] ^= 1
        batch, group = bench.batch(), Group(Ignored(), 1, frame, GATES, bytes(altered))  # type: ignore[arg-type]
        pieces = [(group, 0, HEAD.iter_unpack(group.heads))]
        assert list(ShortWay(1, NOON_MS).left_over(pieces, batch.decider)) == [(group, 0)]


def test_heads_that_fit_nothing_leave_the_scans_to_be_looked_at_closely() -> None:
    """I1: what the frame holds is decided, each once."""
    bench = Bench()
    bench.register(*CODES)
    frame = gate_pb2.ClientFrame(scans=[scan(code, number) for number, code in enumerate((*CODES, CODES[0]))])
    batch, group = bench.batch(), Group(Ignored(), 1, frame, GATES, os.urandom(4 * HEAD.size))  # type: ignore[arg-type]
    batch.decide_groups([group])
    bench.commit(batch)
    verdicts = gate_pb2.ServerFrame.FromString(group.answer()).verdicts
    assert [reason(verdict) for verdict in verdicts] == ["ADMIT", "ADMIT", "ADMIT", "ALREADY_USED"]
