"""The invariants of FHIR R4 that apply to the types written and served here, as a table of pure checks.

Element cardinality, formats and required codes are for ``fhir_check.py``. Not checked: invariants that are mere advice
(dom-6), those of types that nothing here writes, and terminology.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

Json = dict[str, Any]
Holds = Callable[[Json], bool]


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that does not hold."""

    rule: str
    at: str
    """The element's path, below the resource: ``Appointment.participant[0]``."""
    what: str


@dataclass(frozen=True, slots=True)
class Rule:
    key: str
    """As R4 calls it."""
    on: str
    """A type (``Appointment``), an element of one (``Appointment.participant``), or elements by name anywhere
    (``*.period``)."""
    what: str
    holds: Holds


_At = tuple[str] | tuple["_At", str | int]
"""A place in a resource, step by step; written out only where something is wrong."""


def broken(resource: Json) -> Iterator[Broken]:
    """Every invariant of :data:`RULES` that a resource does not keep. It has passed ``fhir_check`` before."""
    kind = str(resource.get("resourceType"))
    yield from _broken(resource, (kind,), kind, "")
    yield from _dangling(resource, (kind,))


def _broken(value: Json, at: _At, kind: str, name: str) -> Iterator[Broken]:
    """``kind`` is the type of the resource whose element this is, empty further below; ``name`` is the element's, empty
    for the resource itself."""
    for rule in (*_BY_PLACE.get((kind, name), ()), *_BY_PLACE.get(("*", name), ())):
        if not rule.holds(value):
            yield Broken(rule.key, _written(at), rule.what)
    below = "" if name else kind
    for key, item in value.items():
        if isinstance(item, dict):
            inner = str(item.get("resourceType", ""))
            yield from _broken(item, (at, key), inner or below, "" if inner else key)
            if inner:
                yield from _dangling(item, (at, key))
        elif isinstance(item, list):
            for index, one in enumerate(item):
                if not isinstance(one, dict):
                    continue
                inner = str(one.get("resourceType", ""))
                yield from _broken(one, ((at, key), index), inner or below, "" if inner else key)


def _written(at: _At) -> str:
    if len(at) == 1:
        return at[0]
    return f"{_written(at[0])}[{at[1]}]" if isinstance(at[1], int) else f"{_written(at[0])}.{at[1]}"


def _dangling(resource: Json, place: _At) -> Iterator[Broken]:
    """ref-1: what a reference into the resource names is contained there."""
    inside = {f"#{one.get('id')}" for one in resource.get("contained", ())} | {"#"}
    for at, target in _references(resource, place):
        if target not in inside:
            yield Broken("ref-1", _written(at), "a reference to something contained that is not there")


def _references(value: Any, at: _At) -> Iterator[tuple[_At, str]]:
    """References that begin with ``#``; not those of a resource in a Bundle, which contains its own."""
    if isinstance(value, dict):
        if isinstance(target := value.get("reference"), str) and target.startswith("#"):
            yield at, target
        for key, item in value.items():
            if isinstance(item, list) or (isinstance(item, dict) and "resourceType" not in item):
                yield from _references(item, (at, key))
    else:
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield from _references(item, (at, index))


def _one(*names: str) -> Holds:
    """At least one of these elements is there."""
    return lambda it: any(name in it for name in names)


def _needs(first: str, *others: str) -> Holds:
    """Where the first element is, one of the others is too."""
    return lambda it: first not in it or any(name in it for name in others)


def _starts_before_end(it: Json) -> bool:
    """per-1, as far as both are known: a mere day is compared with a day."""
    start, end = it.get("start"), it.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    if "T" in start and "T" in end:
        try:
            return datetime.fromisoformat(start) <= datetime.fromisoformat(end)
        except (ValueError, TypeError):
            return True
    size = min(len(start), len(end), 10)
    return start[:size] <= end[:size]


def _low_before_high(it: Json) -> bool:
    low, high = it.get("low", {}), it.get("high", {})
    same_unit = low.get("code") == high.get("code") and low.get("unit") == high.get("unit")
    first, second = low.get("value"), high.get("value")
    known = isinstance(first, int | float | Decimal) and isinstance(second, int | float | Decimal)
    return not known or not same_unit or Decimal(str(first)) <= Decimal(str(second))


