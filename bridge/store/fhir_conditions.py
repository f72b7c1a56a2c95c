"""Conditions of a FHIR search in SQL, each in two forms: the rows for which it holds, and whether it holds for a row.

The first is for the condition that leaves the fewest rows, the second for all others (``fhir_find.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, literal, or_, select, union_all

from bridge.fhir.index import SHORT, long_number
from bridge.fhir.query import Condition
from bridge.fhir.ranges import Comparison, Range
from bridge.fhir.values import Text, Token
from bridge.store import fhir_tables as t

_LAST = "\U0010ffff"
"""After every text."""
_EVER = 1 << 62
"""Milliseconds beyond every date."""
_ALTERNATIVES = 8
"""Of a range that is made of several: they multiply."""
_OPERATORS = {"<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}

Clause = ColumnElement[bool]


def rows(condition: Condition) -> Select[Any]:
    """The rows (perhaps repeated) of the resources for which ``condition``, which is not negated, holds."""
    if condition.any_of is not None:
        parts = [_of_way(way) for way in condition.any_of]
        if not parts:
            return select(t.resource.c.row.label("resource")).where(false())
        return parts[0] if len(parts) == 1 else select(union_all(*parts).subquery().c.resource)
    if condition.chained:
        parts = [_referring(condition, target, inner) for target, inner in condition.chained]
        return parts[0] if len(parts) == 1 else select(union_all(*parts).subquery().c.resource)
    if condition.reverse:
        return _referred(condition, *condition.reverse)
    if _own_column(condition):
        one = t.resource.alias()
        return select(one.c.row.label("resource")).where(_of_resource(condition, one))
    parts = [select(index.c.resource).where(clause) for index, clause in _indexed(condition)]
    return parts[0] if len(parts) == 1 else select(union_all(*parts).subquery().c.resource)


def holds(condition: Condition, row: ColumnElement[int], one: Any = None) -> Clause:
    """Whether ``condition`` holds for the resource of ``row``; ``one`` is the resource table, where it is at hand."""
    if condition.any_of is not None:
        return or_(false(), *(and_(*(holds(each, row, one) for each in way)) for way in condition.any_of))
    if condition.chained:
        found = or_(*(_refers(condition, target, inner, row) for target, inner in condition.chained))
    elif condition.reverse:
        found = _is_referred(condition, *condition.reverse, row)
    elif _own_column(condition):
        found = _of_resource(condition, one) if one is not None else _is_of_resource(condition, row)
    else:
        indexed = _indexed(condition, probing=True)
        found = or_(*(exists().where(index.c.resource == row, clause) for index, clause in indexed))
    return ~found if condition.negated else found


def leading(way: Sequence[Condition]) -> Condition | None:
    """Of conditions that all have to hold, the one whose rows are looked up; None where none can be."""
    return next((condition for condition in way if not condition.negated), None)


def _of_way(way: Sequence[Condition]) -> Select[Any]:
    lead = leading(way)
    assert lead is not None
    found = rows(lead)
    (row,) = found.selected_columns
    return found.where(*(holds(condition, row) for condition in way if condition is not lead))


def _is_of_resource(condition: Condition, row: ColumnElement[int]) -> Clause:
    one = t.resource.alias()
    return exists().where(one.c.row == row, _of_resource(condition, one))


def unindexed(column: ColumnElement[Any], other: Any) -> ColumnElement[Any]:
    """The same, which is never null, so that no index of it is walked: what else is asked leaves far less."""
    return func.coalesce(column, other)


def _own_column(condition: Condition) -> bool:
    return condition.parameter.name in ("_id", "_lastUpdated")


def _of_resource(condition: Condition, one: Any) -> Clause:
    """``_id`` and ``_lastUpdated``, which the resource's own row has."""
    clauses: list[Clause] = [one.c.type == condition.parameter.base]
    if condition.parameter.name == "_id" and condition.values:
        clauses.append(unindexed(one.c.deleted, false()) == false())
        clauses.append(one.c.id.in_([value.code for value in condition.values if isinstance(value, Token)]))
        return and_(*clauses)
    clauses.append(one.c.deleted == false())
    if condition.values:
        clauses.append(or_(*(_at(value, one.c.modified) for value in condition.values if isinstance(value, Range))))
    return and_(*clauses)


def _at(value: Range, column: ColumnElement[int]) -> Clause:
    """Whether a moment, one millisecond long, is in a range; with the bounds that make it a range of an index."""
    floors, ceilings, every = [], [], []
    for comparisons in value.alternatives:
        bounds = [(operator, int(bound) - (end == "high")) for end, operator, bound in comparisons]
        floors.append(max((bound for operator, bound in bounds if operator[0] == ">"), default=-_EVER))
        ceilings.append(min((bound for operator, bound in bounds if operator[0] == "<"), default=_EVER))
        every.append(and_(*(getattr(column, _OPERATORS[operator])(bound) for operator, bound in bounds)))
    return and_(or_(*every), column >= min(floors), column <= max(ceilings))


def _indexed(condition: Condition, *, probing: bool = False) -> list[tuple[Any, Clause]]:
    """Aliases of the index tables in which ``condition`` is looked up, each with what has to hold in it.

    ``probing``: the resource is known, and leaves fewer rows than any range would.
    """
    kind = condition.parameter.type
    if kind in ("date", "quantity"):
        return _spans(condition, probing=probing)
    if kind == "string":
        index: Any = t.string.alias()
        texts = [_reads(value, index) for value in condition.values if isinstance(value, Text)]
        here = _numbered(index, condition.number, probing=probing)
        return [(index, and_(here, *([or_(*texts)] if texts else [])))]
    index = t.token.alias()
    tokens = [value for value in condition.values if isinstance(value, Token)]
    return [(index, and_(index.c.parameter == condition.number, *_tokens(tokens, index)))]


