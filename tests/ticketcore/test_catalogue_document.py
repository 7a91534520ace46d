"""The one reader of the catalogue's format: every problem at once, each with its path and what was expected."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ticketcore.park import document, park
from ticketcore.catalogue_document import canonical_json, parse_catalogue, read_catalogue
from ticketcore.errors import InvalidInputError, InvalidInputsError

Spoil = Callable[[dict[str, Any]], object]


def test_a_document_survives_the_journey_as_canonical_json() -> None:
    data = canonical_json(document())
    assert read_catalogue(data) == park()
    assert canonical_json(json.loads(data)) == data


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda d: d["products"][0].pop("name"), "products[0].name: is missing"),
        (lambda d: d["products"][0].update(nmae="x"), "products[0].nmae: is not known here; did you mean 'name'?"),
        (lambda d: d.update(produkts=[]), "produkts: is not known here; did you mean 'products'?"),
        (lambda d: d["products"][1].update(number=1), "products: number 1 is given twice"),
        (lambda d: d["gates"][0].update(zone="prak"), "gates[0].zone: names 'prak', which does not exist; did you"),
        (lambda d: d["products"][2].update(slot_schedule="sow"), "products[2].slot_schedule: names 'sow'"),
        (lambda d: d["products"][0].update(refund_policy="none"), "products[0].refund_policy: names 'none'"),
        (lambda d: d["products"][0]["prices"][1].update(price="79,00"), "products[0].prices[1].price: '79,00' is no"),
        (lambda d: d["products"][0]["prices"][1].update(price="-1.00"), "products[0].prices[1].price: is '-1.00'"),
        (lambda d: d["products"][0].update(opens="4pm"), "products[0].opens: is '4pm', expected a time of day such"),
        (lambda d: d["products"][0].update(opens="24:01"), "products[0].opens: is '24:01'"),
        (lambda d: d["products"][0].update(blackout_dates=["24.12."]), "products[0].blackout_dates: is '24.12.'"),
        (lambda d: d["products"][2].update(valid_days=2), "products[2].valid_days: must be 1 with a 'slot_schedule'"),
        (lambda d: d["venue"].update(time_zone="Zurich"), "venue.time_zone: is 'Zurich', expected an IANA"),
        (lambda d: d["venue"].update(currency="francs"), "venue.currency: is 'francs', expected three capital"),
        (lambda d: d["schedules"][0]["slots"][0].update(ends="19:00"), "schedules[0].slots[0].ends: is not after"),
        (lambda d: d.update(gates={}), "gates: is {}, expected a list of tables, written as [[gates]]"),
        (lambda d: d.update(texts={"en": {"ALREADY_USE": {}}}), "texts.en.ALREADY_USE: names 'ALREADY_USE'"),
        (lambda d: d["zones"][0].update(capacity=True), "zones[0].capacity: is True, expected a whole number"),
    ],
)
def test_a_fault_is_told_with_its_path_and_what_was_expected(spoil: Spoil, problem: str) -> None:
    spoiled = document()
    spoil(spoiled)
    with pytest.raises(InvalidInputsError) as caught:
        parse_catalogue(spoiled)
    assert any(found.startswith(problem) for found in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [("number", 1, 65535), ("persons", 1, 64), ("entries", 0, 63), ("valid_days", 1, 512)],
)
def test_numbers_are_taken_up_to_their_bounds_and_no_further(key: str, low: int, high: int) -> None:
    for number, good in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
        spoiled = document()
        spoiled["products"][1].update({key: number})
        spoiled["products"][1]["prices"] = spoiled["products"][1]["prices"][:1]
        if key == "number" and number == 1:
            spoiled["products"][0]["number"] = 9
        if good:
            assert parse_catalogue(spoiled)
        else:
            with pytest.raises(InvalidInputsError, match=rf"products\[1\]\.{key}: is {number}, expected"):
                parse_catalogue(spoiled)


def test_all_problems_are_told_at_once() -> None:
    spoiled = document()
    spoiled["venue"].pop("name")
    spoiled["zones"][0]["number"] = 0
    spoiled["products"][2]["prices"][0]["concession"] = "adlut"
    with pytest.raises(InvalidInputsError) as caught:
        parse_catalogue(spoiled)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "venue.name",
        "zones[0].number",
        "products[2].prices[0].concession",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(document())), inner, max_size=3),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw loads tables; the rest take microseconds
@given(st.dictionaries(st.sampled_from(list(document())), JSON))
def test_whatever_stands_in_a_document_the_reader_answers_with_problems(spoiled: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputsError):
        parse_catalogue(document() | spoiled | {"extra": 1})


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{", b"[" * 100_000])
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_catalogue(data)


def test_a_float_never_becomes_part_of_a_catalogue() -> None:
    with pytest.raises(InvalidInputError, match="write amounts in quotes"):
        canonical_json({"price": 1.5})
