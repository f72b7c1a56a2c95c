"""Tables and mappings that nothing uses, and lookups that do not say what an unknown code means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bridge.errors import Finding
from bridge.lint.outline import Outline
from bridge.mapping.tables import ANY, Tables

_SAYS = re.compile(r"(?:#[^\n]*\n)*#\s*unknown:|\s*\{.*\"unmapped\"", re.DOTALL)
"""A table that says itself what a code without a row means: a CSV's remarks, or a ConceptMap."""


def findings(
    found: Sequence[Outline], tables: Tables, files: Mapping[str, str], used: Iterable[str]
) -> Iterator[Finding]:
    """``used`` are mappings that the site's routes and channels name."""
    yield from _tables(found, tables)
    yield from _lookups(found, tables, files)
    yield from _mappings(found, files, set(used))


def _tables(found: Sequence[Outline], tables: Tables) -> Iterator[Finding]:
    used = {name for one in found for name in one.tables}
    for name, table in tables.items():
        if name not in used:
            fix = "remove it, or look it up with `table:`"
            yield Finding(table.file, 1, 1, f"no mapping uses the table `{name}`", fix, "warning")


def _lookups(found: Sequence[Outline], tables: Tables, files: Mapping[str, str]) -> Iterator[Finding]:
    decided = {name for name, table in tables.items() if _SAYS.match(files.get(table.file, ""))}
    for line in (line for one in found for line in one.lines):
        table = tables.get(str(line.data.get("table")))
        if table is None or table.name in decided or any(word in line.data for word in ("unknown", "fix")):
            continue
        name, keys = table.name, len(line.inputs)
        if not any(set(cells[:keys]) == {ANY} for _, cells in table.rows):
            what = f"a code that `{name}` does not have refuses the message"
            fix = "say so with `unknown: refuse`, or write park, pass, empty or {value: ...}"
            yield line.place.child("table").finding(what, fix, "hint")


def _mappings(found: Sequence[Outline], files: Mapping[str, str], used: set[str]) -> Iterator[Finding]:
    """Mappings that no route sends anything through, no other one is made of, and no case tries."""
    tried = {name.removesuffix(".cases.yaml") for name in files if name.endswith(".cases.yaml")}
    tried |= {name for one in files if one.endswith(".cases.yaml") for name in _named_in(files[one])}
    steps = {name for one in found for name in (*one.steps, *one.others)}
    for one in found:
        if "profile" not in one.data and one.name not in used | tried | steps:
            what = f"nothing uses the mapping `{one.name}`, and no case tries it"
            yield one.place.finding(what, "name it in a route, write cases, or remove it", "hint")


def _named_in(cases: str) -> list[str]:
    return re.findall(r"^\s*(?:- )?mapping:\s*(\S+)\s*$", cases, re.MULTILINE)
