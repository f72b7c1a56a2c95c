"""Freezing and finishing: what is written before a delivery leaves, and after it left or failed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from bridge.errors import BridgeError
from bridge.message import Delivery, DeliveryStatus, check_change
from bridge.model import Unmapped
from bridge.ports import Answer
from bridge.store import schema as t
from bridge.store import unmapped
from bridge.store.database import now_ms
from bridge.store.prepared import Prepared, PreparedIn, PreparedInsert


class Fenced(BridgeError):
    """Another node owns the destination now: this result is not written, the owner sends the delivery again."""

    kind = "locked"


@dataclass(frozen=True, slots=True)
class Frozen:
    """The bytes and context a delivery will leave with, however often."""

    delivery: str
    payload: bytes | None
    context: dict[str, Any]


class Freeze:
    """Writes rendered bytes before the first attempt (law 5), and counts the codes that were met on the way.

    Items: lists of Frozen, each with the codes; results: None.
    """

    order = 20
    _statement = Prepared(
        update(t.delivery)
        .where(t.delivery.c.id == bindparam("d"))
        .values(payload=bindparam("p"), context=bindparam("c"))
    )

    def run(self, tx: Connection, items: Sequence[tuple[list[Frozen], Sequence[tuple[str, Unmapped]]]]) -> list[None]:
        rows = [
            {"d": one.delivery, "p": one.payload, "c": json.dumps(one.context) if one.context else None}
            for frozen, _ in items
            for one in frozen
        ]
        if rows:
            self._statement.many(tx, rows)
        met = [one for _, some in items for one in some]
        if met:
            unmapped.count(tx, met)
        return [None] * len(items)


@dataclass(slots=True)
class Finish:
    """How an attempt ended."""

    delivery: Delivery
    epoch: int
    """Of the lease under which it was sent."""
    status: DeliveryStatus
    """DONE, DEAD, or PENDING for another try."""
    answer: str = ""
    sent: bytes = b""
    retry_in: float = 0.0
    """Seconds until the next try; only with PENDING."""
    error: dict[str, str] | None = None
    counted: bool = True
    """False when the destination was away: the attempt does not spend the budget."""
    suspected: bool = False
    """This attempt may have reached the destination."""
    hold: bool = True
    """A dead delivery parks its lane keys."""
    apply: Callable[[Connection], Answer] | None = None
    """A projection's write, done in this transaction before the delivery is marked DONE."""


@dataclass(frozen=True, slots=True)
class Finished:
    answer: str = ""
    bells: frozenset[str] = field(default=frozenset())


class FinishStep:
    """Items: Finish; results: Finished, or the BridgeError that a projection or the fence raised."""

    order = 5
    """Before Accept: what a projection locks is locked before the counters of positions, by every node."""

    def run(self, tx: Connection, items: Sequence[Finish]) -> list[Any]:
        epochs = _epochs(tx, {item.delivery.destination for item in items})
        results: list[Any] = []
        ended: list[Finish] = []
        for item in items:
            destination = item.delivery.destination
            if epochs.get(destination) != item.epoch:
                results.append(Fenced(f"{destination} is owned by another node"))
                continue
            try:
                result = _write_one(tx, item)
            except BridgeError as error:
                results.append(error)
                continue
            results.append(result)
            if item.status is DeliveryStatus.DONE:
                ended.append(item)
        if ended:
            end_deliveries(tx, [_log_row(item) for item in ended])
        return results


def _write_one(tx: Connection, item: Finish) -> Finished:
    if item.status is DeliveryStatus.DONE:
        if item.apply is None:
            return Finished(item.answer)
        with tx.begin_nested():
            item.answer = item.apply(tx).summary
        return Finished(item.answer)
    _record_attempt(tx, item)
    values: dict[str, Any] = {
        "status": item.status.value,
        "attempts": item.delivery.attempts,
        "suspected": item.delivery.suspected,
        "error": json.dumps(item.error) if item.error else None,
        "changed_at": now_ms(),
        "retry_at": now_ms() + int(item.retry_in * 1000) if item.status is DeliveryStatus.PENDING else 0,
    }
    tx.execute(update(t.delivery).where(t.delivery.c.id == item.delivery.id).values(**values))
    if item.status is DeliveryStatus.DEAD:
        check_change(DeliveryStatus.PENDING, DeliveryStatus.DEAD)
        _park(tx, item) if item.hold else _let_pass(tx, item)
    return Finished()


