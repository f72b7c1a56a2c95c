"""What a search brings besides its matches: `_include` and `_revinclude` (R4 search, 3.1.1.5.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection, select

from bridge.errors import Refused
from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.query import Include, Query
from bridge.store import fhir_rows
from bridge.store import fhir_tables as t
from bridge.store.fhir_rows import Stored

MOST = 5000
"""More is refused."""
_ROUNDS = 8
"""How far ``:iterate`` goes."""


def included(
    connection: Connection,
    query: Query,
    matches: Sequence[Stored],
    seen: Callable[[Collection[Stored]], list[Stored]],
) -> list[Stored]:
    """The resources to show with ``matches``, each once; of what is found, what is ``seen``. Raises Refused when they
    are too many."""
    known = {one.row for one in matches}
    found: list[Stored] = []
    last = list(matches)
    for depth in range(_ROUNDS):
        new: dict[int, Stored] = {}
        for include in query.includes:
            if depth == 0 or include.iterate:
                new |= {one.row: one for one in _referred(connection, include, last)}
        for include in query.revincludes:
            if depth == 0 or include.iterate:
                new |= {one.row: one for one in _referring(connection, include, last)}
        last = seen([one for row, one in new.items() if row not in known])
        known |= new.keys()
        found += last
        if len(found) > MOST:
            raise Refused("too many resources to include", at="_include", fix="ask for smaller pages", kind="search")
        if not last:
            break
    return found


def _referred(connection: Connection, include: Include, sources: Sequence[Stored]) -> list[Stored]:
    rows = [one.row for one in sources if one.type == include.kind]
    targets: dict[str, set[str]] = defaultdict(set)
    for part in fhir_rows.chunks(rows):
        where = [t.token.c.resource.in_(part), t.token.c.parameter.in_(_numbers(include)), t.token.c.system != ""]
        if include.target:
            where.append(t.token.c.system == include.target)
        for kind, identifier in connection.execute(select(t.token.c.system, t.token.c.code).where(*where)):
            targets[kind].add(identifier)
    return [one for kind, ids in sorted(targets.items()) for one in fhir_rows.of_ids(connection, kind, ids)]


def _referring(connection: Connection, include: Include, targets: Sequence[Stored]) -> list[Stored]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for one in targets:
        if include.target in ("", one.type):
            kinds[one.type].append(one.id)
    rows: set[int] = set()
    for kind, identifiers in kinds.items():
        rows.update(fhir_rows.referring(connection, _numbers(include), kind, identifiers))
    return fhir_rows.of_rows(connection, sorted(rows)[: MOST + 1])


def _numbers(include: Include) -> list[int]:
    """The numbers of its search parameter, or of every reference of its type."""
    known = PARAMETERS[include.kind].values()
    return [one.number for one in known if one.type == "reference" and include.parameter in ("", one.name)]
