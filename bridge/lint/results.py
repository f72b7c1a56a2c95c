"""What a line can give that its target does not take: constants, defaults and the cells of tables, looked at before any
message comes; and what a target needs that no line gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bridge.errors import Finding, MappingError
from bridge.lint import hl7
from bridge.lint.outline import Line, Outline, texts
from bridge.mapping.place import Findings, Place
from bridge.mapping.tables import Table, Tables

_NOTHING: tuple[Any, ...] = ("", None, [], {})
_SHORT = 16
"""Value representations of at most so many characters are shorter than the numbers that people send."""
_FIXED = ("ID", "IS", "SI", "DT", "TM", "TS", "DTM", "NM")
"""Data types whose values are short."""


class Given(NamedTuple):
    """A value that a line may give, whatever the message says, and where it is written."""

    value: Any
    place: Place
    row: tuple[str, int] | None = None
    """File and line of the table's row."""

    def finding(self, what: str, fix: str) -> Finding:
        if self.row is not None:
            return Finding(*self.row, 1, what, fix, "warning")
        return self.place.finding(what, fix)


def findings(found: Outline, tables: Tables) -> Iterator[Finding]:
    if found.target == "worklist":
        yield from _attributes(found, tables)
    for item, place in found.resources:
        yield from _missing_elements(item, place)
    for line in found.lines:
        if line.role == "element":
            yield from _codes(line, tables)
    for item, place in found.segments:
        yield from _missing_fields(found, item, place)


def given(line: Line, tables: Tables) -> Iterator[Given]:
    """The values of ``line`` that do not come from the message."""
    data, place = line.data, line.place
    if "value" in data:
        yield Given(data["value"], place)
        return
    if "default" in data:
        yield Given(data["default"], place.child("default"))
    unknown = data.get("unknown")
    if isinstance(unknown, dict) and "value" in unknown:
        yield Given(unknown["value"], place.child("unknown"))
    table = tables.get(str(data.get("table", "")))
    if table is not None:
        yield from _cells(line, table)
    elif line.plain and len(line.inputs) == 1:
        for one in line.inputs[0]:
            if one.line is not None:
                yield from given(one.line, tables)


def _cells(line: Line, table: Table) -> Iterator[Given]:
    keys = len(line.inputs) if "as" not in line.data else 1
    column = str(line.data.get("column", (*table.columns[keys:], "")[0]))
    if column in table.columns[keys:]:
        at = table.columns.index(column)
        for number, cells in table.rows:
            yield Given(cells[at], line.place, (table.file, number))


def _attributes(found: Outline, tables: Tables) -> Iterator[Finding]:
    from bridge.mapping.targets.dicom import attribute
    from bridge.mapping.targets.worklist import TYPE_1

    for line in found.lines:
        target = attribute(line.target, line.place, Findings()) if line.role == "attribute" else None
        if target is None:
            continue
        omits = line.data.get("unusable") == "omit" or "fits" in line.data
        for one in given(line, tables):
            try:
                if one.value not in _NOTHING and not (omits and one.row):
                    target.fit(one.value)
            except MappingError as error:
                what = f"`{one.value}` can never be sent: {error.what}"
                yield one.finding(what, error.fix)
        if target.vr in ("AE", "CS", "SH"):
            yield from _too_long(line, line, target.vr)
        if line.target in TYPE_1 and found.data.get("order"):
            yield from _may_be_empty(line)


def _too_long(line: Line, used: Line, vr: str) -> Iterator[Finding]:
    """Free text into a short attribute: it is refused, never cut, where the line does not say what else."""
    rules = ("max", "fits", "pattern", "unusable", "fix")
    if not line.plain or any(word in line.data for word in rules) or len(line.inputs) != 1:
        return
    for one in line.inputs[0]:
        if one.path is not None and not hl7.any_type(one.path, lambda kind: kind in _FIXED):
            what = f"{one.text} may be longer than {_SHORT} characters ({vr}), and refuses the message then"
            yield used.place.finding(what, f"say so with `max: {_SHORT}`, or write `fits:` or `unusable:`", "hint")
            return
        if one.line is not None:
            yield from _too_long(one.line, used, vr)


def _may_be_empty(line: Line) -> Iterator[Finding]:
    """A rule that leaves out a value without which the whole item is refused."""
    data = line.data
    if data.get("required") is True or data.get("default") not in _NOTHING:
        return
    for word, value in (("unusable", "omit"), ("unknown", "empty")):
        if data.get(word) == value:
            what = f"`{word}: {value}` leaves {line.target} empty, which no worklist item may have (type 1)"
            yield line.place.child(word).finding(what, "take it out, or add `default:`", "warning")


def _codes(line: Line, tables: Tables) -> Iterator[Finding]:
    """Codes that are none of the few that FHIR allows an element."""
    from bridge.lint.fhir import allowed

    codes = allowed(line.target)
    for one in given(line, tables) if codes else ():
        if one.value not in _NOTHING and str(one.value) not in codes:
            what = f"`{one.value}` is no code of {line.target}"
            yield one.finding(what, f"one of {', '.join(codes)}")


def _missing_elements(item: dict[str, Any], place: Place) -> Iterator[Finding]:
    from bridge.lint.fhir import required

    written = {str(key).partition(".")[0].partition("[")[0] for key in item.get("set") or ()}
    written |= {"target"} if "about" in item else set()
    for name in required(str(item.get("resource", ""))):
        if name not in written:
            what = f"no line for `{name}`, which every {item['resource']} needs"
            yield place.child("set").finding(what, f"add `{name}:`")


def _missing_fields(found: Outline, item: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Fields that the version of a new message requires in a segment that begins empty."""
    name, version = str(item["segment"]), _version(found)
    if "from" in item or name == "MSH" or not version:
        return
    written = {int(text.partition("-")[2].partition(".")[0] or 0) for text in _targets(item)}
    for number in hl7.required_fields(name, version):
        if number not in written:
            what = f"no line for {name}-{number}, which HL7 {version} requires"
            yield place.child("segment").finding(what, f"add `{name}-{number}:`", "warning")


def _targets(item: dict[str, Any]) -> Iterator[str]:
    for word in ("set", "copy"):
        block = item.get(word)
        yield from (key for key in block if "-" in key) if isinstance(block, dict) else ()


def _version(found: Outline) -> str:
    """The version that a composed message says it has."""
    for item, _ in found.segments:
        said = (item.get("set") or {}).get("MSH-12") or (item.get("set") or {}).get("MSH-12.1")
        if isinstance(said, dict):
            return "".join(texts(said.get("value")))
    return ""
