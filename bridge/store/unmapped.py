"""Codes that a table has no row for: counted as they are met, so that what a rule passes is visible (law 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Insert, Integer, String, Table, cast, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from bridge.model import Unmapped
from bridge.store import schema as t
from bridge.store.retention import day_of, now_millis

unmapped_code = Table(
    "unmapped_code",
    t.metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("name", t.NAME, primary_key=True),
    Column("columns", String(255), primary_key=True),
    Column("code", String(255), primary_key=True),
    Column("outcome", String(12), primary_key=True),
    Column("messages", Integer, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("example", t.ID, nullable=False),
)
"""Codes that the table ``name`` has no row for (:class:`bridge.model.Unmapped`), counted by the day they were met."""

_KEY = ("day", "name", "columns", "code", "outcome")
_NAME, _TEXT = 64, 255
"""Characters that are kept of a table's name, and of its columns and codes."""


@dataclass(frozen=True, slots=True)
class UnmappedCode:
    """One code without a row, and how often it was met."""

    table: str
    columns: str
    """The key columns, parted by commas."""
    code: str
    """The keys, parted by ``|``; empty where they are not kept, as of the patient's own segments."""
    outcome: str
    """``passed``, ``emptied``, ``replaced``, ``parked`` or ``refused``."""
    messages: int
    """Once for each destination, and once more for each replay."""
    last: int
    """Milliseconds."""
    example: str
    """Id of the newest message."""


def count(tx: Connection, met: Iterable[tuple[str, Unmapped]]) -> None:
    """Count codes, each with the id of its message."""
    now = now_millis()
    newest, counts = {}, Counter[tuple[Any, ...]]()
    for message, one in met:
        key = (day_of(now), one.table[:_NAME], one.columns[:_TEXT], one.code[:_TEXT], one.outcome)
        counts[key] += 1
        newest[key] = message
    rows = [
        {**dict(zip(_KEY, key, strict=True)), "messages": counts[key], "last": now, "example": newest[key]}
        for key in sorted(counts)
    ]
    tx.execute(_upsert(tx), rows)


def _upsert(tx: Connection) -> Insert:
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    adding = insert(unmapped_code)
    new, old = adding.excluded, unmapped_code.c
    changed = {"messages": old.messages + new.messages, "last": new.last, "example": new.example}
    return adding.on_conflict_do_update(index_elements=_KEY, set_=changed)


def unmapped_codes(connection: Connection, since: int, table: str = "") -> list[UnmappedCode]:
    """What was met since then (milliseconds; whole days, UTC), the most frequent of each table first."""
    c = unmapped_code.c
    times, last, example = cast(func.sum(c.messages), Integer), func.max(c.last), func.max(c.example)
    query = (
        select(c.name, c.columns, c.code, c.outcome, times, last, example)
        .where(c.day >= day_of(since))
        .group_by(c.name, c.columns, c.code, c.outcome)
        .order_by(c.name, times.desc(), c.columns, c.code, c.outcome)
    )
    return [UnmappedCode(*row) for row in connection.execute(query.where(c.name == table) if table else query)]


def forget(tx: Connection, day: int) -> None:
    """Forget the days before ``day``."""
    tx.execute(delete(unmapped_code).where(unmapped_code.c.day < day))
