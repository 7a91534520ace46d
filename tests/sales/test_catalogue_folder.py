"""The park's files: the shipped ones are good, and what is wrong in edited ones is told with file and line."""

from pathlib import Path

import pytest

from sales.catalogue_folder import load_folder
from tests.sales.conftest import CATALOGUE
from ticketcore.catalogue_document import canonical_json, read_catalogue
from ticketcore.errors import InvalidInputsError


def folder(tmp_path: Path, **files: str) -> Path:
    for path in CATALOGUE.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text())
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def test_the_shipped_catalogue_is_whole_and_survives_the_journey_as_json() -> None:
    document, catalogue = load_folder(CATALOGUE)
    assert read_catalogue(canonical_json(document)) == catalogue
    assert set(catalogue.concessions) == {"adult", "child", "student", "senior", "group"}
    assert len(catalogue.products) == 8
    assert catalogue.gate_texts["ADMIT"].guest == "Welcome to Lakeside Park!"


def test_a_wrong_value_is_told_with_file_line_and_path(tmp_path: Path) -> None:
    text = (CATALOGUE / "products.toml").read_text().replace('price = "45.00"', "price = 45.0")
    with pytest.raises(InvalidInputsError) as caught:
        load_folder(folder(tmp_path, products=text))
    line = text[: text.index('id = "evening"')].count("\n")
    assert caught.value.problems == [
        f"products.toml, [[products]] in line {line}: products[1].prices[0].price: "
        "is 45.0, expected an amount in quotes, such as '79.00'"
    ]


def test_files_that_cannot_be_read_or_fit_together_are_all_told(tmp_path: Path) -> None:
    place = folder(tmp_path, broken="a = \n", other='format = 1\n[venue]\nid = "x"\n')
    (place / "latin.toml").write_bytes(b"# one\n# \xe9\n")
    with pytest.raises(InvalidInputsError) as caught:
        load_folder(place)
    broken, latin, one, two = caught.value.problems
    assert broken.startswith("broken.toml: Invalid value (at line 1, column 5)")
    assert latin == "latin.toml, line 2: is not UTF-8 text"
    assert (one, two) == (
        "park.toml: 'format' is given in another file too",
        "park.toml: 'venue.id' is given in another file too",
    )


def test_a_folder_without_files_or_that_is_none_is_told(tmp_path: Path) -> None:
    for place, words in ((tmp_path, r"holds no \*\.toml file"), (tmp_path / "nowhere", "this is no folder")):
        with pytest.raises(InvalidInputsError, match=words):
            load_folder(place)
