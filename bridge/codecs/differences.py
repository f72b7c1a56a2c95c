"""In which fields two renderings of one message differ: names only, no values."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from bridge.codecs.hl7v2 import Hl7Message, parse

_JSON = ("fhir", "worklist")


def differing_fields(format: str, before: bytes, after: bytes) -> list[str]:
    """``OBR-24``, ``NTE added``, ``DiagnosticReport.status``, ``PatientName``: sorted, each once; none for equal bytes.

    ``format`` is what a mapping's ``target`` says: hl7v2, fhir, worklist, or anything else, of which nothing is known.
    Both have to be readable as that.
    """
    if before == after:
        return []
    if format == "hl7v2":
        found = _segments(parse(before), parse(after))
    elif format in _JSON:
        old, new = (dict(_leaves(json.loads(data))) for data in (before, after))
        found = {_label(path) for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    else:
        found = {"the content"}
    return sorted(found) or ["the form, not a value"]


def _segments(before: Hl7Message, after: Hl7Message) -> set[str]:
    """The k-th segment of a name is compared with the k-th."""
    old, new = _by_name(before), _by_name(after)
    found = {f"{name} added" for name, _ in new.keys() - old.keys()}
    found |= {f"{name} removed" for name, _ in old.keys() - new.keys()}
    for key in old.keys() & new.keys():
        mine, theirs = old[key], new[key]
        longest = max(len(mine), len(theirs))
        padded = (fields + [b""] * (longest - len(fields)) for fields in (mine, theirs))
        found |= {f"{key[0]}-{at}" for at, (one, other) in enumerate(zip(*padded, strict=True)) if one != other}
    return found


def _by_name(message: Hl7Message) -> dict[tuple[str, int], list[bytes]]:
    """(name, which of that name) -> its fields by their numbers; at 0 is the name."""
    seen: Counter[str] = Counter()
    found: dict[tuple[str, int], list[bytes]] = {}
    for number, name in enumerate(message.names):
        fields = list(message.fields(number))
        if name == "MSH":
            fields.insert(1, b"")
        found[name, seen[name]] = fields
        seen[name] += 1
    return found


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("resourceType"), str):
            path = (*path, f"={value['resourceType']}")
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for at, inner in enumerate(value) for leaf in _leaves(inner, (*path, at))]
    return [(path, value)]


def _label(path: tuple[str | int, ...]) -> str:
    """The names on the way, from the resource or the attributes on."""
    names = [part for part in path if isinstance(part, str)]
    for at in reversed(range(len(names))):
        if names[at].startswith("="):
            return ".".join([names[at][1:], *names[at + 1 :]])
        if names[at] == "attributes" and at + 1 < len(names):
            return ".".join(names[at + 1 :])
    return ".".join(names)
