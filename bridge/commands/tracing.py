"""What ``map --trace`` shows: for each value where it comes from, and the line that says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bridge.commands import output

if TYPE_CHECKING:
    from bridge.mapping.watch import Traced

_SHOWN = 120
"""Characters of a value that are shown to people; programs get all of it."""


def trace_facts(values: Iterable[Traced]) -> list[dict[str, Any]]:
    """The same for a program, values in whole."""
    return [{**asdict(one), "file": f"mappings/{one.file}", "rows": _rows(one)} for one in values]


def _rows(one: Traced) -> list[dict[str, Any]]:
    return [{"table": f"mappings/{row.table}", "line": row.line or None} for row in one.rows]


def show_trace(values: list[Traced]) -> None:
    """One table for each file, its lines in the sequence in which they are read. A line that gave nothing says so."""
    for file in dict.fromkeys(one.file for one in values):
        mine = [one for one in values if one.file == file]
        several = any(set(one.number) - set("1.") for one in mine)
        output.say(f"mappings/{file}", style="bold")
        columns = ("line", *(("of",) if several else ()), "target", "value", "from", "by")
        output.table(columns, [_row(one, several) for one in mine])
        output.say()


def _row(one: Traced, several: bool) -> tuple[str, ...]:
    number = (one.number,) if several else ()
    value = f"refused: {one.refused}" if one.refused else _text(one.value)
    return (str(one.line), *number, one.target, value or "-", _sources(one), _ways(one))


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else "" if value in (None, {}) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    text = output.printable(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _sources(one: Traced) -> str:
    """``IPC-1.1 empty, OBR-18.1``: what was tried in front of what was taken."""
    return ", ".join(
        tried.source if tried.taken else f"{tried.source} {'does not fit' if tried.value else 'empty'}"
        for tried in one.tried
    )


def _ways(one: Traced) -> str:
    rows = dict.fromkeys(f"{row.table}:{row.line}" if row.line else f"no row in {row.table}" for row in one.rows)
    rule = {"when": "its condition does not hold"}.get(one.rule, one.rule)
    return ", ".join(part for part in (one.function, *rows, rule) if part)
