"""Looking values up in tables: ``table:``, ``column:`` and, for values that have no row, ``unknown:``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bridge.errors import MappingError, Parked
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Scope
from bridge.mapping.tables import POLICIES, Table
from bridge.model import Unmapped
from bridge.yamlfile import suggest

if TYPE_CHECKING:
    from bridge.mapping.sources import Source

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
    miss = _policy(data.get("unknown", table.unknown), place.child("unknown"), names, table, source)
    find = table.finder(keys) if names.watch is None else names.watch.lookups(table, keys)

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
        return _passing(source, table, "replaced", f"`{default}` taken instead", lambda key: default)
    if given == "pass":
        return _passing(source, table, "passed", "the value passed as it is", lambda key: key[0])
    if given == "empty":
        return _passing(source, table, "emptied", "left empty", lambda key: "")
    if given not in POLICIES:
        fix = suggest(str(given), POLICIES) or "refuse, park, pass, empty, or {value: ...}"
        names.findings.report(place, f"`unknown` cannot be `{given}`", fix)
    kind, outcome = (Parked, "parked") if given == "park" else (MappingError, "refused")

    def refuse(scope: Scope, key: tuple[str, ...]) -> Any:
        _count(scope, source, table, key, outcome)
        fix = source.fix or f"add a row to {table.file}"
        shown = ", ".join(f"`{part}`" for part in key) if _may_be_shown(scope, source, key) else "this value"
        raise kind(f"table {table.name} has no row for {shown}", at=source.where(scope), fix=fix, kind="code")

    return refuse


def _passing(
    source: Source, table: Table, outcome: str, what: str, value: Callable[[tuple[str, ...]], Any]
) -> Callable[[Scope, tuple[str, ...]], Any]:
    def take(scope: Scope, key: tuple[str, ...]) -> Any:
        _count(scope, source, table, key, outcome)
        scope.note(f"table {table.name} has no row for the value at {source.where(scope)}: {what}")
        return value(key)

    return take


def _count(scope: Scope, source: Source, table: Table, key: tuple[str, ...], outcome: str) -> None:
    code = "|".join(key) if _may_be_shown(scope, source, key) else ""
    scope.unmapped.append(Unmapped(table.name, ",".join(table.columns[: len(key)]), code, outcome))


def _may_be_shown(scope: Scope, source: Source, key: tuple[str, ...]) -> bool:
    """Whether a key is a code: not of a patient's own segments or attributes, and not longer than codes are."""
    origins = [path.segment for _, path in source.paths(scope)]
    personal = any(origin in _PERSONAL or "Patient" in origin for origin in origins)
    return not personal and all(len(part) <= _SHOWN and part.isprintable() for part in key)
