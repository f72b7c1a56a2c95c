"""Replay and skip: human acts on deliveries, each recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from bridge.errors import BridgeError, NotFound
from bridge.message import Delivery, DeliveryStatus, check_change, new_id
from bridge.store import identity
from bridge.store import schema as t
from bridge.store.accept import insert_deliveries
from bridge.store.deliveries import delivery_of
from bridge.store.finish import end_deliveries, log_row


@dataclass(frozen=True, slots=True)
class Replayed:
    """The new deliveries, in the sequence of those they repeat."""

    deliveries: list[str]
    bells: frozenset[str] = field(default=frozenset())


def record(tx: Connection, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """One line of the audit trail. ``detail`` holds ids and names, never content."""
    tx.execute(
        insert(t.audit),
        {
            "id": new_id(),
            "at": time.time_ns() // 1_000_000,
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": json.dumps(detail, sort_keys=True),
        },
    )


def dead_delivery(tx: Connection, identifier: str) -> Delivery:
    """The dead delivery with this id, its lane keys included. Raises NotFound, or BridgeError when it is not dead."""
    row = tx.execute(select(t.delivery).where(t.delivery.c.id == identifier)).first()
    if row is None:
        raise NotFound(f"no pending or dead delivery {identifier}", fix="list them with `radbridge dead`")
    if row.status != DeliveryStatus.DEAD.value:
        raise BridgeError(f"delivery {identifier} is {row.status}, not dead", kind="locked")
    mine = (t.delivery_key.c.destination == row.destination) & (t.delivery_key.c.position == row.position)
    parked = select(t.parked_key.c.key).where(t.parked_key.c.delivery == identifier)
    keys = tx.execute(select(t.delivery_key.c.key).where(mine).union(parked)).scalars()
    return delivery_of(row, tuple(keys))


def replay_dead(
    tx: Connection,
    identifiers: Iterable[str],
    *,
    actor: str,
    revision: str,
    payloads: Mapping[str, bytes] | None = None,
) -> Replayed:
    """Send dead deliveries again: each gets a new delivery that names it as its cause and takes its place in the lane.

    Rendered anew with ``revision``, so that a mended mapping or table counts; ``payloads`` are the bytes of those that
    a person changed, by the dead one's id. Dead ones that let their lane pass have
    no keys left to hold; they join the end of the lane.
    """
    old = sorted((dead_delivery(tx, identifier) for identifier in identifiers), key=lambda d: d.position)
    fresh = [_repeat(delivery, revision, (payloads or {}).get(delivery.id)) for delivery in old]
    _end(tx, old, DeliveryStatus.REPLAYED, [f"replayed as {delivery.id}" for delivery in fresh])
    insert_deliveries(tx, fresh)
    for before, after in zip(old, fresh, strict=True):
        record(tx, actor, "replay", before.id, {"delivery": after.id, "destination": after.destination})
    return Replayed([delivery.id for delivery in fresh], frozenset(delivery.destination for delivery in fresh))


def _repeat(dead: Delivery, revision: str, payload: bytes | None) -> Delivery:
    parked = bool(dead.keys)
    return Delivery(
        id=new_id(),
        message=dead.message,
        day=dead.day,
        route=dead.route,
        destination=dead.destination,
        mapping=dead.mapping,
        revision=revision,
        keys=dead.keys or (f"replay {dead.id}",),
        position=dead.position if parked else 0,
        origin=dead.origin,
        payload=payload,
        suspected=dead.suspected,
        cause=dead.id,
        created_at=time.time_ns() // 1_000_000,
    )


def add_deliveries(tx: Connection, deliveries: list[Delivery], *, actor: str) -> Replayed:
    """Owe new deliveries of stored messages (a replay to chosen destinations); they join the end of their lanes."""
    identity.widen_all(tx, deliveries)
    insert_deliveries(tx, [replace(delivery, position=0) for delivery in deliveries])
    for delivery in deliveries:
        detail = {"delivery": delivery.id, "destination": delivery.destination}
        record(tx, actor, "replay", delivery.cause or delivery.message, detail)
    return Replayed([delivery.id for delivery in deliveries], frozenset(d.destination for d in deliveries))


def skip(tx: Connection, identifiers: Iterable[str], *, actor: str, reason: str) -> Replayed:
    """Give up dead deliveries for good: their lane keys go on without them. Recorded with ``reason``."""
    old = [dead_delivery(tx, identifier) for identifier in identifiers]
    _end(tx, old, DeliveryStatus.SKIPPED, [f"skipped: {reason}"] * len(old))
    for delivery in old:
        record(tx, actor, "skip", delivery.id, {"destination": delivery.destination, "reason": reason})
    return Replayed([], frozenset(delivery.destination for delivery in old))


def _end(tx: Connection, old: list[Delivery], status: DeliveryStatus, answers: list[str]) -> None:
    for delivery in old:
        check_change(delivery.status, status)
    for destination in sorted({delivery.destination for delivery in old}):
        tx.execute(
            update(t.lane_position)
            .where(t.lane_position.c.destination == destination)
            .values(shuffles=t.lane_position.c.shuffles + 1)
        )
    if old:
        end_deliveries(tx, [log_row(d, status, answer, b"") for d, answer in zip(old, answers, strict=True)])
