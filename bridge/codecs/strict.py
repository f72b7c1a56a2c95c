"""Strict validation of HL7 v2 messages with hl7apy: structure, cardinality, data types. Slow (tens of milliseconds).

Meant for a worker process: bytes in, plain data out. Values against tables and lengths are not checked, Z segments
are left alone. Nothing in the result is content of the message.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hl7apy import load_reference
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import ChildNotFound, HL7apyException, UnsupportedVersion, ValidationError
from hl7apy.parser import parse_message

from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.errors import FACES, CodecError

_MISSING = re.compile(r"Missing required child (\w+)\.(\w+)")
_LIMIT = re.compile(r"Child limit exceeded (\w+)\.(\w+)")
_DATATYPE = re.compile(r"Datatype \w+ is not correct for (\w+)\.(\w+)")
_INVALID = re.compile(r"Invalid children detected for <(\w+) (\w+)[^>]*>: \[(.*)\]")
_NAMED = re.compile(r"([A-Z][A-Z0-9]{2})_(\d+)")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")
_UNREADABLE = (HL7apyException, AttributeError, IndexError, KeyError, TypeError, ValueError)


def validate(raw: bytes, charset: str = "") -> list[dict[str, str]]:
    """Every violation found, as :meth:`BridgeError.as_dict` gives it, with ``code`` from HL7 table 0357 besides.

    ``at`` is a path (``PID-3``, ``PID-3.4``, ``OBR(2)-7.1``) or a segment's name. Empty: the message is valid.
    """
    try:
        message = parse(raw, charset)
    except CodecError as error:
        return [{**error.as_dict(), "code": error.face.hl7}]
    names = [name for name in message.names if name and not name.startswith("Z")]
    try:
        tree = parse_message(_text(message), validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True)
    except UnsupportedVersion:
        return [_found("version", "the structures of this version are not known", "MSH-12", "send one up to 2.8.2")]
    except _UNREADABLE as error:
        what = f"the validator cannot read it ({type(error).__name__})"
        return [_found("syntax", what, "MSH", "check delimiters and segments")]
    if tree.name is None:
        fix = "send in MSH-9.3 the structure that table 0354 gives for this event"
        return [_found("message_type", f"no such message structure in version {message.version}", "MSH-9.3", fix)]
    found = [*_out_of_place(tree, names), *_structure(tree, message.version), *_datatypes(tree)]
    unique = {(entry["what"], entry["at"]): entry for entry in found}
    return list(unique.values())


def _found(kind: str, what: str, at: str, fix: str) -> dict[str, str]:
    return {"kind": kind, "what": what, "at": at, "fix": fix, "code": FACES[kind].hl7}


def _text(message: Hl7Message) -> str:
    lines = [segment.raw for segment in message.segments() if segment.name and not segment.name.startswith("Z")]
    return b"\r".join(lines).decode(message.codec)


def _out_of_place(tree: Any, names: list[str]) -> Iterator[dict[str, str]]:
    """Segments that found no place in the message's structure: the parser leaves them out."""
    placed = Counter(element.name for element in _walk(tree) if element.classname == "Segment")
    for name, count in Counter(names).items():
        if placed[name] < count:
            fix = "send the segments that the structure of this message has, in its sequence"
            yield _found("syntax", f"segment {name} has no place here", name, fix)


def _structure(tree: Any, version: str) -> Iterator[dict[str, str]]:
    """Violations from the library's report; its errors name elements, its warnings quote values and are not read."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", suffix=".txt") as report:
        try:
            tree.validate(report_file=report.name)
        except ValidationError:
            pass
        except _UNREADABLE as error:
            what = f"the validator cannot check it to the end ({type(error).__name__})"
            yield _found("syntax", what, "MSH-9", "check MSH-9 and MSH-12")
            return
        lines = report.read().splitlines()
    for line in lines:
        if line.startswith("Error: "):
            entry = _read(line.removeprefix("Error: "), version)
            if entry:
                yield entry


def _read(line: str, version: str) -> dict[str, str] | None:
    """One error of the report; None for one that is the library's own."""
    if match := _MISSING.match(line):
        if _is_choice(match[1], version):
            return None
        at = _place(match[1], match[2])
        return _found("required", f"required {at or match[2]} missing", at or "MSH-9", "send it, or another MSH-9.3")
    if match := _LIMIT.match(line):
        at = _place(match[1], match[2])
        what = f"{at or match[2]} more often than version {version} allows"
        return _found("datatype", what, at or "MSH-9", "leave it out or send it less often; some parts were withdrawn")
    if match := _DATATYPE.match(line):
        at = _place(match[1], match[2])
        return _found("datatype", f"{match[2]} is not of its data type", at or "MSH-9", "send the parts its type has")
    if match := _INVALID.match(line):
        return _too_much(match[1], match[2], match[3], version)
    return _found("syntax", "an element that the structure does not have", "MSH-9", "check the segments and MSH-9.3")


def _too_much(element: str, name: str, children: str, version: str) -> dict[str, str]:
    fix = "send only what the structure has, or declare a newer version"
    if element in ("Message", "Group"):
        return _found("syntax", f"{name} does not hold {', '.join(_SEGMENT.findall(children))}", "MSH-9", fix)
    at = name.replace("_", "-") if element in ("Segment", "Field") else "MSH-9"
    return _found("syntax", f"more parts in {name} than version {version} has", at, fix)


def _place(parent: str, child: str) -> str:
    """``PID-3`` for PID.PID_3, ``PID-3.4`` for PID_3.CX_4, ``PID`` for a segment; empty where it is none of these."""
    if _SEGMENT.fullmatch(child):
        return child
    number = child.rpartition("_")[2]
    if _SEGMENT.fullmatch(parent) and _NAMED.fullmatch(child):
        return f"{parent}-{number}"
    owner = _NAMED.fullmatch(parent)
    return f"{owner[1]}-{owner[2]}.{number}" if owner and number.isdigit() else ""


def _is_choice(group: str, version: str) -> bool:
    """Whether only one of a group's segments is required; the library asks for all of them."""
    try:
        return bool(load_reference(group, "Group", version)[0] == "choice")
    except (ChildNotFound, HL7apyException):
        return False


def _walk(element: Any) -> Iterator[Any]:
    for child in element.children:
        yield child
        if child.classname in ("Group", "Segment"):
            yield from _walk(child)


def _datatypes(tree: Any) -> Iterator[dict[str, str]]:
    """Values that are not of their base data type: the tolerant parser turns them into plain text."""
    seen: Counter[str] = Counter()
    for segment in _walk(tree):
        if segment.classname != "Segment":
            continue
        seen[segment.name] += 1
        which = f"({seen[segment.name]})" if seen[segment.name] > 1 else ""
        for field in segment.children:
            for at, leaf in _leaves(field):
                if _is_wrong(leaf):
                    place = f"{segment.name}{which}-{field.name.rpartition('_')[2]}{at}"
                    yield _found("datatype", f"not a valid {leaf.datatype}", place, "send the value as its type asks")


def _leaves(field: Any) -> Iterator[tuple[str, Any]]:
    for component in field.children:
        number = (component.name or "").rpartition("_")[2]
        at = f".{number}" if number.isdigit() else ""
        for leaf in component.children:
            below = (leaf.name or "").rpartition("_")[2]
            yield at + (f".{below}" if at and below.isdigit() else ""), leaf


def _is_wrong(leaf: Any) -> bool:
    if leaf.datatype in (None, "ST", "varies"):
        return False
    return type(leaf.value).__name__ == "ST" and leaf.to_er7() not in ("", '""')
