"""Repetition scopes: ``each:`` splits a message into orders, steps, observations..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bridge.codecs.hl7v2 import View
from bridge.mapping.place import Place
from bridge.mapping.refs import Names

_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")
Key = tuple[int, ...]


def compile_anchors(data: Any, place: Place, names: Names) -> tuple[str, ...]:
    """``each: OBX`` or, nested from the outside in, ``each: [OBR, OBX]``."""
    anchors = data if isinstance(data, list) else [data]
    for anchor in anchors:
        if not isinstance(anchor, str) or not _SEGMENT.fullmatch(anchor):
            names.findings.report(place, f"`{anchor}` is no segment", "write the segment that each one starts with")
    return tuple(str(anchor) for anchor in anchors)


def slices(view: View, anchors: tuple[str, ...], *, whole: bool, key: Key = ()) -> Iterator[tuple[Key, View]]:
    """The innermost slices, each with its number (from 0) at every depth.

    A level whose anchor is absent is the view itself; at the innermost level only if ``whole``.
    """
    if not anchors:
        yield key, view
        return
    first, *rest = anchors
    found = view.split(first)
    if not found and (rest or whole):
        found = [view]
    for number, one in enumerate(found):
        yield from slices(one, tuple(rest), whole=whole, key=(*key, number))
