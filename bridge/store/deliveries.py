"""Claiming: which deliveries of a destination may go now, in sequence (law 4)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    CTE,
    BindParameter,
    Connection,
    FromClause,
    Label,
    Row,
    Select,
    Table,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
)

from bridge.message import SHARED, Delivery, DeliveryStatus
from bridge.store import schema as t
from bridge.store.database import now_ms
from bridge.store.prepared import Prepared, PreparedIn

WINDOW_BYTES = 8 << 20
"""A claim stops growing once the messages in it are this large together; it always holds at least one."""
_LOOK_AHEAD = 64
"""Pending deliveries of a destination that are looked at to tell why it waits."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery ready to be looked at by its owner, with the message it carries."""

    delivery: Delivery
    raw: bytes
    format: str
    control_id: str
    charset: str
    wait_ms: int
    """Milliseconds until its retry is due; 0 or less means now. Counted on the database's clock."""
    fresh: bool = False
    """Accepted a moment ago: its context tells who its patients are now."""
    parsed: Any = field(default=None, repr=False)
    """The message as it was read, where it still is at hand."""


@dataclass(frozen=True, slots=True)
class Front:
    """What a claim saw of its destination besides the deliveries."""

    shuffles: int
    last: int
    """Every position up to this one had been allotted; later ones may have been."""
    parked: bool
    """A dead delivery holds a key."""
    more: bool
    """There may be more than was claimed."""


_DELIVERY = [column for column in t.delivery.c if column.name not in ("changed_at",)]


def _held(destination: BindParameter[str]) -> CTE:
    """Keys that nothing past a position may pass: parked ones, and the other keys of what waits behind them (a merge
    that waits for one patient holds the other one too).

    As a sum, the position is no place to begin a search at: it would run through all that waits, for each held key.
    """
    parked, first, second = t.parked_key.alias("p"), t.delivery_key.alias("first"), t.delivery_key.alias("second")
    held = select(_holds_up(parked, t.parked_key), parked.c.position).where(parked.c.destination == destination)
    found = held.cte("held", recursive=True)
    its_position = first.c.position + literal_column("0")
    together = (second.c.destination == destination) & (second.c.position == its_position)
    behind = (first.c.destination == destination) & (first.c.key == found.c.key) & (first.c.position > found.c.position)
    return found.union(
        select(_holds_up(second, t.delivery_key), second.c.position)
        .select_from(found)
        .join(first, behind)
        .join(second, together & (second.c.key != first.c.key))
        .where(found.c.key.not_in([literal_column("''"), literal_column("'-'")]))
    )


def _holds_up(held: FromClause, table: Table) -> Label[str]:
    """The key that must not pass a held one: of a shared key, the same key held alone."""
    key, other = held.c.key, table.alias()
    bare = func.substr(key, literal_column("2"))
    mine = (other.c.destination == held.c.destination) & (other.c.position == held.c.position)
    alone = select(other.c.key).where(mine, other.c.key == bare)
    is_shared = (
        func.substr(key, literal_column("1"), literal_column("1")) == literal_column(f"'{SHARED}'")
    ) & ~alone.exists()
    return case((is_shared, bare), else_=key).label("key")


def _window() -> Select[Any]:
    destination: BindParameter[str] = bindparam("destination")
    key, held = t.delivery_key.alias("k"), _held(destination)
    passed = (key.c.key == held.c.key) & (key.c.position > held.c.position)
    behind_a_dead_one = select(key.c.position).join(held, passed).where(key.c.destination == destination)
    is_parked = select(t.parked_key.c.key).where(t.parked_key.c.destination == destination)
    return (
        select(
            *_DELIVERY,
            t.message.c.size,
            t.message.c.format,
            t.message.c.control_id,
            t.message.c.charset,
            (t.delivery.c.retry_at - now_ms()).label("wait_ms"),
        )
        .join(t.message, (t.message.c.day == t.delivery.c.day) & (t.message.c.id == t.delivery.c.message))
        .where(
            t.delivery.c.destination == destination,
            t.delivery.c.status == DeliveryStatus.PENDING.value,
            t.delivery.c.position > bindparam("after"),
            or_(~is_parked.exists(), t.delivery.c.position.not_in(behind_a_dead_one)),
        )
        .order_by(t.delivery.c.position)
        .limit(bindparam("limit"))
    )


