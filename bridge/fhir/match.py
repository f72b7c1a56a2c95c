"""Whether a resource is what a search looks for, by the entries that the index would have of it."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Any

from bridge.errors import Refused
from bridge.fhir.index import Entries, entries, long_number
from bridge.fhir.query import Condition, Query
from bridge.fhir.ranges import Range
from bridge.fhir.times import span
from bridge.fhir.values import Text, Token, Value


def matches(query: Query, resource: dict[str, Any], zone: tzinfo = UTC) -> bool:
    """Whether ``resource`` meets every condition of ``query``. Raises Refused for a condition about other resources."""
    return resource.get("resourceType") == query.kind and Known(resource, zone).meets(query)


class Known:
    """A resource with its index entries, to be held against several searches of its type."""

    def __init__(self, resource: dict[str, Any], zone: tzinfo = UTC) -> None:
        self.resource, self._zone = resource, zone
        self._entries = entries(resource, zone)
        self._entries.tokens.add((_ID, "", str(resource.get("id", ""))))

    def meets(self, query: Query) -> bool:
        """As :func:`matches`."""
        return all(_meets(condition, self._entries, self.resource, self._zone) for condition in query.conditions)


_ID = -1


def _meets(condition: Condition, known: Entries, resource: dict[str, Any], zone: tzinfo) -> bool:
    if condition.chained or condition.reverse:
        what = "a condition about other resources cannot be watched"
        raise Refused(what, at=condition.name, fix="search by what the resource itself says", kind="unsupported")
    number = _ID if condition.parameter.name == "_id" else condition.number
    if condition.parameter.name == "_lastUpdated":
        when = span(str(resource.get("meta", {}).get("lastUpdated", "")), zone)
        known.spans.update([(number, *when, "")] if when else [])
    numbers = {number, long_number(condition.parameter)}
    found = any(_is(value, known, numbers) for value in condition.values) if condition.values else _has(known, numbers)
    return found != condition.negated


def _has(known: Entries, numbers: set[int]) -> bool:
    return any(one[0] in numbers for some in (known.tokens, known.strings, known.spans) for one in some)


def _is(value: Value, known: Entries, numbers: set[int]) -> bool:
    if isinstance(value, Token):
        return any(
            number in numbers and value.system in (None, system) and value.code in (None, code)
            for number, system, code in known.tokens
        )
    if isinstance(value, Text):
        return any(number in numbers and _reads(value, plain, text) for number, plain, text in known.strings)
    return any(
        number in numbers and value.holds(low, high) and unit_fits(value, unit)
        for number, low, high, unit in known.spans
    )


def _reads(value: Text, plain: str, text: str) -> bool:
    if value.how == "exact":
        return text == value.text
    return value.folded in plain if value.how == "contains" else plain.startswith(value.folded)


def unit_fits(value: Range, unit: str) -> bool:
    """Whether an amount in ``unit`` is in the one that is looked for, if any."""
    return not value.unit or unit == value.unit or (value.unit.startswith("|") and unit.endswith(value.unit))
