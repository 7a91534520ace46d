"""Which seeds a run of `make chaos` has, and that it says so."""

from __future__ import annotations

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos.seeds import STRETCH, Seeds


def test_without_a_number_a_run_has_the_seeds_that_it_always_had() -> None:
    assert Seeds.read("") == Seeds.read("1") == Seeds()
    assert (Seeds().first, Seeds().some(3)) == (1, range(1, 4))


def test_runs_with_two_numbers_have_no_seed_in_common() -> None:
    second, third = Seeds.read("2"), Seeds.read("3")
    assert Seeds().some(STRETCH)[-1] + 1 == second.first
    assert second.some(STRETCH)[-1] + 1 == third.first
    assert str(third) == "SEED=3"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "\u0663"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"SEED: is .*, expected a whole number from 1 on"):
        Seeds.read(text)


def test_a_run_with_what_is_no_number_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEED", "many")
    monkeypatch.setattr(chaos, "Record", None)
    assert chaos.main() == 2
    assert capsys.readouterr() == ("", "SEED: is 'many', expected a whole number from 1 on\n")
