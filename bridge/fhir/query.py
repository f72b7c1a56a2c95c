"""A search as R4 defines it (search.html): what a client wrote after ``?``, taken apart and checked.

Done here: every modifier, prefix and control parameter that the facade serves. What a condition means for a resource's
index entries: ``match.py``, and in SQL ``bridge/store/fhir_find.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Literal
from urllib.parse import parse_qsl

from bridge.errors import Refused
from bridge.fhir.interaction import TYPES
from bridge.fhir.parameters import PARAMETERS, Parameter, parameter
from bridge.fhir.values import Value, values_of

COUNT = 50
"""Matches on a page that asks for no number of them."""
MOST = 1000
"""Matches on a page, whatever is asked for."""

ANY = "_any"
"""In a restriction: its value is JSON, lists of parameters of which one list has to hold."""
_CONDITIONS = 40
_DEPTH = 3
"""References that one condition may follow: SQLite reads no question that is nested much deeper."""
_VALUES = 500
"""In all conditions together."""
_KEYS = 10

Total = Literal["", "none", "estimate", "accurate"]
Summary = Literal["", "true", "text", "data", "count", "false"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a resource has to have: for ``parameter`` any of ``values``, or anything where there are none."""

    parameter: Parameter
    number: int
    """Under which the index has it: the parameter's own, or that of a modifier."""
    values: tuple[Value, ...] = ()
    negated: bool = False
    chained: tuple[tuple[str, Condition], ...] = ()
    """Instead of ``values``: it refers to a resource of the type for which the condition holds; any of these."""
    reverse: tuple[str, Condition] | None = None
    """Instead of ``values``: a resource of this type refers here through ``parameter``, and the condition holds."""
    any_of: tuple[tuple[Condition, ...], ...] | None = None
    """Instead of ``values``: all conditions of one of these hold; for an empty one, of no resource."""
    name: str = ""
    """As it was written, for errors."""


@dataclass(frozen=True, slots=True)
class Include:
    """``Type:parameter[:target]``; an empty parameter is any."""

    kind: str
    parameter: str
    target: str = ""
    iterate: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    kind: str
    conditions: tuple[Condition, ...] = ()
    sort: tuple[tuple[Parameter, bool], ...] = ()
    """Parameters, and whether each goes from the last to the first."""
    includes: tuple[Include, ...] = ()
    revincludes: tuple[Include, ...] = ()
    count: int = COUNT
    summary: Summary = ""
    elements: tuple[str, ...] = ()
    total: Total = ""
    used: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()


_ELSEWHERE = ("_format", "_pretty")
"""Said of the answer, not of what is looked for."""


@dataclass(slots=True)
class _Parts:
    """What is gathered while the parameters are read."""

    zone: tzinfo
    conditions: list[Condition] = field(default_factory=list)
    sort: list[tuple[Parameter, bool]] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    revincludes: list[Include] = field(default_factory=list)
    count: int = COUNT
    summary: Summary = ""
    elements: list[str] = field(default_factory=list)
    total: Total = ""


def parse(kind: str, parameters: Sequence[tuple[str, str]], *, strict: bool = False, zone: tzinfo = UTC) -> Query:
    """The search that ``parameters`` (decoded name and value, in their sequence) ask for.

    A parameter that is not known is among ``ignored``, or with ``strict`` refused. Raises Refused, with the parameter's
    name as ``at``: kind ``unsupported`` for what is not served, ``search`` for a value that is none.
    """
    if kind not in TYPES:
        raise Refused("this resource type is not kept here", at=kind, kind="unsupported")
    parts = _Parts(zone)
    used: list[tuple[str, str]] = []
    ignored: list[str] = []
    for name, value in parameters:
        if not value or name in _ELSEWHERE:
            continue
        try:
            _read(parts, kind, name, value)
            used.append((name, value))
        except _UnknownParameter:
            if strict:
                fix = "see the CapabilityStatement for what is served"
                raise Refused("no such search parameter", at=name, fix=fix, kind="unsupported") from None
            ignored.append(name)
    return Query(
        kind,
        tuple(parts.conditions),
        tuple(parts.sort),
        tuple(parts.includes),
        tuple(parts.revincludes),
        parts.count,
        parts.summary,
        tuple(parts.elements),
        parts.total,
        tuple(used),
        tuple(ignored),
    )


def parse_text(kind: str, query: str, *, zone: tzinfo = UTC) -> Query:
    """The same of a URL-encoded query, strictly: an unknown parameter of a conditional write could hit anything.

    Raises Refused also for a query without any condition.
    """
    query_ = parse(kind, parse_qsl(query, keep_blank_values=True), strict=True, zone=zone)
    if not query_.conditions:
        raise Refused("a condition without any search parameter", at=kind, fix="name an identifier", kind="search")
    return query_


def restriction(kind: str, pairs: Sequence[tuple[str, str]], *, zone: tzinfo = UTC) -> tuple[Condition, ...]:
    """What resources of the type have to meet besides what a client asks: search parameters, and :data:`ANY`."""
    found: list[Condition] = []
    for name, value in pairs:
        if name == ANY:
            found.append(either(kind, [restriction(kind, one, zone=zone) for one in json.loads(value)]))
        else:
            found += parse(kind, [(name, value)], strict=True, zone=zone).conditions
    return tuple(found)


def either(kind: str, ways: Sequence[Sequence[Condition]]) -> Condition:
    """That all conditions of one way hold."""
    return Condition(Parameter(kind, ANY, ANY, ()), 0, any_of=tuple(map(tuple, ways)), name=ANY)


