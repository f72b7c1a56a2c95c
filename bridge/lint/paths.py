"""Places in a message that cannot be, or are not in the messages that a mapping is made for.

Senders deviate from the standard, so what only HL7 does not know is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.codecs.groups import Group, structure_of
from bridge.codecs.paths import Path
from bridge.errors import Finding
from bridge.lint import hl7
from bridge.lint.outline import Outline
from bridge.mapping.place import Place
from bridge.yamlfile import suggest

_ADDED = frozenset({"ORC", "OBR", "IPC"})
"""Segments of orders, which senders put into other messages too."""
_SUFFIX = ("OBX", 3, 1)
"""OBX-3.1 may have a suffix (&IMP, &GDT) as a subcomponent of what is no composite (HL7 2.3 7.1.3)."""


def findings(found: Outline) -> Iterator[Finding]:
    messages = found.messages
    for use in found.uses:
        yield from of_path(use.path, use.place, () if use.made else messages)
    for name, place in found.anchors:
        yield from _segment(name, place, messages)


def of_path(path: Path, place: Place, messages: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with a path into messages of these types; without types, into any message."""
    wrong = list(_segment(path.segment, place, messages)) or list(_group(path, place, messages))
    yield from wrong or _field(path, place)


def _segment(name: str, place: Place, messages: Sequence[str]) -> Iterator[Finding]:
    if not hl7.has_segment(name):
        what = f"no version of HL7 has a segment {name}"
        yield place.finding(what, suggest(name, hl7.segment_names()) or "segments of one's own begin with Z", "warning")
        return
    if hl7.is_local(name) or name in _ADDED or not messages:
        return
    known = [hl7.structure(one) for one in messages]
    if all(known) and not any(name in one for one in known):
        near = suggest(name, sorted(set().union(*known)))
        fix = near if near.startswith("did") else "correct `messages:` or the path"
        yield place.finding(f"{', '.join(messages)} has no {name}", fix, "warning")


def _group(path: Path, place: Place, messages: Sequence[str]) -> Iterator[Finding]:
    """Groups are found by the structures of :mod:`bridge.codecs.groups` alone: one that none has is never there."""
    if not path.groups or not messages:
        return
    structures = [structure_of(code, event) for code, _, event in (one.partition("^") for one in messages)]
    for name, _ in path.groups:
        if not any(structure and name in set(_group_names(structure)) for structure in structures):
            known = {one for structure in structures if structure for one in _group_names(structure)}
            yield place.finding(f"{', '.join(messages)} has no group {name}", suggest(name, known))
            return


def _group_names(group: Group) -> Iterator[str]:
    for inner in group.groups:
        yield inner.name
        yield from _group_names(inner)


def _field(path: Path, place: Place) -> Iterator[Finding]:
    field = f"{path.segment}-{path.field}"
    if not hl7.has_field(path.segment, path.field):
        fix = f"{path.segment} ends with {path.segment}-{hl7.last_field(path.segment)}"
        yield place.finding(f"no version of HL7 has {field}", fix, "warning")
    elif (path.segment, path.field, path.component) != _SUFFIX and not hl7.exists(path):
        whole = Path(field, path.segment, None, path.field, None, 0, 0)
        if path.subcomponent and hl7.exists(_without_subcomponent(path)):
            whole, count = _without_subcomponent(path), "subcomponent"
        else:
            count = "component"
        last, kind = hl7.parts(whole), hl7.type_name(whole)
        fix = f"{whole.text} ({kind}) has {last} {count}{'s' if last > 1 else ''}"
        yield place.finding(f"no version of HL7 has {path.text}", fix, "warning")


def _without_subcomponent(path: Path) -> Path:
    text = f"{path.segment}-{path.field}.{path.component}"
    return Path(text, path.segment, None, path.field, None, path.component, 0)