def _tokens(values: Sequence[Token], index: Any) -> list[Clause]:
    if not values:
        return []
    if all(value.system is None for value in values):
        codes = [value.code for value in values]
        return [index.c.code == codes[0] if len(codes) == 1 else index.c.code.in_(codes)]
    return [or_(*(_token(value, index) for value in values))]


def _token(value: Token, index: Any) -> Clause:
    clauses = [] if value.code is None else [index.c.code == value.code]
    return and_(*clauses, *([] if value.system is None else [index.c.system == value.system]))


def _reads(value: Text, index: Any) -> Clause:
    if value.how == "contains":
        contains: Clause = index.c.folded.contains(value.folded, autoescape=True)
        return contains
    starts = and_(index.c.folded >= value.folded, index.c.folded < value.folded + _LAST)
    return and_(starts, index.c.value == value.text) if value.how == "exact" else starts


def _numbered(index: Any, number: int, *, probing: bool) -> Clause:
    column: ColumnElement[int] = unindexed(index.c.parameter, 0) if probing else index.c.parameter
    return column == number


def _spans(condition: Condition, *, probing: bool) -> list[tuple[Any, Clause]]:
    """Short spans, and for dates the long ones apart: of the short ones an index gives those that can hold at all."""
    ranges = [value for value in condition.values if isinstance(value, Range)]
    found = []
    for number in [condition.number] + [long_number(condition.parameter)] * (condition.parameter.type == "date"):
        index = t.span.alias()
        ends = {"low": index.c.low, "high": index.c.high}
        clauses = [_numbered(index, number, probing=probing)]
        if ranges:
            short = number == condition.number and condition.parameter.type == "date"
            clauses.append(or_(*(_span(value, index, ends, short=short) for value in ranges)))
        found.append((index, and_(*clauses)))
    return found


def _span(value: Range, index: Any, ends: dict[str, Any], *, short: bool) -> Clause:
    clauses = [_within(value, ends)]
    if short and value.floor > -SHORT * 1e9:
        clauses.append(index.c.low >= value.floor)
    if value.ceiling < SHORT * 1e9:
        clauses.append(index.c.low <= value.ceiling)
    if value.unit.startswith("|"):
        clauses.append(index.c.unit.endswith(value.unit, autoescape=True))
    elif value.unit:
        clauses.append(index.c.unit == value.unit)
    return and_(*clauses)


def _within(value: Range, ends: dict[str, Any]) -> Clause:
    """``ends``: the columns of low and high."""

    def one(comparison: Comparison) -> Clause:
        end, operator, bound = comparison
        clause: Clause = getattr(ends[end], _OPERATORS[operator])(bound)
        return clause

    return or_(*(and_(*map(one, comparisons)) for comparisons in value.alternatives))


def _referring(condition: Condition, target: str, inner: Condition) -> Select[Any]:
    """What refers to a resource of the type ``target`` for which ``inner`` holds."""
    index, one = t.token.alias(), t.resource.alias()
    found = select(one.c.id).where(one.c.row.in_(rows(inner)), unindexed(one.c.type, "") == target)
    return select(index.c.resource).where(
        index.c.parameter == condition.number, index.c.code.in_(found), index.c.system == target
    )


def _refers(condition: Condition, target: str, inner: Condition, row: ColumnElement[int]) -> Clause:
    index, one = t.token.alias(), t.resource.alias()
    there = select(literal(1)).where(one.c.type == target, one.c.id == index.c.code, holds(inner, one.c.row))
    here = (index.c.resource == row, index.c.parameter == condition.number, index.c.system == target)
    return exists().where(*here, there.correlate(index).exists())


def _referred(condition: Condition, source: str, inner: Condition) -> Select[Any]:
    """What is referred to by a resource for which ``inner`` holds."""
    index, one = t.token.alias(), t.resource.alias()
    links = select(index.c.system, index.c.code).where(
        index.c.parameter == condition.number, index.c.resource.in_(rows(inner))
    )
    found = links.subquery()
    return select(one.c.row.label("resource")).where(one.c.type == found.c.system, one.c.id == found.c.code)


def _is_referred(condition: Condition, source: str, inner: Condition, row: ColumnElement[int]) -> Clause:
    index, one = t.token.alias(), t.resource.alias()
    linked = (index.c.parameter == condition.number, index.c.code == one.c.id, index.c.system == one.c.type)
    return exists().where(one.c.row == row, exists().where(*linked, holds(inner, index.c.resource)))


def merged(conditions: Sequence[Condition]) -> list[Condition]:
    """The same conditions, those on one date as one: each date has one value, and two ends make a range of an index."""
    dates: dict[str, Condition] = {}
    others = []
    for condition in conditions:
        simple = condition.parameter.type == "date" and len(condition.values) == 1 and not condition.negated
        if simple and not condition.chained and not condition.reverse:
            known = dates.get(condition.parameter.name)
            both = _both(known, condition) if known else condition
            if len(_range(both).alternatives) <= _ALTERNATIVES:
                dates[condition.parameter.name] = both
                continue
        others.append(condition)
    return [*others, *dates.values()]


def _both(one: Condition, other: Condition) -> Condition:
    first, second = _range(one), _range(other)
    pairs = tuple((*a, *b) for a in first.alternatives for b in second.alternatives)
    both = Range(pairs, max(first.floor, second.floor), min(first.ceiling, second.ceiling))
    return Condition(one.parameter, one.number, (both,), name=one.name)


def _range(condition: Condition) -> Range:
    (value,) = condition.values
    assert isinstance(value, Range)
    return value
