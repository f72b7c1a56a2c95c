"""What both forms of the ``hl7v2`` target are written with: segments, paths, and lists and mappings of them."""

from __future__ import annotations

import re
from typing import Any

from bridge.codecs.paths import Path, compile_path
from bridge.errors import CodecError
from bridge.mapping.place import Place
from bridge.mapping.refs import Names

SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")


def pairs(item: dict[str, Any], word: str, place: Place, names: Names) -> list[tuple[str, Any, Place]]:
    """The entries of ``set:``, ``copy:`` and the like, each with where it is written."""
    given = item.get(word) or {}
    if not isinstance(given, dict):
        names.findings.report(place.child(word), f"`{word}` is a mapping of paths", "for example {OBR-18.1: IPC-1.1}")
        return []
    return [(str(target), value, place.child(word, target)) for target, value in given.items()]


def listed(item: dict[str, Any], word: str, place: Place) -> list[tuple[str, Place]]:
    """The entries of ``remove:`` and the like: a list, or one alone."""
    given = item.get(word) or []
    if not isinstance(given, list):
        given = [given]
    return [(str(one), place.child(word, at)) for at, one in enumerate(given)]


def path_at(text: str, place: Place, names: Names) -> Path | None:
    """The path written there; None, and a finding, if it is none."""
    try:
        return compile_path(text)
    except CodecError as error:
        names.findings.report(place, f"`{text}`: {error.what}", error.fix)
        return None
