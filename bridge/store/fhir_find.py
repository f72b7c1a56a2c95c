"""Which resources a FHIR search finds, page by page.

If one condition leaves few resources, those are looked at, whatever else is asked and however it is
sorted. Else the resources are walked in the sequence that is asked for until the page is full. A page begins behind the
last resource of the one before, so that what is written in between moves nothing.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    false,
    func,
    or_,
    select,
)

from bridge.errors import Refused
from bridge.fhir.index import keyed, long_number
from bridge.fhir.parameters import Parameter
from bridge.fhir.query import Condition, Query
from bridge.fhir.ranges import Range
from bridge.fhir.values import Token
from bridge.store import fhir_tables as t
from bridge.store.fhir_conditions import Clause, holds, leading, merged, rows, unindexed
from bridge.store.prepared import Prepared

FEW = 4000
"""So many rows are looked at one by one in about ten milliseconds."""
_ENOUGH = 100
"""A condition that leaves so few is taken without asking what the others would leave."""

_QUICK = 200
"""So many are counted without being asked."""

_FIRST, _LAST = "", "\U0010ffff"
_LOWEST, _HIGHEST = -1e300, 1e300
_ROWS = 1 << 63


@dataclass(frozen=True, slots=True)
class Found:
    rows: list[int]
    """In their sequence."""
    cursor: str
    """Where the next page begins; empty on the last one."""
    total: int | None


def find(
    connection: Connection, query: Query, cursor: str = "", more: Sequence[Condition] = (), few: int = FEW
) -> Found:
    """One page of ``query``, whose ``conditions`` and ``more`` all hold. Raises Refused for a cursor that is none."""
    return _Search(connection, query, more, few).page(cursor)


class _Search:
    def __init__(self, connection: Connection, query: Query, more: Sequence[Condition], few: int) -> None:
        self._connection, self._query = connection, query
        self._conditions = merged([*query.conditions, *more])
        self._keys = [_Key(parameter, down) for parameter, down in query.sort]
        # the more has to hold, the farther a walk goes from match to match; looking up a key takes as long as a row
        own = all(key.table is None for key in self._keys)
        self._most = few * max(len(self._conditions), 1) // (1 if own else 2)
        self._known: dict[Condition, int | None] = {}
        """How many rows conditions leave."""
        self._made: dict[Condition, Select[Any]] = {}
        """Making a statement takes longer than running it."""
        alone = len(self._conditions) == 1 and not self._keys and _one_code(self._conditions[0])
        self._count, self._driver = (None, self._conditions[0]) if alone else self._choose()

    def page(self, cursor: str) -> Found:
        size = 0 if self._query.summary == "count" else self._query.count
        after = self._after(cursor) if cursor else None
        found = self._rows(size + 1, after) if size else []
        page = found[:size]
        ends = len(found) <= size
        known = len(found) if ends and not cursor and size else None
        total = self._total(known)
        return Found([row[-1] for row in page], "" if ends else _written(page[-1]), total)

    def _total(self, known: int | None) -> int | None:
        wanted = self._query.total
        exact = wanted in ("accurate", "estimate") or self._query.summary == "count" or self._query.count == 0
        if wanted == "none":
            return None
        if known is not None:
            return known
        if not exact and self._driver and self._count is None:
            self._count = self._few(self._driver)
        if not exact and (self._driver is None or self._count is None or self._count > _QUICK):
            return None
        one = t.resource.alias()
        where = [*self._where(one), *self._hold(one.c.row, self._driver, one)]
        return int(self._connection.execute(select(func.count()).select_from(one).where(*where)).scalar_one())

    def _choose(self) -> tuple[int | None, Condition | None]:
        """The condition that leaves the fewest rows, and how many, if it leaves few."""
        best: tuple[int, Condition | None] = (self._most + 1, None)
        for condition in self._conditions:
            count = self._few(condition)
            if count is not None and count < best[0]:
                best = (count, condition)
                if count < _ENOUGH:
                    break
        return best

    def _few(self, condition: Condition) -> int | None:
        """How many rows it leaves; None for many. A condition about others is only followed from few of those."""
        if condition.negated:
            return None
        if condition not in self._known:
            self._known[condition] = self._counted(condition)
        return self._known[condition]

    def _counted(self, condition: Condition) -> int | None:
        inner = [one for _, one in condition.chained] + ([condition.reverse[1]] if condition.reverse else [])
        leads = [leading(way) for way in condition.any_of or ()]
        if any(one is None or self._few(one) is None for one in [*inner, *leads]):
            return None
        if _one_code(condition):
            statement, values = _of_code(_COUNTS, condition, most=self._most + 1)
            count = int(statement.rows(self._connection, values)[0][0])
        else:
            some = self._rows_of(condition).limit(self._most + 1).subquery()
            count = int(self._connection.execute(select(func.count()).select_from(some)).scalar_one())
        return count if count <= self._most else None

    def _rows_of(self, condition: Condition) -> Select[Any]:
        if condition not in self._made:
            self._made[condition] = rows(condition)
        return self._made[condition]

    def _where(self, one: Any) -> list[Clause]:
        if self._driver is None:
            return [one.c.type == self._query.kind, one.c.deleted == false()]
        few = self._rows_of(self._driver).cte("few").prefix_with("MATERIALIZED")
        here = unindexed(one.c.type, "") == self._query.kind
        return [one.c.row.in_(select(few.c.resource)), here, unindexed(one.c.deleted, false()) == false()]

    def _hold(self, row: ColumnElement[int], but: Condition | None = None, one: Any = None) -> list[Clause]:
        return [holds(condition, row, one) for condition in self._conditions if condition is not but]

    def _rows(self, limit: int, after: list[Any] | None) -> list[Sequence[Any]]:
        """Sort keys and row of what comes next."""
        if not self._keys and (self._driver is None or _one_code(self._driver)):
            return self._by_row(limit, after)
        if self._driver is None and len(self._keys) == 1 and self._keys[0].table is not None:
            return self._by_key(self._keys[0], limit, after)
        one = t.resource.alias()
        keys = [key.of(one) for key in self._keys]
        wanted = select(*keys, one.c.row).where(*self._where(one), *self._hold(one.c.row, self._driver, one))
        columns, down = [*keys, one.c.row], [key.down for key in self._keys]
        down.append(down[-1] if down else False)
        if after is not None:
            wanted = wanted.where(_behind(columns, down, after))
        ordered = [_ordered(column, falls) for column, falls in zip(columns, down, strict=True)]
        return list(self._connection.execute(wanted.order_by(*ordered).limit(limit)).all())

    def _by_row(self, limit: int, after: list[Any] | None) -> list[Sequence[Any]]:
        """By age, along the index of a condition on one code, if there is one; else along all of the type."""
        along = self._driver or next((condition for condition in self._conditions if _one_code(condition)), None)
        if along is not None and len(self._conditions) == 1:
            statement, values = _of_code(_WALKS, along, most=limit, after=after[-1] if after else -1)
            return list(statement.rows(self._connection, values))
        if along is None:
            one = t.resource.alias()
            row, where = one.c.row, [*self._where(one), *self._hold(one.c.row, one=one)]
        else:
            index = t.token.alias()
            value = along.values[0]
            assert isinstance(value, Token)
            row, where = index.c.resource, [index.c.parameter == along.number, index.c.code == value.code]
            where += [] if value.system is None else [index.c.system == value.system]
            where += self._hold(row, along)
        if after is not None:
            where.append(row > after[-1])
        wanted = select(row).where(*where).order_by(row).limit(limit)
        if along is not None:
            wanted = wanted.distinct()
        return list(self._connection.execute(wanted).all())

    def _by_key(self, key: _Key, limit: int, after: list[Any] | None) -> list[Sequence[Any]]:
        """Along the index of the sort key; those that lack it come last."""
        found: list[Sequence[Any]] = []
        none = key.none
        asked = [one for one in self._conditions if one.parameter is key.parameter and not one.negated]
        if after is None or after[0] != none:
            for statement in key.walks(after, asked):
                row = statement.selected_columns[1]
                found += self._connection.execute(statement.where(*self._hold(row)).limit(limit)).all()
            found.sort(key=lambda row: (row[0], row[1]), reverse=key.down)
        if len(found) < limit and not asked:
            one = t.resource.alias()
            where = [*self._where(one), key.lacking(one.c.row), *self._hold(one.c.row, one=one)]
            if after is not None and after[0] == none:
                where.append(_behind([one.c.row], [key.down], after[1:]))
            wanted = select(one.c.row).where(*where).order_by(_ordered(one.c.row, key.down)).limit(limit - len(found))
            found += [(none, row) for (row,) in self._connection.execute(wanted)]
        return found[:limit]

    def _after(self, cursor: str) -> list[Any]:
        """The keys and the row that a cursor names."""
        try:
            after = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        except (ValueError, RecursionError):
            after = None
        fits = isinstance(after, list) and len(after) == len(self._keys) + 1
        fits = fits and all(_is_key(one, text=key.text) for one, key in zip(after, self._keys, strict=False))
        if not fits or type(after[-1]) is not int or not 0 <= after[-1] < _ROWS:
            raise Refused("not a page of this search", at="_cursor", fix="follow the links of the pages", kind="search")
        found: list[Any] = after
        return found


def _is_key(value: Any, *, text: bool) -> bool:
    """Whether a key that a cursor names is one that an index can have."""
    if text:
        return isinstance(value, str) and keyed(value) == value
    return (type(value) is int and abs(value) < _ROWS) or (type(value) is float and not math.isnan(value))


def _written(row: Row[Any] | Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(row)).encode()).decode()


def _one_code(condition: Condition) -> bool:
    own = condition.parameter.name in ("_id", "_lastUpdated")
    values = condition.values
    simple = len(values) == 1 and isinstance(values[0], Token) and values[0].code is not None
    return simple and not own and not condition.negated


def _coded(*, system: bool) -> Select[Any]:
    """The rows (perhaps repeated) of a code."""
    row = t.token.c.resource
    where = [t.token.c.parameter == bindparam("number"), t.token.c.code == bindparam("code"), row > bindparam("after")]
    where += [t.token.c.system == bindparam("system")] if system else []
    return select(row).where(*where).limit(bindparam("most", type_=Integer))


_CODED = {system: _coded(system=system) for system in (False, True)}
_WALKS = {system: Prepared(coded.distinct().order_by(t.token.c.resource)) for system, coded in _CODED.items()}
_COUNTS = {system: Prepared(select(func.count()).select_from(coded.subquery())) for system, coded in _CODED.items()}


def _of_code(
    statements: Mapping[bool, Prepared], condition: Condition, *, most: int, after: int = -1
) -> tuple[Prepared, dict[str, Any]]:
    """One of ``statements`` for a condition of one code, and the values of its parameters."""
    value = condition.values[0]
    assert isinstance(value, Token)
    values = {"number": condition.number, "code": value.code, "system": value.system, "most": most, "after": after}
    return statements[value.system is not None], values


def _behind(columns: Sequence[ColumnElement[Any]], down: Sequence[bool], after: Sequence[Any]) -> Clause:
    """What comes after these values in the sequence of ``columns``."""
    steps = []
    for place, (column, falls) in enumerate(zip(columns, down, strict=True)):
        same = [columns[earlier] == after[earlier] for earlier in range(place)]
        steps.append(and_(*same, column < after[place] if falls else column > after[place]))
    return or_(*steps)


def _ordered(column: ColumnElement[Any], down: bool) -> ColumnElement[Any]:
    return column.desc() if down else column.asc()


class _Key:
    """A parameter to sort by."""

    def __init__(self, parameter: Parameter, down: bool) -> None:
        self.parameter, self.down = parameter, down
        own = parameter.name in ("_id", "_lastUpdated")
        kind = parameter.type
        self.text = parameter.name == "_id" or kind not in ("date", "quantity")
        table = t.string if kind == "string" else t.span if kind in ("date", "quantity") else t.token
        self.table = None if own else table
        self._column = "folded" if kind == "string" else "low" if kind in ("date", "quantity") else "code"
        self._numbers = [parameter.number] + ([long_number(parameter)] if kind == "date" else [])

    @property
    def none(self) -> Any:
        """What stands for a value that a resource lacks."""
        if self.text:
            return _FIRST if self.down else _LAST
        return _LOWEST if self.down else _HIGHEST

    def of(self, one: Any) -> ColumnElement[Any]:
        """The key of a row of the resource table."""
        if self.table is None:
            column: ColumnElement[Any] = one.c.id if self.parameter.name == "_id" else one.c.modified
            return column
        index = self.table.alias()
        value = index.c[self._column]
        least = select(func.max(value) if self.down else func.min(value))
        least = least.where(index.c.resource == one.c.row, index.c.parameter.in_(self._numbers))
        return func.coalesce(least.correlate(one).scalar_subquery(), self.none)

    def walks(self, after: list[Any] | None, asked: Sequence[Condition]) -> list[Select[Any]]:
        """Key and row along the index, each row once: by its least value, or greatest when it goes down.

        Not farther than ``asked`` leads, the conditions about this parameter, which are looked at besides.
        """
        assert self.table is not None
        ranges = [one.values[0] for one in asked if len(one.values) == 1]
        statements = []
        for number in self._numbers:
            index, other = self.table.alias(), self.table.alias()
            value, row = index.c[self._column], index.c.resource
            where: list[Clause] = [index.c.parameter == number]
            if self.parameter.type != "date":
                another = other.c[self._column]
                beyond = another > value if self.down else another < value
                where.append(~exists().where(other.c.resource == row, other.c.parameter == number, beyond))
            else:
                where += [value <= one.ceiling for one in ranges if isinstance(one, Range) and one.ceiling < _HIGHEST]
                if number == self.parameter.number:
                    where += [value >= one.floor for one in ranges if isinstance(one, Range) and one.floor > _LOWEST]
            if after is not None:
                where.append(value <= after[0] if self.down else value >= after[0])
                where.append(_behind([value, row], [self.down, self.down], after))
            sequence = [_ordered(value, self.down), _ordered(row, self.down)]
            statements.append(select(value, row).where(*where).order_by(*sequence))
        return statements

    def lacking(self, row: ColumnElement[int]) -> Clause:
        assert self.table is not None
        index = self.table.alias()
        return ~exists().where(index.c.resource == row, index.c.parameter.in_(self._numbers))
