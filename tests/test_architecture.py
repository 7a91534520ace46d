"""The shape of the code: promises that are tests, packages that keep apart, functions and files of a size to read."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ticketcore", "cluster", "sales", "gateclient", "reporting", "loadtest", "ops")
PROMISES = [f"I{number}" for number in range(1, 11)]
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 500
LONG_FUNCTIONS: dict[str, str] = {
    "ops/commands/gate.py:run": "a command of typer: most of its lines are its options, each with its help",
}
"""`file:function` -> why it is longer than a function should be."""
LONG_FILES: dict[str, str] = {}
"""file -> why it is longer than a file should be."""
WORDS = """
product|concession|order|order line|hold|ticket|token|medium|slot|quota|capacity|occupancy|gate|lane|turnstile|reader
barrier|scan|verdict|entitlement|admission|passage|anti-passback|override|revoked|blocked|cancelled|refunded|voided
partition|owner|epoch|ledger|journal|posting|correction|shift|shift close|settlement|reconciliation|difference
"""
"""The words of the field, the same in protocols, code, tables, metrics and on screen."""
CONTRACTS = {
    "The core imports nothing of ours and does no I/O": ("forbidden", "ticketcore"),
    "Generated protocol code imports nothing of ours": ("forbidden", "parkgate"),
    "The services speak protobuf, never Python, to each other": ("independence", "cluster"),
    "Services know nothing of the composition root or the load tests": ("forbidden", "sales"),
    "The composition root does not import load tests": ("forbidden", "ops"),
    "The rehearsal stands outside: it uses what a customer has": ("forbidden", "loadtest.surge"),
    "Locust is the rehearsal's alone": ("forbidden", "sales"),
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "versions" not in path.parts)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@functools.cache
def promises_named() -> dict[str, set[str]]:
    """Promise -> tests that name it in their docstring or name."""
    found: dict[str, set[str]] = {promise: set() for promise in PROMISES}
    for path in sources("tests"):
        for function in functions(path):
            if function.name.startswith("test_"):
                named = f"{function.name} {ast.get_docstring(function) or ''}"
                for promise in re.findall(r"\bI(?:10|[1-9])\b", named):
                    found[promise].add(f"{path.stem}:{function.name}")
    return found


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_named_by_a_test(promise: str) -> None:
    assert promises_named()[promise], f"no test names {promise}: see section 1 of the design"


def test_functions_and_files_are_of_a_size_to_read() -> None:
    long: list[str] = []
    for path in sources(*PACKAGES):
        name = str(path.relative_to(ROOT))
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES and name not in LONG_FILES:
            long.append(f"{name} has {lines} lines, at most {MAX_FILE_LINES}")
        for function in functions(path):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES and f"{name}:{function.name}" not in LONG_FUNCTIONS:
                long.append(f"{name}:{function.name} has {lines} lines, at most {MAX_FUNCTION_LINES}")
    assert not long, "\n".join(long)


def test_exceptions_from_the_sizes_are_still_needed() -> None:
    for name in LONG_FILES:
        assert len((ROOT / name).read_text().splitlines()) > MAX_FILE_LINES
    for name in LONG_FUNCTIONS:
        path, function = name.split(":")
        assert function in {node.name for node in functions(ROOT / path)}


def test_every_module_says_what_lives_there() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, f"a module begins with its docstring: {silent}"


def test_the_import_rules_are_all_there() -> None:
    """They are checked by `make check`; here is only that none was dropped to make something pass."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    kept = {
        item["name"]: (item["type"], [*item.get("source_modules", []), *item.get("modules", [])]) for item in contracts
    }
    for name, (kind, package) in CONTRACTS.items():
        assert kept[name][0] == kind
        assert package in kept[name][1]
        assert not next(item for item in contracts if item["name"] == name).get("ignore_imports")
    independent = kept["The services speak protobuf, never Python, to each other"][1]
    assert set(independent) == {"cluster", "sales", "gateclient", "reporting"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sources("ticketcore"), ids=lambda path: path.stem)
def test_the_core_asks_neither_clock_nor_chance_nor_environment(path: Path) -> None:
    """`now` and new ids are arguments, so that the same input gives the same output."""
    forbidden = {"time", "random", "secrets", "uuid", "os", "sys", "pathlib", "socket", "asyncio", "threading"}
    assert not {name.split(".")[0] for name in imported(path)} & forbidden
    assert not re.search(r"\.(now|today|utcnow)\(", path.read_text())


def test_no_error_is_swallowed() -> None:
    """No bare except, and none of everything that does nothing."""
    swallowed: list[str] = []
    for path in sources(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                broad = isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
                silent = all(isinstance(item, ast.Pass | ast.Continue) for item in node.body)
                if node.type is None or (broad and silent):
                    swallowed.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not swallowed


def test_warnings_are_errors_in_tests() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"


def test_every_word_of_the_glossary_has_one_sentence() -> None:
    rows = re.findall(r"^\*\*(.+?)\*\* — (.+)$", (ROOT / "ticketcore" / "GLOSSARY.md").read_text(), re.MULTILINE)
    words = [word for word, _ in rows]
    assert len(words) == len(set(words))
    for word, sentence in rows:
        assert sentence.endswith("."), word
    assert set(re.split(r"[|\n]", WORDS.strip())) <= set(words)
