"""The table of what goes wrong with HL7 v2 is never stale: what it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from bridge.ports import channel_type, channel_type_names
from tests.rigs.need import REPOSITORY

TABLE = REPOSITORY / "docs" / "hl7.md"
QUOTED = re.compile(r"`([^`]+)`")
COLUMNS = ["problem", "what Radbridge does", "where", "which test"]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table that has the four columns."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells == COLUMNS:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            found.append(cells)
    return found


def existing_tests() -> set[str]:
    return {
        node.name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def missing(row: list[str], tests: set[str]) -> Iterator[str]:
    """What is wrong with one row."""
    if len(row) != len(COLUMNS):
        yield f"{len(row)} columns"
        return
    _, does, where, which = row
    files, names = QUOTED.findall(where), QUOTED.findall(which)
    if not files or not names:
        yield "names no file, or no test"
    yield from (f"no file {name}" for name in files if not (REPOSITORY / name).is_file())
    yield from (f"no test {name}" for name in names if name not in tests)
    settings = (name for name in QUOTED.findall(does) if name.partition(".")[0] in channel_type_names())
    yield from (f"no setting {name}" for name in settings if not is_setting(name))


def is_setting(name: str) -> bool:
    """``mllp-out.retry.repeats``: a channel type, a setting of it, settings of that."""
    kind, *path = name.split(".")
    model: type[BaseModel] | None = channel_type(kind).settings
    for part in path:
        if model is None or part not in model.model_fields:
            return False
        inner = model.model_fields[part].annotation
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return bool(path)


def test_every_file_setting_and_test_that_the_table_names_exists() -> None:
    tests = existing_tests()
    table = rows(TABLE.read_text(encoding="utf-8"))
    wrong = {row[0]: problems for row in table if (problems := list(missing(row, tests)))}

    assert len(table) > 40
    assert wrong == {}


@pytest.mark.parametrize(
    "row",
    [
        ["a", "b", "`bridge/no_such_file.py`", "`test_there`"],
        ["a", "b", "`bridge/errors.py`", "`test_gone`"],
        ["a", "see `mllp-in.no_such_setting`", "`bridge/errors.py`", "`test_there`"],
        ["a", "see `mllp-out.retry.no_such_setting`", "`bridge/errors.py`", "`test_there`"],
        ["a", "b", "", "`test_there`"],
        ["a", "b", "`bridge/errors.py`"],
    ],
)
def test_the_guard_sees_what_it_is_there_for(row: list[str]) -> None:
    assert list(missing(row, {"test_there"}))


def test_the_guard_lets_pass_what_exists() -> None:
    row = ["a", "by `mllp-out.retry.repeats` and ``", "`bridge/errors.py`", "`test_there`"]

    assert list(missing(row, {"test_there"})) == []