def _park(tx: Connection, item: Finish) -> None:
    delivery = item.delivery
    tx.execute(delete(t.parked_key).where(t.parked_key.c.delivery == delivery.id))
    tx.execute(
        insert(t.parked_key),
        [
            {
                "destination": delivery.destination,
                "key": key,
                "position": delivery.position,
                "delivery": delivery.id,
                "since": int(time.time() * 1000),
            }
            for key in delivery.keys
        ],
    )


def _let_pass(tx: Connection, item: Finish) -> None:
    """Give back the lane keys that a dead delivery holds."""
    _RELEASE_KEYS.rows(tx, [item.delivery.position], destination=item.delivery.destination)
    _RELEASE_PARKED.rows(tx, [item.delivery.id])


def _record_attempt(tx: Connection, item: Finish) -> None:
    if item.error is None:
        return
    outcome = t.SUSPECTED if item.suspected else "retry" if item.counted else "waiting"
    if item.status is DeliveryStatus.DEAD:
        outcome = "dead"
    tx.execute(
        insert(t.attempt),
        {
            "day": item.delivery.day,
            "delivery": item.delivery.id,
            "number": item.delivery.attempts,
            "at": time.time_ns() // 1_000_000,
            "outcome": outcome,
            "error": json.dumps(item.error),
        },
    )


_EPOCHS = PreparedIn(
    lambda destinations: (
        select(t.lease.c.destination, t.lease.c.epoch)
        .where(t.lease.c.destination.in_(destinations))
        .order_by(t.lease.c.destination)
        .with_for_update(read=True)
    )
)
_DELETE = PreparedIn(lambda ids: delete(t.delivery).where(t.delivery.c.id.in_(ids)).returning(t.delivery.c.id))
_INSERT_LOG = PreparedInsert(t.delivery_log)
_RELEASE_KEYS = PreparedIn(
    lambda positions: delete(t.delivery_key).where(
        t.delivery_key.c.destination == bindparam("destination"), t.delivery_key.c.position.in_(positions)
    )
)
_RELEASE_PARKED = PreparedIn(lambda ids: delete(t.parked_key).where(t.parked_key.c.delivery.in_(ids)))


def _epochs(tx: Connection, destinations: set[str]) -> dict[str, int]:
    """Current epochs, locked until commit so that ownership cannot change under a finish."""
    return {row[0]: row[1] for row in _EPOCHS.rows(tx, destinations)}


def end_deliveries(tx: Connection, rows: list[dict[str, Any]]) -> None:
    """Move deliveries from the hot tables to the log. Safe to run twice for the same delivery."""
    ids = [row["id"] for row in rows]
    gone = {row[0] for row in _DELETE.rows(tx, ids)}
    _INSERT_LOG.run(tx, [row for row in rows if row["id"] in gone])
    positions: dict[str, list[int]] = {}
    for row in rows:
        positions.setdefault(row["destination"], []).append(row["position"])
    for destination, held in positions.items():
        _RELEASE_KEYS.rows(tx, held, destination=destination)
    _RELEASE_PARKED.rows(tx, ids)


def log_row(delivery: Delivery, status: DeliveryStatus, answer: str, sent: bytes) -> dict[str, Any]:
    """The delivery_log row of a delivery that ended."""
    return {
        "day": delivery.day,
        "id": delivery.id,
        "message": delivery.message,
        "route": delivery.route,
        "destination": delivery.destination,
        "mapping": delivery.mapping,
        "revision": delivery.revision,
        "position": delivery.position,
        "origin": delivery.origin,
        "status": status.value,
        "attempts": delivery.attempts,
        "context": json.dumps(delivery.context) if delivery.context else None,
        "error": json.dumps(delivery.error) if delivery.error else None,
        "cause": delivery.cause,
        "created_at": delivery.created_at,
        "finished_at": time.time_ns() // 1_000_000,
        "answer": answer[:255],
        "digest": hashlib.blake2b(sent, digest_size=16).digest() if sent else None,
    }


def _log_row(item: Finish) -> dict[str, Any]:
    return log_row(item.delivery, DeliveryStatus.DONE, item.answer, item.sent)
