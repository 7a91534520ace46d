"""The exception tree of Parkgate, and nothing else.

ParkgateError
├── CallerError            the caller's mistake: never retry the same call
│   ├── InvalidInputError      something given is malformed; says what, where and how to mend it
│   ├── NotFoundError          an id names nothing
│   ├── ConflictError          the same request_id with another body, or a state that does not allow it
│   ├── SoldOutError           not enough units are left
│   └── NotPermittedError      the caller may not do this
├── TransientError         retry the same call with the same id
│   ├── UnavailableError       a part is away; nothing was done
│   ├── UnknownOutcomeError    it may or may not have been done: ask again with the same id
│   └── FencedError            a later owner has taken over
└── DamagedDataError       stored data are not what they must be: stop, alarm, never guess

A refusal of a ticket is none of these: it is a value, a Decision with a Reason.
"""

from __future__ import annotations

from typing import NoReturn


class ParkgateError(Exception):
    """Root of all errors that Parkgate raises on purpose."""


class CallerError(ParkgateError):
    """The caller's mistake: the same call will fail again."""


class InvalidInputError(CallerError):
    """Something given is malformed."""


class InvalidInputsError(InvalidInputError):
    """Several things given are malformed; `problems` names each, in the order of the input."""

    def __init__(self, subject: str, problems: list[str]) -> None:
        self.subject = subject
        self.problems = problems
        count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
        super().__init__(f"{subject}: {count}\n" + "\n".join(f"  - {problem}" for problem in problems))


class NotFoundError(CallerError):
    """An id names nothing."""


class ConflictError(CallerError):
    """A state, or an earlier call with the same id, does not allow it."""


class SoldOutError(CallerError):
    """Not enough units are left."""


class NotPermittedError(CallerError):
    """The caller may not do this."""


class TransientError(ParkgateError):
    """Retry the same call with the same id after `retry_after_ms`."""

    def __init__(self, message: str, retry_after_ms: int = 500) -> None:
        self.retry_after_ms = retry_after_ms
        super().__init__(message)


class UnavailableError(TransientError):
    """A part is away; nothing was done."""


class UnknownOutcomeError(TransientError):
    """It may or may not have been done: ask again with the same id."""


class FencedError(TransientError):
    """A later owner has taken the partition over."""


class DamagedDataError(ParkgateError):
    """Stored data are not what they must be: stop, alarm, never guess."""


class InvariantError(AssertionError):
    """A state that cannot be: the process must die and be rebuilt from the ledger."""


def invariant(holds: bool, message: str) -> None:
    """Raises InvariantError unless `holds`; unlike `assert`, also under `python -O`."""
    if not holds:
        impossible(message)


def impossible(message: str) -> NoReturn:
    """Raises InvariantError."""
    raise InvariantError(message)