def guarded(condition: Condition, hidden: Callable[[str], tuple[Condition, ...]]) -> Condition:
    """The same, told only by resources for which ``hidden(type)`` holds too: what it follows to has to be visible.

    Where several types may be meant, those are left out for which ``hidden`` raises Refused; it is raised for the last.
    """
    if condition.reverse:
        source, inner = condition.reverse
        return replace(condition, reverse=(source, _both(source, guarded(inner, hidden), hidden(source))))
    if not condition.chained:
        return condition
    chained, refused = [], None
    for target, inner in condition.chained:
        try:
            chained.append((target, _both(target, guarded(inner, hidden), hidden(target))))
        except Refused as error:
            refused = error
    if refused and not chained:
        raise refused
    return replace(condition, chained=tuple(chained))


def _both(kind: str, one: Condition, others: tuple[Condition, ...]) -> Condition:
    return either(kind, [(one, *others)]) if others else one


class _UnknownParameter(Exception):
    pass


def _read(parts: _Parts, kind: str, name: str, value: str) -> None:
    base, _, modifier = name.partition(":")
    if base in ("_include", "_revinclude"):
        if modifier not in ("", "iterate", "recurse"):
            raise _UnknownParameter
        include = _include(name, value, kind, iterate=bool(modifier), reverse=base == "_revinclude")
        (parts.includes if base == "_include" else parts.revincludes).append(include)
    elif base == "_sort":
        keys = value.split(",")
        if len(keys) > _KEYS:
            raise Refused(f"more than {_KEYS} parameters", at=name, fix="sort by fewer", kind="search")
        parts.sort = [_sort(kind, one) for one in keys]
    elif base == "_count":
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            raise Refused("not a number of matches", at=name, kind="search")
        parts.count = min(int(value), MOST)
    elif base == "_summary":
        parts.summary = _one_of(name, value, ("true", "text", "data", "count", "false"))  # type: ignore[assignment]
    elif base == "_total":
        parts.total = _one_of(name, value, ("none", "estimate", "accurate"))  # type: ignore[assignment]
    elif base == "_elements":
        parts.elements += [one.strip().removeprefix(f"{kind}.") for one in value.split(",")]
    elif len(parts.conditions) == _CONDITIONS or name.count(".") + name.count("_has:") > _DEPTH:
        raise Refused("more conditions than are served at once", at=name[:64], fix="ask in parts", kind="search")
    else:
        parts.conditions.append(_condition(kind, name, value, parts.zone))
        if sum(map(_size, parts.conditions)) > _VALUES:
            raise Refused(f"more than {_VALUES} values", at=name, fix="ask in parts", kind="search")


def _size(condition: Condition) -> int:
    """How many values, or steps to others, the database is asked for."""
    inner = [one for _, one in condition.chained] + ([condition.reverse[1]] if condition.reverse else [])
    return len(condition.values) + sum(1 + _size(one) for one in inner)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise Refused("not one of its values", at=name, fix=f"write one of {', '.join(allowed)}", kind="search")
    return value


def _condition(kind: str, name: str, value: str, zone: tzinfo, at: str = "") -> Condition:
    at = at or name
    if name.startswith("_has:"):
        return _has(kind, name, value, zone, at)
    head, dot, rest = name.partition(".")
    base, _, modifier = head.partition(":")
    found = parameter(kind, base)
    if found is None:
        raise _UnknownParameter
    if dot:
        return _chain(found, modifier, rest, value, zone, at)
    if modifier == "missing":
        missing = _one_of(at, value, ("true", "false")) == "true"
        return Condition(found, found.number, negated=missing, name=at)
    tested, values = values_of(found, modifier, value, zone, at)
    return Condition(found, tested, values, negated=modifier == "not", name=at)


def _chain(found: Parameter, modifier: str, rest: str, value: str, zone: tzinfo, at: str) -> Condition:
    """``subject:Patient.name``; without a type, every type that it may refer to and that has the parameter."""
    if found.type != "reference" or (modifier and modifier not in found.targets):
        raise Refused("this cannot be followed", at=at, fix="chain a reference, and a type it refers to", kind="search")
    chained = []
    for target in [modifier] if modifier else found.targets:
        try:
            chained.append((target, _condition(target, rest, value, zone, at)))
        except _UnknownParameter:
            continue
    if not chained:
        raise _UnknownParameter
    return Condition(found, found.number, chained=tuple(chained), name=at)


def _has(kind: str, name: str, value: str, zone: tzinfo, at: str) -> Condition:
    """``_has:Observation:patient:code``: a resource that refers here."""
    _, _, rest = name.partition(":")
    source, _, rest = rest.partition(":")
    through, _, tested = rest.partition(":")
    link = PARAMETERS.get(source, {}).get(through)
    if link is None or link.type != "reference" or kind not in link.targets:
        raise _UnknownParameter
    return Condition(link, link.number, reverse=(source, _condition(source, tested, value, zone, at)), name=at)


def _include(name: str, value: str, kind: str, *, iterate: bool, reverse: bool) -> Include:
    source, _, rest = value.partition(":")
    through, _, target = rest.partition(":")
    known = PARAMETERS.get(source, {})
    if value == "*" and not reverse:
        source, through = kind, "*"
    elif source not in PARAMETERS or (through != "*" and (through not in known or known[through].type != "reference")):
        raise Refused("not a reference to include by", at=name, fix="write Type:parameter", kind="search")
    return Include(source, "" if through == "*" else through, target, iterate)


def _sort(kind: str, text: str) -> tuple[Parameter, bool]:
    found = parameter(kind, text.removeprefix("-"))
    if found is None:
        raise Refused("nothing to sort by", at="_sort", fix="name search parameters of the type", kind="search")
    return found, text.startswith("-")
