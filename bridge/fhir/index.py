"""What a resource is found by: the index entries that its search parameters make of it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import cache
from typing import Any

from bridge.fhir.parameters import PARAMETERS, Parameter, number
from bridge.fhir.times import FOREVER, span

Json = dict[str, Any]

SHORT = 90_000_000.0
"""Milliseconds (25 hours): spans up to it and longer ones are kept apart, so that a range of days stays a range of an
index."""
_LONGEST = 200
_TEXT = 120

_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_FILTER = re.compile(r"(\w+)\{(\w+)=(\w+)\}")
_NAME = ("family", "given", "prefix", "suffix", "text")
_ADDRESS = ("text", "line", "city", "district", "state", "postalCode", "country")


@dataclass(frozen=True, slots=True)
class Entries:
    """Each starts with the number of its parameter."""

    tokens: set[tuple[int, str, str]] = field(default_factory=set)
    """Number, system, code."""
    strings: set[tuple[int, str, str]] = field(default_factory=set)
    """Number, folded text, text."""
    spans: set[tuple[int, float, float, str]] = field(default_factory=set)
    """Number, low, high, unit."""


def entries(resource: Json, zone: tzinfo = UTC) -> Entries:
    """All index entries of ``resource``; ``zone`` as in :func:`bridge.fhir.times.span`."""
    found = Entries()
    for parameter, first, path in _places(resource["resourceType"]):
        if first in resource or not first:
            for value in values(resource, path):
                _add(found, parameter, value, zone)
    return found


@cache
def _places(kind: str) -> tuple[tuple[Parameter, str, list[str]], ...]:
    """Each parameter of a type with each place of its value; apart, the element that this begins with, if it is one."""
    places = [(one, path.split(".")) for one in PARAMETERS[kind].values() for path in one.paths]
    return tuple((one, path[0] if path[0].isalpha() else "", path) for one, path in places)


def values(value: Any, path: list[str]) -> Iterator[Any]:
    """What stands at ``path`` below ``value``, lists taken apart."""
    if isinstance(value, list):
        for item in value:
            yield from values(item, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        step, rest = path[0], path[1:]
        if step.endswith("[x]"):
            stem = step[:-3]
            for key, item in value.items():
                if key.startswith(stem) and key[len(stem) : len(stem) + 1].isupper():
                    yield from values(item, rest)
        elif wanted := _FILTER.fullmatch(step):
            listed = value.get(wanted[1], [])
            for item in listed if isinstance(listed, list) else [listed]:
                if isinstance(item, dict) and item.get(wanted[2]) == wanted[3]:
                    yield from values(item, rest)
        else:
            yield from values(value.get(step), rest)


def _add(found: Entries, parameter: Parameter, value: Any, zone: tzinfo) -> None:
    if parameter.type == "token":
        found.tokens.update((parameter.number, keyed(system), keyed(code)) for system, code in _tokens(value))
        if isinstance(value, dict) and isinstance(value.get("type"), dict):
            typed = number(f"{parameter.base}.{parameter.name}:of-type")
            found.tokens.update((typed, keyed(system), keyed(code)) for system, code in _of_type(value))
    elif parameter.type == "uri":
        found.tokens.add((parameter.number, "", keyed(str(value))))
    elif parameter.type == "reference":
        _add_reference(found, parameter, value)
    elif parameter.type == "string":
        found.strings.update((parameter.number, *readings(text)) for text in _texts(value))
    elif parameter.type == "date":
        if (when := _when(value, zone)) is not None:
            found.spans.add((_span_number(parameter, when), *when, ""))
    elif parameter.type == "quantity":
        found.spans.update((parameter.number, amount, amount, keyed(unit)) for amount, unit in _amounts(value))


def long_number(parameter: Parameter) -> int:
    """The number under which spans longer than :data:`SHORT` are kept."""
    return number(f"{parameter.base}.{parameter.name}:long")


def _span_number(parameter: Parameter, when: tuple[float, float]) -> int:
    return parameter.number if when[1] - when[0] <= SHORT else long_number(parameter)


def keyed(text: str) -> str:
    """``text`` as an index keeps it: a long one is told by its digest."""
    text = _clean(text)
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 65]}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def readings(text: str) -> tuple[str, str]:
    """``text`` without case, accents and doubled spaces (R4 search, 3.1.1.4.8), and as it is; each at most so long."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return " ".join(_clean(plain).casefold().split())[:_TEXT], _clean(text)[:_LONGEST]


