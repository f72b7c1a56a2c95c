"""Looking values up in tables: ``table:``, ``column:`` and, for values that have no row, ``unknown:``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bridge.errors import MappingError, Parked
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Scope
from bridge.mapping.tables import Table
from bridge.yamlfile import suggest

if TYPE_CHECKING:
    from bridge.mapping.sources import Source

POLICIES = ("refuse", "park", "pass", "empty")
_PERSONAL = frozenset({"PID", "PD1", "NK1", "MRG", "GT1", "IN1", "IN2", "IN3"})
_SHOWN = 24


def compile_lookup(
    data: dict[str, Any], place: Place, names: Names, source: Source, *, several: bool
) -> Callable[[Scope, Any], Any]:
    """The change from key to value. ``several``: the keys come as a list, one for each of the first columns."""
    name, findings = str(data["table"]), names.findings
    table = names.tables.get(name)
    if table is None:
        findings.report(place.child("table"), f"unknown table `{name}`", suggest(name, names.tables))
        return lambda scope, value: value
    keys = len(data["from"]) if several else 1
    column = _column(data, table, keys, place, names)
    for line, first in table.duplicates(keys):
        findings.report(place.child("table"), f"line {line} of table `{table.name}` repeats the keys of line {first}")
    miss = _policy(data.get("unknown", "refuse"), place.child("unknown"), names, table, source)
    find = table.find

    def one(scope: Scope, key: tuple[str, ...]) -> Any:
        if not any(key):
            return ""
        row = find(key)
        return row[column] if row is not None else miss(scope, key)

    if several:
        return lambda scope, value: one(scope, tuple(value))
    return lambda scope, value: (
        [found for text in value if (found := one(scope, (str(text),)))]
        if isinstance(value, list)
        else one(scope, (str(value),))
    )


def _column(data: dict[str, Any], table: Table, keys: int, place: Place, names: Names) -> str:
    values = table.columns[keys:]
    if not values:
        what = f"table `{table.name}` has {len(table.columns)} columns, too few for {keys} keys and a value"
        names.findings.report(place.child("table"), what)
        return table.columns[0]
    column = str(data.get("column", values[0]))
    if column not in values:
        what = f"table `{table.name}` has no value column `{column}`"
        names.findings.report(place.child("column"), what, suggest(column, values))
        return values[0]
    return column


def _policy(
    given: Any, place: Place, names: Names, table: Table, source: Source
) -> Callable[[Scope, tuple[str, ...]], Any]:
    """What happens to a key that has no row."""
    if isinstance(given, dict) and list(given) == ["value"]:
        default = given["value"]
        return lambda scope, key: _noted(scope, source, table, default, f"`{default}` taken instead")
    if given == "pass":
        return lambda scope, key: _noted(scope, source, table, key[0], "the value passed as it is")
    if given == "empty":
        return lambda scope, key: _noted(scope, source, table, "", "left empty")
    if given not in POLICIES:
        fix = suggest(str(given), POLICIES) or "refuse, park, pass, empty, or {value: ...}"
        names.findings.report(place, f"`unknown` cannot be `{given}`", fix)
    kind = Parked if given == "park" else MappingError

    def refuse(scope: Scope, key: tuple[str, ...]) -> Any:
        fix = source.fix or f"add a row to tables/{table.name}.csv"
        what = f"table {table.name} has no row for {_shown(scope, source, key)}"
        raise kind(what, at=source.where(scope), fix=fix, kind="code")

    return refuse


def _noted(scope: Scope, source: Source, table: Table, value: Any, what: str) -> Any:
    scope.note(f"table {table.name} has no row for the value at {source.where(scope)}: {what}")
    return value


def _shown(scope: Scope, source: Source, key: tuple[str, ...]) -> str:
    """The key as an error may show it: never from a patient's own segments, nor what is too long for a code."""
    paths = source.paths(scope)
    if any(path.segment in _PERSONAL for _, path in paths) or any(len(part) > _SHOWN for part in key):
        return "this value"
    return ", ".join(f"`{part}`" for part in key)
