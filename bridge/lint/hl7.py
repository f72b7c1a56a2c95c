"""What HL7 v2 itself says of segments, fields, data types and message structures, versions 2.1 to 2.8.2 (hl7apy's
tables). A version is loaded when it is first asked; 2.5.1 is, because most questions end there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from bridge.codecs.paths import Path

VERSIONS = (
    "2_5_1", "2_3", "2_8_2", "2_4", "2_3_1", "2_6", "2_7", "2_5", "2_2", "2_1", "2_8", "2_8_1",
)  # fmt: skip
_ANYTHING = frozenset({"varies", "WD", "NUL", "-", ""})
"""Data types that say nothing: of OBX-5, of fields that a version has withdrawn."""
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")


@cache
def _version(name: str) -> Any:
    return importlib.import_module(f"hl7apy.v{name}")


def is_local(segment: str) -> bool:
    """Z segments are agreed locally: HL7 says nothing of them."""
    return segment.startswith("Z")


def has_segment(segment: str) -> bool:
    return is_local(segment) or any(segment in _version(name).SEGMENTS for name in VERSIONS)


@cache
def segment_names() -> list[str]:
    """Every segment of version 2.5.1, for suggestions."""
    return [name for name in _version("2_5_1").SEGMENTS if _SEGMENT.fullmatch(name)]


@cache
def last_field(segment: str) -> int:
    """The highest number of a field that any version gives the segment; 0 for one that none has."""
    return max(len(_fields(name, segment)) for name in VERSIONS)


def has_field(segment: str, number: int) -> bool:
    return is_local(segment) or any(number <= len(_fields(name, segment)) for name in VERSIONS)


def _fields(version: str, segment: str) -> Any:
    found = _version(version).SEGMENTS.get(segment)
    return found[1] if found else ()


def _shapes(path: Path) -> Iterator[Any]:
    """What each version has at a path: ``(kind, parts, type, name...)``; None where it has nothing there."""
    for name in VERSIONS:
        fields = _fields(name, path.segment)
        if path.field <= len(fields):
            shape = fields[path.field - 1][1]
            for number in (path.component, path.subcomponent):
                shape = _part(shape, number) if number else shape
            yield shape


def _part(shape: Any, number: int) -> Any:
    if shape is None or shape[2] in _ANYTHING:
        return shape
    if shape[0] == "leaf":
        return shape if number == 1 else None
    return shape[1][number - 1][1] if number <= len(shape[1]) else None


def exists(path: Path) -> bool:
    """Whether a version has the component and subcomponent that a path names."""
    return is_local(path.segment) or any(shape is not None for shape in _shapes(path))


def parts(path: Path) -> int:
    """How many components the field (or subcomponents the component) has at most, over all versions."""
    return max((len(shape[1]) for shape in _shapes(path) if shape is not None and shape[0] == "sequence"), default=1)


def any_type(path: Path, fits: Callable[[str], bool]) -> bool:
    """Whether the data type at a path fits in any version, or is not known."""
    seen = False
    for shape in () if is_local(path.segment) else _shapes(path):
        if shape is not None:
            seen = True
            if shape[2] in _ANYTHING or fits(shape[2]):
                return True
    return not seen


def type_name(path: Path) -> str:
    """The data type as the first version that has it calls it."""
    return next((str(shape[2]).partition("_")[0] for shape in _shapes(path) if shape is not None), "")


def is_composite(path: Path) -> bool:
    """Whether a whole field is of several components in every version that has it."""
    if is_local(path.segment):
        return False
    seen = False
    for shape in _shapes(path):
        if shape is not None and shape[2] not in _ANYTHING:
            seen = True
            if shape[0] == "leaf" or shape[2] == "TS":
                return False
    return seen


def required_fields(segment: str, version: str) -> list[int]:
    """Numbers of the fields that a version (``2.5.1``) requires in a segment."""
    name = version.replace(".", "_")
    if name not in VERSIONS:
        return []
    return [number for number, field in enumerate(_fields(name, segment), start=1) if field[2][0] >= 1]


@cache
def structure(message: str) -> frozenset[str]:
    """The segments that a message type (``ORM^O01``, ``ORM``) may have in any version; empty if none is known.

    An event without a structure of its own may have what any event of its type may.
    """
    wanted = message.replace("^", "_")
    if "^" in message:
        found = frozenset(name for version in VERSIONS[:3] for name in _segments(version, wanted))
        if found:
            return found
    code = wanted[:3]
    every = {name for version in VERSIONS[:3] for name in _version(version).MESSAGES if name.startswith(f"{code}_")}
    return frozenset(segment for version in VERSIONS[:3] for name in every for segment in _segments(version, name))


def _segments(version: str, message: str) -> Iterator[str]:
    found = _version(version).MESSAGES.get(message)
    yield from _inside(found[1]) if found else ()


def _inside(children: Any) -> Iterator[str]:
    for name, shape, _, kind in children:
        if kind == "SEG":
            yield name
        elif shape:
            yield from _inside(shape[1])