def _has_value(it: Json) -> bool:
    return any(key.startswith("value") for key in it)


def _codes(concept: Any) -> set[tuple[str, str]]:
    coding = concept.get("coding", ()) if isinstance(concept, dict) else ()
    return {(str(one.get("system", "")), str(one["code"])) for one in coding if "code" in one}


def _component_has_other_code(it: Json) -> bool:
    own = _codes(it.get("code"))
    return not _has_value(it) or not any(own & _codes(one.get("code")) for one in it.get("component", ()))


_SLOTLESS = ("proposed", "cancelled", "waitlist")
_UNTIMED = ("name", "telecom", "address", "organization")
_HOME = "home"


def _no_home(it: Json) -> bool:
    return not any(one.get("use") == _HOME for key in ("telecom", "address") for one in it.get(key, ()))


RULES = (
    Rule("per-1", "*.period", "the period ends before it starts", _starts_before_end),
    Rule("per-1", "*.effectivePeriod", "the period ends before it starts", _starts_before_end),
    Rule("per-1", "*.performedPeriod", "the period ends before it starts", _starts_before_end),
    Rule("per-1", "*.occurrencePeriod", "the period ends before it starts", _starts_before_end),
    Rule("per-1", "*.executionPeriod", "the period ends before it starts", _starts_before_end),
    Rule("att-1", "*.attachment", "data without its content type", _needs("data", "contentType")),
    Rule("att-1", "*.presentedForm", "data without its content type", _needs("data", "contentType")),
    Rule("att-1", "*.photo", "data without its content type", _needs("data", "contentType")),
    Rule("cpt-2", "*.telecom", "a value without its system", _needs("value", "system")),
    Rule("qty-3", "*.valueQuantity", "a unit's code without its system", _needs("code", "system")),
    Rule("rng-2", "*.valueRange", "the range's low is above its high", _low_before_high),
    Rule("ext-1", "*.extension", "it has both a value and extensions, or neither",
         lambda it: _has_value(it) != ("extension" in it)),
    Rule("pat-1", "Patient.contact", "a contact without name, telecom, address or organization", _one(*_UNTIMED)),
    Rule("org-1", "Organization", "neither an identifier nor a name", _one("identifier", "name")),
    Rule("org-2", "Organization", "an organization is nowhere at home", _no_home),
    Rule("app-1", "Appointment.participant", "neither who nor what takes part", _one("type", "actor")),
    Rule("app-2", "Appointment", "start without end, or end without start",
         lambda it: ("start" in it) == ("end" in it)),
    Rule("app-3", "Appointment", "neither start nor end, which only a proposed, cancelled or waiting one may lack",
         lambda it: ("start" in it and "end" in it) or it.get("status") in _SLOTLESS),
    Rule("app-4", "Appointment", "a reason of cancellation, and it is neither cancelled nor missed",
         lambda it: "cancelationReason" not in it or it.get("status") in ("cancelled", "noshow")),
    Rule("per-1", "Appointment", "the appointment ends before it starts", _starts_before_end),
    Rule("obs-3", "Observation.referenceRange", "neither low, high nor text", _one("low", "high", "text")),
    Rule("obs-6", "Observation", "a value, and a reason why there is none",
         lambda it: "dataAbsentReason" not in it or not _has_value(it)),
    Rule("obs-7", "Observation", "a component has the code of the observation, which has a value itself",
         _component_has_other_code),
    Rule("prr-1", "ServiceRequest", "orderDetail without code", _needs("orderDetail", "code")),
    Rule("inv-1", "Task", "it was changed before it was authored",
         lambda it: _starts_before_end({"start": it.get("authoredOn"), "end": it.get("lastModified")})),
)  # fmt: skip
_BY_PLACE: dict[tuple[str, str], list[Rule]] = {}
for _rule in RULES:
    _BY_PLACE.setdefault((_rule.on.partition(".")[0], _rule.on.partition(".")[2]), []).append(_rule)