def _clean(text: str) -> str:
    """Without what no database takes."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _tokens(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "", str(value).lower()
    elif isinstance(value, str):
        yield "", value
    elif isinstance(value, dict):
        if "coding" in value or ("text" in value and "value" not in value):
            for coding in values(value, ["coding"]):
                yield from _tokens(coding)
            return
        code = value.get("code", value.get("value"))
        if isinstance(code, str):
            contact = value.get("system") in ("phone", "email", "fax", "pager", "sms", "url", "other")
            yield "" if contact else str(value.get("system", "")), code


def _of_type(identifier: Json) -> Iterator[tuple[str, str]]:
    for system, code in _tokens(identifier["type"]):
        yield system, f"{code}|{identifier.get('value', '')}"


def _add_reference(found: Entries, parameter: Parameter, value: Any) -> None:
    if isinstance(value, str):
        value = {"reference": value}
    if not isinstance(value, dict):
        return
    target = referred(value.get("reference"))
    kind = _kind(target[1]) or target[0] if target else str(value.get("type", ""))
    if parameter.only and kind not in parameter.targets and (kind or target):
        return
    if target:
        found.tokens.add((parameter.number, target[0], keyed(target[1])))
    if isinstance(value.get("identifier"), dict):
        by_identifier = number(f"{parameter.base}.{parameter.name}:identifier")
        found.tokens.update((by_identifier, keyed(a), keyed(b)) for a, b in _tokens(value["identifier"]))


def _kind(url: str) -> str:
    """The type that a URL of another server names."""
    named = re.search(r"/([A-Z][A-Za-z]+)/[A-Za-z0-9.-]{1,64}$", url)
    return named[1] if named else ""


def referred(reference: Any) -> tuple[str, str] | None:
    """What a literal reference names: type and id, or nothing and the whole URL; None for what is in the resource."""
    if not isinstance(reference, str) or not reference or reference.startswith("#"):
        return None
    local = _REFERENCE.fullmatch(reference)
    return (local[1], local[2]) if local else ("", reference)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key in _ADDRESS if "line" in value or "city" in value or "postalCode" in value else _NAME:
            yield from (one for one in values(value, [key]) if isinstance(one, str))


def _when(value: Any, zone: tzinfo) -> tuple[float, float] | None:
    """The span of a date, a Period, or a Timing from its first event to its last."""
    if isinstance(value, str):
        return span(value, zone)
    if not isinstance(value, dict):
        return None
    if "event" in value:
        events = [one for one in (span(str(event), zone) for event in values(value, ["event"])) if one]
        return (min(one[0] for one in events), max(one[1] for one in events)) if events else None
    bounds = value.get("repeat", {}).get("boundsPeriod", {}) if isinstance(value.get("repeat"), dict) else value
    if not isinstance(bounds, dict):
        return None
    start, end = (span(str(bounds[key]), zone) if key in bounds else None for key in ("start", "end"))
    if start is None and end is None:
        return None
    return (start[0] if start else -FOREVER, end[1] if end else FOREVER)


def _amounts(value: Any) -> Iterator[tuple[float, str]]:
    amount = value.get("value") if isinstance(value, dict) else value
    if isinstance(amount, int | Decimal | float) and not isinstance(amount, bool):
        units = value if isinstance(value, dict) else {}
        yield float(amount), f"{units.get('system', '')}|{units.get('code', units.get('unit', ''))}"
