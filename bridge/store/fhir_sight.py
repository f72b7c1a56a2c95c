"""What somebody may see of the FHIR projection, in SQL: a row that he does not see is not there for him."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import tzinfo

from sqlalchemy import Connection, exists, select

from bridge.errors import Refused
from bridge.fhir import query as queries
from bridge.fhir.query import Condition, Query, restriction
from bridge.fhir.rights import Sight
from bridge.store import fhir_rows
from bridge.store import fhir_tables as t
from bridge.store.fhir_conditions import Clause, holds
from bridge.store.fhir_rows import Stored


def guarded(query: Query, sight: Sight, zone: tzinfo) -> Query:
    """The search, following only to what is seen. Raises Refused for a type that may not be searched."""

    def hidden(kind: str) -> tuple[Condition, ...]:
        return restriction(kind, sight.restrict(kind), zone=zone)

    return replace(query, conditions=tuple(queries.guarded(one, hidden) for one in query.conditions))


def shown(connection: Connection, hidden: Sequence[Condition], one: Stored | None) -> Stored | None:
    """``one``, if it is there now and ``hidden`` holds for it."""
    return one if one and not one.deleted and among(connection, hidden, [one.row]) else None


def among(connection: Connection, hidden: Sequence[Condition], rows: Sequence[int]) -> set[int]:
    """Those of these rows for which ``hidden`` holds."""
    found: set[int] = set()
    for part in fhir_rows.chunks(rows):
        one = t.resource.alias()
        where = [one.c.row.in_(part), *(holds(condition, one.c.row, one) for condition in hidden)]
        found.update(connection.execute(select(one.c.row).where(*where)).scalars())
    return found


def seen(connection: Connection, sight: Sight, zone: tzinfo, found: Collection[Stored]) -> list[Stored]:
    """What of these resources, of any types, is seen."""
    rows: dict[str, list[int]] = defaultdict(list)
    for one in found:
        rows[one.type].append(one.row)
    left: set[int] = set()
    for kind, some in rows.items():
        try:
            hidden = restriction(kind, sight.restrict(kind, "read"), zone=zone)
        except Refused:
            continue
        left |= among(connection, hidden, some) if hidden else set(some)
    return [one for one in found if one.row in left]


def current(hidden: Sequence[Condition]) -> Clause:
    """Of a version: that it is the one that counts, of a resource for which ``hidden`` holds."""
    one = t.resource.alias()
    mine = (one.c.sequence == t.version.c.sequence, one.c.type == t.version.c.type, one.c.id == t.version.c.id)
    return exists().where(*mine, *(holds(condition, one.c.row, one) for condition in hidden))