_WINDOW = Prepared(_window())
_LAST = Prepared(select(t.lane_position.c.last).where(t.lane_position.c.destination == bindparam("destination")))
_SHUFFLES = Prepared(
    select(
        t.lane_position.c.shuffles,
        select(t.parked_key.c.key).where(t.parked_key.c.destination == t.lane_position.c.destination).exists(),
    ).where(t.lane_position.c.destination == bindparam("destination"))
)
_KEYS = PreparedIn(
    lambda positions: select(t.delivery_key.c.position, t.delivery_key.c.key).where(
        t.delivery_key.c.destination == bindparam("destination"), t.delivery_key.c.position.in_(positions)
    )
)
_RAWS = PreparedIn(
    lambda ids: select(t.message.c.id, t.message.c.raw).where(
        t.message.c.day == bindparam("day"), t.message.c.id.in_(ids)
    )
)


def claim(connection: Connection, destination: str, after: int, limit: int) -> tuple[list[Owed], Front]:
    """The next pending deliveries of ``destination`` past position ``after``, lowest first, and what else was seen.

    Those that wait behind a dead delivery on one of their keys are left out. The caller owns the destination. When
    the shuffle count differs from the former claim's, only a claim from position 0 tells the true sequence.
    """
    named = {"destination": destination}
    last = _LAST.run(connection, named).scalar_one()
    owed, more = _claim(connection, destination, after, limit)
    shuffles, parked = _SHUFFLES.run(connection, named).one()
    return owed, Front(shuffles, last, bool(parked), more)


def _claim(connection: Connection, destination: str, after: int, limit: int) -> tuple[list[Owed], bool]:
    rows: list[Row[Any]] = []
    size, more = 0, False
    for row in _WINDOW.run(connection, {"destination": destination, "after": after, "limit": limit}):
        size += row.size
        if rows and size > WINDOW_BYTES:
            more = True
            break
        rows.append(row)
    if not rows:
        return [], False
    keys = _keys(connection, destination, [row.position for row in rows])
    raws = _raws(connection, {(row.day, row.message) for row in rows})
    owed = [
        Owed(
            delivery=delivery_of(row, keys.get(row.position, ())),
            raw=raws[row.message],
            format=row.format,
            control_id=row.control_id,
            charset=row.charset,
            wait_ms=row.wait_ms,
        )
        for row in rows
    ]
    for one in owed:
        if one.delivery.suspected:
            one.delivery.repeats = _repeats(connection, one.delivery)
    return owed, more or len(rows) == limit


def _repeats(connection: Connection, delivery: Delivery) -> int:
    """How many of its attempts may have reached the destination."""
    a = t.attempt.c
    query = select(func.count()).where(a.day == delivery.day, a.delivery == delivery.id, a.outcome == t.SUSPECTED)
    return int(connection.execute(query).scalar_one())


def _keys(connection: Connection, destination: str, positions: list[int]) -> dict[int, tuple[str, ...]]:
    """Position -> lane keys, in their sequence."""
    found: dict[int, tuple[str, ...]] = {}
    for position, key in sorted(_KEYS.rows(connection, positions, destination=destination)):
        found[position] = (*found.get(position, ()), key)
    return found


def _raws(connection: Connection, messages: Iterable[tuple[int, str]]) -> dict[str, bytes]:
    by_day: dict[int, list[str]] = {}
    for day, identifier in messages:
        by_day.setdefault(day, []).append(identifier)
    return {
        identifier: bytes(raw)
        for day, identifiers in by_day.items()
        for identifier, raw in _RAWS.run(connection, identifiers, day=day)
    }


