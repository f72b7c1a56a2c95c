"""Which modality was given which step and when, and which steps nobody fetched in time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, Row, Select, Table, and_, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from bridge.model import StepStatus
from bridge.store import worklist_tables as t
from bridge.store.schema import metadata

served = Table(
    "worklist_served",
    metadata,
    Column("item", t.ROW, primary_key=True),
    Column("ae_title", t.KEY, primary_key=True),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
)
"""A step was in the answer to this AE title's query; times in milliseconds."""

unfetched = Table(
    "worklist_unfetched",
    metadata,
    Column("item", t.ROW, primary_key=True),
    Column("at", BigInteger, nullable=False),
)
"""Steps for which the alert was raised that nobody had fetched them in time."""

TABLES = (served, unfetched)

Note = tuple[int, str, int, int, int]
"""Item, AE title, first and last time in milliseconds, how often."""

Read = Callable[[Select[Any]], Sequence[Row[Any]]]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A modality's having been given a step."""

    ae_title: str
    first_at: int
    last_at: int
    times: int


def _insert(tx: Connection, table: Table) -> Any:
    """An INSERT that can say what becomes of a row that is there."""
    return (postgresql if tx.dialect.name == "postgresql" else sqlite).insert(table)


def note(tx: Connection, notes: Sequence[Note]) -> None:
    """Add to what is noted."""
    adding = _insert(tx, served)
    adding = adding.on_conflict_do_update(
        index_elements=["item", "ae_title"],
        set_={"last_at": adding.excluded.last_at, "times": served.c.times + adding.excluded.times},
    )
    tx.execute(adding, [dict(zip(served.c.keys(), one, strict=True)) for one in sorted(notes)])


def fetches(read: Read, items: Collection[int]) -> dict[int, list[Fetch]]:
    """Who was given these items, the first one first."""
    found: dict[int, list[Fetch]] = {}
    wanted = select(served).where(served.c.item.in_(sorted(items))).order_by(served.c.first_at, served.c.ae_title)
    for row in read(wanted):
        found.setdefault(row.item, []).append(Fetch(row.ae_title, row.first_at, row.last_at, row.times))
    return found


def alerted(read: Read, items: Collection[int]) -> set[int]:
    """Those that raised the alert, and that nobody has fetched since."""
    nobody = ~select(served.c.item).where(served.c.item == unfetched.c.item).exists()
    wanted = select(unfetched.c.item).where(unfetched.c.item.in_(sorted(items)), nobody)
    return {row.item for row in read(wanted)}


def count_unfetched(read: Read) -> int:
    """How many scheduled steps raised the alert and were not fetched since."""
    nobody = ~select(served.c.item).where(served.c.item == unfetched.c.item).exists()
    wanted = select(func.count()).select_from(unfetched.join(t.item, t.item.c.id == unfetched.c.item))
    return int(read(wanted.where(nobody, t.item.c.status == StepStatus.SCHEDULED))[0][0])


def raise_alerts(tx: Connection, after: datetime, before: datetime) -> list[tuple[int, list[str]]]:
    """Scheduled steps due between two local times that nobody fetched, each told once: item, stations."""
    item = t.item.c
    since, until = ((one.strftime("%Y%m%d"), one.strftime("%H%M%S%f")) for one in (after, before))
    late = [
        item.status == StepStatus.SCHEDULED,
        item.start_date >= since[0],
        item.start_date <= until[0],
        or_(item.start_date > since[0], and_(item.start_date == since[0], item.start_time >= since[1])),
        or_(item.start_date < until[0], and_(item.start_date == until[0], item.start_time <= until[1])),
        ~select(served.c.item).where(served.c.item == item.id).exists(),
        ~select(unfetched.c.item).where(unfetched.c.item == item.id).exists(),
    ]
    now = literal(int(before.timestamp() * 1000))
    due = select(item.id, now).where(*late).order_by(item.id).limit(1000)
    telling = _insert(tx, unfetched).from_select(["item", "at"], due).on_conflict_do_nothing()
    found = sorted(tx.execute(telling.returning(unfetched.c.item)).scalars())
    stations: dict[int, list[str]] = {number: [] for number in found}
    for row in tx.execute(select(t.station.c.item, t.station.c.ae_title).where(t.station.c.item.in_(found))):
        stations[row.item].append(row.ae_title)
    return list(stations.items())
