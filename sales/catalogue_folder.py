"""A folder of TOML files becomes one catalogue document. Faults name the file, and the line where it can be told.

Which file holds what is the park's choice: every `*.toml` of the folder is read, in the order of names; lists of tables
are joined and tables are merged. The same value in two files is a fault, never a silent choice.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import parse_catalogue
from ticketcore.errors import InvalidInputsError

MAX_FILE_BYTES = 4 * 2**20
"""A catalogue of thousands of products is a few hundred kilobytes; more is a file in the wrong folder."""

_LIST_ITEM = re.compile(r"(\w+)\[(\d+)\](.*)", re.DOTALL)


@dataclass
class _Merge:
    document: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    origins: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """For each list of tables, item by item: file and line of its header (0 if unknown)."""


def load_folder(folder: Path) -> tuple[dict[str, Any], Catalogue]:
    """The document in `folder` and the catalogue that it describes.

    Raises:
        InvalidInputsError: with every problem of every file.
    """
    merge = _Merge()
    for path in _files(folder):
        _read(path, merge)
    if merge.problems:
        raise InvalidInputsError(f"catalogue in {folder}", merge.problems)
    try:
        return merge.document, parse_catalogue(merge.document)
    except InvalidInputsError as error:
        located = [_locate(problem, merge) for problem in error.problems]
        raise InvalidInputsError(f"catalogue in {folder}", located) from error


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidInputsError(f"catalogue in {folder}", ["this is no folder; give one that holds *.toml files"])
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise InvalidInputsError(f"catalogue in {folder}", ["the folder holds no *.toml file"])
    return files


def _read(path: Path, merge: _Merge) -> None:
    try:
        data = path.read_bytes()
        if len(data) > MAX_FILE_BYTES:
            merge.problems.append(f"{path.name}: has {len(data)} bytes, more than {MAX_FILE_BYTES}")
            return
        text = data.decode()
        values = tomllib.loads(text)
    except OSError as error:
        merge.problems.append(f"{path.name}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        merge.problems.append(f"{path.name}, line {data[: error.start].count(10) + 1}: is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        merge.problems.append(f"{path.name}: {error}")
    else:
        _merge(path.name, text, values, merge)


def _merge(file: str, text: str, values: dict[str, Any], merge: _Merge) -> None:
    for key, value in values.items():
        present = merge.document.get(key)
        if key not in merge.document:
            merge.document[key] = value
        elif isinstance(present, list) and isinstance(value, list):
            merge.document[key] = present + value
        elif isinstance(present, dict) and isinstance(value, dict):
            merge.document[key] = _merge_tables(file, key, present, value, merge)
        else:
            merge.problems.append(f"{file}: {key!r} is given in another file too")
        if isinstance(value, list):
            lines = [
                number
                for number, line in enumerate(text.splitlines(), 1)
                if re.match(rf"\s*\[\[\s*{re.escape(key)}\s*\]\]", line)
            ]
            lines += [0] * (len(value) - len(lines))
            merge.origins.setdefault(key, []).extend((file, line) for line in lines[: len(value)])


def _merge_tables(file: str, path: str, first: dict[str, Any], second: dict[str, Any], merge: _Merge) -> dict[str, Any]:
    result = dict(first)
    for key, value in second.items():
        if isinstance(result.get(key), dict) and isinstance(value, dict):
            result[key] = _merge_tables(file, f"{path}.{key}", result[key], value, merge)
        elif key in result:
            merge.problems.append(f"{file}: '{path}.{key}' is given in another file too")
        else:
            result[key] = value
    return result


def _locate(problem: str, merge: _Merge) -> str:
    match = _LIST_ITEM.match(problem)
    origins = merge.origins.get(match.group(1), []) if match else []
    if match is None or int(match.group(2)) >= len(origins):
        return problem
    file, line = origins[int(match.group(2))]
    where = f"{file}, [[{match.group(1)}]] in line {line}" if line else file
    return f"{where}: {problem}"
