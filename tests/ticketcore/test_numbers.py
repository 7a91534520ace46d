"""The core's numbers are those of the protocols, and its tables have no holes."""

from __future__ import annotations

from enum import IntEnum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore import errors
from ticketcore.admission import Kind, Mode
from ticketcore.displays import LOOKS, TEXTS, Lamp, Sound, default_display
from ticketcore.lifecycle import Change, Lifecycle
from ticketcore.quota import FINISHED, MOVES, HoldOutcome, HoldState
from ticketcore.reasons import (
    FAULTS_OF_OURS,
    NEEDS_ACTION_REASONS,
    OVERRIDE_ALLOWED,
    Decision,
    Reason,
    decision_for,
)
from ticketcore.status import INTERNAL, STATUS, status_of

PAIRS: list[tuple[type[IntEnum], EnumTypeWrapper, str]] = [
    (Reason, gate_pb2.Reason, "REASON_"),
    (Decision, gate_pb2.Decision, "DECISION_"),
    (Kind, gate_pb2.AdmissionKind, "ADMISSION_KIND_"),
    (Mode, gate_pb2.GateMode, "GATE_MODE_"),
    (Lamp, gate_pb2.Lamp, "LAMP_"),
    (Sound, gate_pb2.Sound, "SOUND_"),
    (Lifecycle, events_pb2.Lifecycle, "LIFECYCLE_"),
    (HoldState, events_pb2.HoldState, "HOLD_STATE_"),
    (HoldOutcome, control_pb2.HoldOutcome, "HOLD_OUTCOME_"),
    (Change, control_pb2.ChangeOutcome, "CHANGE_OUTCOME_"),
]


@pytest.mark.parametrize(("ours", "wire", "prefix"), PAIRS, ids=lambda item: getattr(item, "__name__", ""))
def test_numbers_and_names_are_those_of_the_protocol(ours: type[IntEnum], wire: EnumTypeWrapper, prefix: str) -> None:
    """Zero is UNSPECIFIED on the wire, and a word of its own in the core or none."""
    on_the_wire = {name.removeprefix(prefix): number for name, number in wire.items() if number}
    assert {item.name: int(item) for item in ours if item} == on_the_wire
    assert wire.Name(0) == f"{prefix}UNSPECIFIED"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_decision_and_texts_that_fit_it(reason: Reason) -> None:
    """I7: a fault of ours is RETRY, its lamp is not red, and its text blames nobody."""
    shown = default_display(reason)
    assert shown.decision is decision_for(reason)
    assert (shown.lamp, shown.sound) == LOOKS[shown.decision]
    assert shown.staff_text
    assert shown.guest_text or reason >= Reason.LATE_DUPLICATE, "only replays have no guest in front of them"
    if reason in FAULTS_OF_OURS:
        assert shown.decision is Decision.RETRY
        assert shown.lamp is not Lamp.RED
        assert "ticket" not in shown.guest_text


def test_the_tables_of_reasons_name_reasons_only_and_each_once() -> None:
    assert set(TEXTS) == set(Reason)
    assert not FAULTS_OF_OURS & NEEDS_ACTION_REASONS
    assert not OVERRIDE_ALLOWED & FAULTS_OF_OURS
    assert Reason.NONE not in FAULTS_OF_OURS | NEEDS_ACTION_REASONS | OVERRIDE_ALLOWED
    genuine_only = {Reason.MALFORMED_CODE, Reason.BAD_SIGNATURE, Reason.UNKNOWN_KEY, Reason.UNKNOWN_TICKET}
    assert not OVERRIDE_ALLOWED & genuine_only, "I8: nobody may wave a forgery through"


def test_the_texts_are_short_enough_for_a_turnstiles_display() -> None:
    for reason, (guest, staff) in TEXTS.items():
        assert len(guest) <= 60, reason
        assert len(staff) <= 100, reason


def test_each_state_of_a_hold_says_where_it_may_go() -> None:
    assert set(MOVES) == set(HoldState)
    assert {state for state, leaves in MOVES.items() if not leaves} == FINISHED


def subclasses(kind: type[BaseException]) -> list[type[BaseException]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


@pytest.mark.parametrize(
    "kind", [item for item in subclasses(errors.ParkgateError) if item.__module__ == errors.__name__]
)
def test_every_error_has_a_status_that_says_whether_to_try_again(kind: type[errors.ParkgateError]) -> None:
    error = kind("subject", ["problem"]) if kind is errors.InvalidInputsError else kind("message")
    status = status_of(error)
    if kind is errors.ParkgateError:
        assert status is INTERNAL
        return
    assert status is not INTERNAL
    assert (status.grpc == "UNAVAILABLE") == isinstance(error, errors.TransientError)
    assert (400 <= status.http < 500) == isinstance(error, errors.CallerError)


def test_what_is_no_error_of_ours_is_internal() -> None:
    for error in (ValueError("x"), errors.InvariantError("x"), KeyError("x")):
        assert status_of(error) is INTERNAL


def test_status_codes_are_codes_of_grpc() -> None:
    import grpc

    for status in (*STATUS.values(), INTERNAL):
        assert hasattr(grpc.StatusCode, status.grpc)


def test_an_invariant_holds_also_without_asserts() -> None:
    errors.invariant(True, "fine")
    with pytest.raises(errors.InvariantError, match="broken"):
        errors.invariant(False, "broken")
