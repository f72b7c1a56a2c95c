"""Prefixes of dates and amounts (R4 search, 3.1.1.4.5) as comparisons of two spans."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal

from bridge.fhir.index import SHORT
from bridge.fhir.times import span

_PREFIXED = re.compile(r"(eq|ne|lt|gt|le|ge|sa|eb|ap)?(.*)", re.DOTALL)
_AMOUNT = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_DAY = 86_400_000.0

Comparison = tuple[str, str, float]
"""``low`` or ``high`` of the resource's span, an operator, a bound."""


@dataclass(frozen=True, slots=True)
class Range:
    """Holds where every comparison of one of the ``alternatives`` does."""

    alternatives: tuple[tuple[Comparison, ...], ...]
    floor: float = -math.inf
    """No span of at most :data:`bridge.fhir.index.SHORT` that begins earlier can hold."""
    ceiling: float = math.inf
    """No span that begins later can hold."""
    unit: str = ""
    """Of a quantity: ``system|code``, ``|code`` for any system; empty: any."""

    def holds(self, low: float, high: float) -> bool:
        span = {"low": low, "high": high}
        return any(
            all(_OPERATORS[operator](span[end], bound) for end, operator, bound in comparisons)
            for comparisons in self.alternatives
        )


_OPERATORS = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def date_range(text: str, zone: tzinfo) -> Range | None:
    """``ge2026-01-05``; None for a text that is none. About (``ap``) is within a day."""
    prefix, rest = _split(text)
    # a query arrives with its plus sign read as a space
    when = span(re.sub(r" (\d\d:\d\d)$", r"+\1", rest), zone)
    if when is None:
        return None
    if prefix == "ap":
        when = (when[0] - _DAY, when[1] + _DAY)
    return _range(prefix, *when)


def amount_range(text: str, unit: str = "") -> Range | None:
    """``gt5.4``: without a prefix what rounds to it, about (``ap``) is within a tenth."""
    prefix, rest = _split(text)
    if not _AMOUNT.fullmatch(rest):
        return None
    exact = Decimal(rest)
    value = float(exact)
    if prefix in ("eq", "ne"):
        half = float(Decimal(5).scaleb(int(exact.as_tuple().exponent) - 1))
        low, high = value - half, math.nextafter(value + half, -math.inf)
    elif prefix == "ap":
        low, high = value - abs(value) / 10, value + abs(value) / 10
    else:
        low = high = value
    if prefix == "ap":
        return Range(((("low", ">=", low), ("high", "<=", high)),), low, high, unit)
    if prefix in ("sa", "eb"):
        prefix = {"sa": "gt", "eb": "lt"}[prefix]
    found = _range(prefix, low, high)
    return Range(found.alternatives, unit=unit)


def _split(text: str) -> tuple[str, str]:
    found = _PREFIXED.fullmatch(text.strip())
    assert found
    return found[1] or "eq", found[2]


def _range(prefix: str, low: float, high: float) -> Range:
    """The spans of a resource that are in this relation to the span from ``low`` to ``high`` of the search."""
    if prefix == "eq":
        return Range(((("low", ">=", low), ("high", "<=", high)),), low, high)
    if prefix == "ne":
        return Range(((("low", "<", low),), (("high", ">", high),)))
    if prefix == "gt":
        return Range(((("high", ">", high),),), high - SHORT)
    if prefix == "lt":
        return Range(((("low", "<", low),),), ceiling=low)
    if prefix == "ge":
        return Range(((("high", ">", high),), (("low", ">=", low),)), min(low, high - SHORT))
    if prefix == "le":
        return Range(((("low", "<", low),), (("high", "<=", high),)), ceiling=high)
    if prefix == "sa":
        return Range(((("low", ">=", high),),), high)
    if prefix == "eb":
        return Range(((("high", "<=", low),),), ceiling=low)
    return Range(((("low", "<", high), ("high", ">", low)),), low - SHORT, high)
