"""Repetition scopes: ``each:`` splits a message into orders, steps, observations..."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from bridge.codecs.hl7v2 import View
from bridge.mapping.place import Place
from bridge.mapping.refs import Names, compile_ref

_ANCHOR = re.compile(r"[A-Z][A-Z0-9]{2}|[A-Z][A-Za-z0-9]+Sequence")
Key = tuple[int, ...]
Split = Callable[[View, str], list[View]]


def compile_anchors(data: Any, place: Place, names: Names) -> tuple[str, ...]:
    """``each: OBX`` or, nested from the outside in, ``each: [OBR, OBX]``; a sequence of DICOM, a path of FHIR."""
    anchors = data if isinstance(data, list) else [data]
    for anchor in anchors:
        if names.source == "fhir":
            compile_ref(str(anchor), place, names)
        elif not isinstance(anchor, str) or not _ANCHOR.fullmatch(anchor):
            names.findings.report(
                place, f"`{anchor}` is no segment", "write the segment or sequence that each one starts with"
            )
    return tuple(str(anchor) for anchor in anchors)


def slices(
    view: View, anchors: tuple[str, ...], *, whole: bool, key: Key = (), split: Split | None = None
) -> Iterator[tuple[Key, View]]:
    """The innermost slices, each with its number (from 0) at every depth.

    A level whose anchor is absent is the view itself; at the innermost level only if ``whole``. ``split`` is for those
    who ask for the same slices again and again (:meth:`bridge.mapping.scope.Scope.split`).
    """
    if not anchors:
        yield key, view
        return
    first, *rest = anchors
    found = split(view, first) if split else view.split(first)
    if not found and (rest or whole):
        found = [view]
    for number, one in enumerate(found):
        yield from slices(one, tuple(rest), whole=whole, key=(*key, number), split=split)
