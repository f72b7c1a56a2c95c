"""Code that fits in a head: no file and no function grows without end."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.rigs.need import REPOSITORY

FILE, FUNCTION = 450, 60

PATHS = sorted(path for folder in ("bridge", "channels") for path in (REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_and_its_functions_are_short(path: Path) -> None:
    code = path.read_text(encoding="utf-8")

    assert code.count("\n") <= FILE
    assert [
        f"{path.name}:{node.lineno} {node.name}: {node.end_lineno - node.lineno} lines"
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno > FUNCTION
    ] == []
