"""What of a line can never count, and names and tables that nothing uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bridge.codecs.paths import Path
from bridge.errors import Finding
from bridge.lint.outline import Alternative, Line, Outline
from bridge.mapping.refs import INDEX

_NOTHING: tuple[Any, ...] = ("", None, [], {})


def findings(found: Outline) -> Iterator[Finding]:
    for line in found.lines:
        for alternatives in line.inputs:
            yield from _unreachable(line, alternatives)
        if line.data.get("required") is True and line.data.get("default") not in _NOTHING:
            what = "`required` never counts: `default` gives a value"
            yield line.place.child("required").finding(what, "keep one of the two", "warning")
        if line.role == "name" and id(line) not in found.used:
            what = f"nothing uses `${line.target}`"
            yield line.place.finding(what, "take the line out, or use it", "warning")


def _unreachable(line: Line, alternatives: Sequence[Alternative]) -> Iterator[Finding]:
    """Alternatives that stand after one that always gives, or that gives whatever they could."""
    fits = "fits" in line.data
    for at, one in enumerate(alternatives):
        for before in alternatives[:at]:
            if before.text == one.text:
                yield one.place.finding(f"`{one.text}` is there twice", "take one of them out", "warning")
            elif not fits and always(before):
                what = f"`{one.text}` is never read: `{before.text}` always gives a value"
                yield one.place.finding(what, f"write it before `{before.text}`, or take it out", "warning")
            elif not fits and before.path and one.path and _covers(before.path, one.path):
                what = f"`{one.text}` is never read: `{before.text}` holds something whenever it does"
                yield one.place.finding(what, f"write it before `{before.text}`, or take it out", "warning")
            else:
                continue
            break


def always(one: Alternative) -> bool:
    """Whether an alternative gives a value in every message, or refuses the message."""
    if one.text == f"${INDEX}":
        return True
    return one.line is not None and _gives(one.line)


def _gives(line: Line) -> bool:
    data = line.data
    if "when" in data or "unusable" in data:
        return False
    if data.get("value", "") not in _NOTHING or data.get("default") not in _NOTHING:
        return True
    if data.get("required") is True:
        return True
    return line.plain and bool(line.inputs) and any(always(one) for one in line.inputs[0])


def _covers(whole: Path, part: Path) -> bool:
    """Whether the first place holds something whenever the second one does: a field and its component, say."""
    same = (whole.segment, whole.occurrence, whole.field, whole.groups) == (
        part.segment, part.occurrence, part.field, part.groups,
    )  # fmt: skip
    if not same or whole.repetition != part.repetition or whole.component not in (0, part.component):
        return False
    inside = (part.component, part.subcomponent) > (whole.component, whole.subcomponent)
    return inside and whole.subcomponent == 0
