"""The code tables of HL7's v2-to-FHIR guide, in the form in which its working group keeps them as CSV.

Two rows of headings: groups (``HL7 v2``, ``Condition``, ``HL7 FHIR``), then columns. Code, text and code system of
v2 come first; the second ``Code``, with its display and code system, is FHIR's. Other columns are not the same in all.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field

from bridge.errors import CodecError
from bridge.mapping.tables import Table

_V2_TABLE = re.compile(r"HL7(\d{4})")
_COLUMNS = ("code", "target", "display", "text")


@dataclass(frozen=True, slots=True)
class _Form:
    """Where a file has what."""

    code: int
    text: int
    system: int
    conditions: tuple[int, ...]
    fhir: int
    display: int
    fhir_system: int


@dataclass(slots=True)
class Imported:
    """The table, and what of the file is not in it."""

    table: Table
    left_out: list[str] = field(default_factory=list)


def is_v2_to_fhir(text: str) -> bool:
    """Whether a CSV file is one of these tables."""
    return _form(list(csv.reader(io.StringIO(text)))) is not None


def read_v2_to_fhir(text: str, name: str) -> Imported:
    """The table ``name`` in a file of the guide. Raises CodecError if it has another form.

    A v2 code without a FHIR code is a known key with an empty value. Rows that hold only under a condition, and further
    rows of a code, are left out: a table has one row for each code.
    """
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    form = _form(rows)
    if form is None:
        raise CodecError("no code table of the v2-to-FHIR guide", at=name, fix="give a CSV of mappings/codesystems")
    found = Imported(Table(name, _COLUMNS, []))
    sources, targets, seen = set(), set(), set()
    for line, row in enumerate(rows[2:], start=3):
        cells = [*(cell.strip() for cell in row), *[""] * len(rows[1])]
        code, target = cells[form.code], cells[form.fhir]
        if not code or code in seen or any(cells[at] for at in form.conditions):
            why = "no v2 code" if not code else "a condition" if code not in seen else "a code that has a row already"
            if any(cells):
                found.left_out.append(f"row {line} ({code or target}): {why}")
            continue
        seen.add(code)
        sources.add(cells[form.system])
        display, system = cells[form.display], cells[form.fhir_system]
        if display.startswith("http:") and not system:  # some files have both one column too far to the left
            display, system = cells[form.display - 1], display
        targets |= {system} - {""}
        found.table.rows.append((line, (code, target, display, cells[form.text])))
    if len(sources) == 1 and (match := _V2_TABLE.fullmatch(sources.pop())):
        found.table.source = f"http://terminology.hl7.org/CodeSystem/v2-{match[1]}"
    found.table.target = targets.pop() if len(targets) == 1 else ""
    found.table.description = "Of HL7's v2-to-FHIR guide."
    return found


def _form(rows: list[list[str]]) -> _Form | None:
    names = [name.strip().lower() for name in rows[1]] if len(rows) > 1 else []
    try:
        code, text, system = names.index("code"), names.index("text"), names.index("code system")
        fhir = names.index("code", code + 1)
        display, fhir_system = names.index("display", fhir), names.index("code system", fhir)
    except ValueError:
        return None
    conditions = tuple(at for at, name in enumerate(names[:fhir]) if name.startswith(("computable", "narrative")))
    return _Form(code, text, system, conditions, fhir, display, fhir_system)