def delivery_of(row: Row[Any], keys: tuple[str, ...]) -> Delivery:
    """A row of the delivery table as a Delivery."""
    return Delivery(
        id=row.id,
        message=row.message,
        day=row.day,
        route=row.route,
        destination=row.destination,
        mapping=row.mapping,
        revision=row.revision,
        keys=keys,
        position=row.position,
        origin=row.origin,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        retry_at=row.retry_at,
        payload=bytes(row.payload) if row.payload is not None else None,
        context=json.loads(row.context) if row.context else {},
        error=json.loads(row.error) if row.error else None,
        suspected=bool(row.suspected),
        cause=row.cause,
        created_at=row.created_at,
    )


@dataclass(frozen=True, slots=True)
class LaneState:
    """A destination at a glance: what waits, what is dead, and what blocks the head."""

    destination: str
    pending: int
    dead: int
    parked_keys: int
    oldest: int
    """When the oldest pending delivery was created, milliseconds; 0 if none."""
    head: str
    head_error: dict[str, str] | None
    waits_for: dict[str, str] | None
    """Why the first pending delivery that was tried did not arrive; None when none failed yet."""
    waits_since: int
    """When it first failed, milliseconds; 0 if it did not."""
    next_try: int
    """When it is tried again, milliseconds; 0 if nothing waits."""


def lane_states(connection: Connection) -> list[LaneState]:
    """Every destination that has anything pending or dead, by name."""
    d = t.delivery.c
    counts: dict[str, dict[str, Any]] = {}
    query = select(d.destination, d.status, func.count(), func.min(d.created_at), func.min(d.position)).group_by(
        d.destination, d.status
    )
    for destination, status, count, oldest, first in connection.execute(query):
        counts.setdefault(destination, {})[status] = (count, oldest, first)
    parked_query = select(t.parked_key.c.destination, func.count()).group_by(t.parked_key.c.destination)
    parked = dict(connection.execute(parked_query).tuples().all())
    return [
        _lane_state(connection, destination, counts[destination], parked.get(destination, 0))
        for destination in sorted(counts)
    ]


def _lane_state(connection: Connection, destination: str, by_status: dict[str, Any], parked: int) -> LaneState:
    pending = by_status.get(DeliveryStatus.PENDING.value, (0, 0, None))
    dead = by_status.get(DeliveryStatus.DEAD.value, (0, 0, None))
    first = min(position for position in (pending[2], dead[2]) if position is not None)
    head = connection.execute(
        select(t.delivery.c.id, t.delivery.c.error).where(
            t.delivery.c.destination == destination, t.delivery.c.position == first
        )
    ).first()
    waiting = _first_failed(connection, destination)
    return LaneState(
        destination=destination,
        pending=pending[0],
        dead=dead[0],
        parked_keys=parked,
        oldest=pending[1] or 0,
        head=head.id if head else "",
        head_error=json.loads(head.error) if head and head.error else None,
        waits_for=json.loads(waiting.error) if waiting else None,
        waits_since=_first_attempt(connection, waiting.day, waiting.id) if waiting else 0,
        next_try=waiting.retry_at if waiting else 0,
    )


def _first_failed(connection: Connection, destination: str) -> Row[Any] | None:
    """Of the first pending deliveries, the first that failed and is to be tried again."""
    d = t.delivery.c
    query = (
        select(d.id, d.day, d.error, d.retry_at)
        .where(d.destination == destination, d.status == DeliveryStatus.PENDING.value)
        .order_by(d.position)
        .limit(_LOOK_AHEAD)
    )
    return next((row for row in connection.execute(query) if row.error), None)


def _first_attempt(connection: Connection, day: int, delivery: str) -> int:
    a = t.attempt.c
    return connection.execute(select(func.min(a.at)).where(a.day == day, a.delivery == delivery)).scalar() or 0
