"""Accepting: the message, its receipt and a delivery owed to every destination, in one transaction (laws 1, 2, 5)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from bridge.codecs.adt import IdentityEvent
from bridge.errors import Refused
from bridge.message import Delivery, DeliveryStatus, Message, MessageStatus
from bridge.model import Unmapped
from bridge.ports import Apply
from bridge.store import identity, mpps, unmapped
from bridge.store import schema as t
from bridge.store.finish import log_row
from bridge.store.prepared import Prepared, PreparedIn, PreparedInsert


@dataclass(slots=True)
class Acceptance:
    """One message on its way into the store, with the answer its sender will get."""

    message: Message
    deliveries: list[Delivery]
    answer: bytes = b""
    receipt: bool = True
    """False for input without a usable control id: it cannot be recognised when it comes again."""
    event: IdentityEvent | None = None
    """What the message claims about identifiers, from a channel that owns identity."""
    parsed: Any = field(default=None, repr=False)
    """The message as it was read, for who takes it over in memory."""
    unmapped: Sequence[Unmapped] = ()
    """Codes without a row: it was refused for the last of them, or is a question that met them."""
    own: tuple[Delivery, Apply] | None = field(default=None, repr=False)
    """What it does to its channel's own projection at once: for the journal, and as a function."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the store made of it. ``answer`` is the first one's when the message is a duplicate."""

    message: str
    answer: bytes
    duplicate: bool = False
    bells: frozenset[str] = field(default=frozenset())


def receipt_scope(message: Message) -> bytes:
    """Channel, sender and control id as one fixed-size key."""
    header = message.header
    text = "\x1f".join((message.channel, header.sender, header.control_id))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


class Accept:
    """The step of the writer that accepts. Items: Acceptance; results: Accepted, or the Refused that ``own`` raised."""

    order = 10
    rings = True
    """Its results ring the bells of the destinations that are owed something."""

    def run(self, tx: Connection, items: Sequence[Acceptance]) -> list[Any]:
        scopes = [receipt_scope(item.message) if item.receipt else b"" for item in items]
        known = _receipts(tx, {scope for scope in scopes if scope})
        doubtful = [item.message for item, scope in zip(items, scopes, strict=True) if not scope or scope in known]
        kept = _kept(tx, doubtful)
        results: list[Any] = []
        fresh: list[tuple[Acceptance, bytes]] = []
        rows: list[dict[str, Any]] = []
        for item, scope in zip(items, scopes, strict=True):
            message = item.message
            earlier = known.get(scope, {}) if scope else {}
            first = earlier.get(message.header.digest)
            if message.id in kept:
                answer, again = (item.answer, False) if first is None else (first[1], first[0] != message.id)
                results.append(Accepted(message.id, answer, duplicate=again))
            elif first is None and (refusal := _refusal(tx, item)) is not None:
                results.append(refusal)
            elif first is None:
                rows.append(_message_row(message, reused=bool(earlier)))
                fresh.append((item, scope))
                if scope:
                    known.setdefault(scope, {})[message.header.digest] = (message.id, item.answer)
                bells = frozenset(delivery.destination for delivery in item.deliveries if self.rings)
                results.append(Accepted(message.id, item.answer, bells=bells))
            else:
                rows.append(_duplicate_row(message, first[0]))
                results.append(Accepted(message.id, first[1], duplicate=True))
        _remark(rows, identity.settle(tx, [item for item, _ in fresh]))
        mpps.settle(tx, (item.message for item, _ in fresh))
        _INSERT_MESSAGES.run(tx, rows)
        _insert_receipts(tx, fresh)
        owed = [delivery for item, _ in fresh for delivery in item.deliveries]
        for delivery in owed:
            delivery.position = delivery.origin = 0
        insert_deliveries(tx, owed)
        met = [(item.message.id, one) for item, _ in fresh for one in item.unmapped]
        if met:
            unmapped.count(tx, met)
        return results


_KEPT = PreparedIn(
    lambda ids: select(t.message.c.id).where(
        t.message.c.day.in_([bindparam("first"), bindparam("last")]), t.message.c.id.in_(ids)
    )
)
_INSERT_MESSAGES = PreparedInsert(t.message)
_INSERT_RECEIPTS = PreparedInsert(t.receipt)
_INSERT_DELIVERIES = PreparedInsert(t.delivery)
_INSERT_KEYS = PreparedInsert(t.delivery_key)
_RECEIPTS = PreparedIn(
    lambda scopes: select(t.receipt.c.scope, t.receipt.c.digest, t.receipt.c.message, t.receipt.c.answer).where(
        t.receipt.c.scope.in_(scopes)
    )
)


def _refusal(tx: Connection, item: Acceptance) -> Refused | None:
    """Write the channel's own projection; None unless that refuses the message, which then has left no trace."""
    if item.own is None:
        return None
    delivery, apply = item.own
    try:
        with tx.begin_nested():
            answer = apply(tx, item.message)
    except Refused as refused:
        return refused
    item.answer = answer.body
    tx.execute(insert(t.delivery_log), log_row(delivery, DeliveryStatus.DONE, answer.summary, item.message.raw))
    return None


def _receipts(tx: Connection, scopes: set[bytes]) -> dict[bytes, dict[bytes, tuple[str, bytes]]]:
    found: dict[bytes, dict[bytes, tuple[str, bytes]]] = {}
    if scopes:
        for scope, digest, message, answer in _RECEIPTS.rows(tx, scopes):
            found.setdefault(bytes(scope), {})[bytes(digest)] = (message, bytes(answer))
    return found


def _kept(tx: Connection, messages: Sequence[Message]) -> set[str]:
    """Those that a former run of this step wrote, whose commit went through unnoticed."""
    if not messages:
        return set()
    days = [message.day for message in messages]
    return {row[0] for row in _KEPT.rows(tx, [message.id for message in messages], first=min(days), last=max(days))}


def _insert_receipts(tx: Connection, fresh: list[tuple[Acceptance, bytes]]) -> None:
    rows = [
        {
            "scope": scope,
            "digest": item.message.header.digest,
            "message": item.message.id,
            "received_at": item.message.received_at,
            "answer": item.answer,
        }
        for item, scope in fresh
        if scope
    ]
    _INSERT_RECEIPTS.run(tx, rows)


def insert_deliveries(tx: Connection, deliveries: list[Delivery]) -> None:
    """Allot positions and insert. Counter rows are updated in sorted sequence, so that two nodes never deadlock."""
    if not deliveries:
        return
    unplaced = [delivery for delivery in deliveries if not delivery.position]
    last: dict[str, int] = {}
    for destination, count in sorted(Counter(delivery.destination for delivery in unplaced).items()):
        last[destination] = _allot(tx, destination, count) - count
    for delivery in unplaced:
        last[delivery.destination] += 1
        delivery.position = last[delivery.destination]
        delivery.origin = delivery.origin or delivery.position
    _INSERT_DELIVERIES.run(tx, [_delivery_row(delivery) for delivery in deliveries])
    _INSERT_KEYS.run(
        tx,
        [
            {"destination": delivery.destination, "position": delivery.position, "key": key}
            for delivery in deliveries
            for key in delivery.keys
        ],
    )


_ALLOT = Prepared(
    update(t.lane_position)
    .where(t.lane_position.c.destination == bindparam("d"))
    .values(last=t.lane_position.c.last + bindparam("n"))
    .returning(t.lane_position.c.last)
)


def _allot(tx: Connection, destination: str, count: int) -> int:
    """The last of ``count`` new positions. The counter row is made by :func:`ensure_destinations`."""
    ((last,),) = _ALLOT.rows(tx, {"d": destination, "n": count})
    return int(last)


def ensure_destinations(tx: Connection, names: Sequence[str]) -> None:
    """Make the counter and lease rows of destinations that have none yet."""
    for table, values in (
        (t.lane_position, {"last": 0, "shuffles": 0}),
        (t.lease, {"owner": "", "epoch": 0, "expires_at": 0}),
    ):
        have = set(tx.execute(select(table.c.destination)).scalars())
        rows = [{"destination": name, **values} for name in sorted(set(names) - have)]
        if rows:
            tx.execute(insert(table), rows)


def _message_row(message: Message, reused: bool) -> dict[str, Any]:
    header = message.header
    warnings = list(header.warnings)
    if reused:
        warnings.append("control id was used before with other content")
    return {
        "day": message.day,
        "id": message.id,
        "received_at": message.received_at,
        "channel": message.channel,
        "format": message.format,
        "peer": message.peer[:255],
        "type": header.type[:64],
        "control_id": header.control_id[:255],
        "sender": header.sender[:511],
        "charset": header.charset,
        "test": header.test,
        "status": message.status.value,
        "patient": header.patients[0][:255] if header.patients else "",
        "order_number": header.orders[0][:255] if header.orders else "",
        "accession": header.accession[:64],
        "error": json.dumps(message.error) if message.error else None,
        "warnings": json.dumps(warnings) if warnings else None,
        "size": len(message.raw),
        "raw": message.raw,
    }


def _remark(rows: list[dict[str, Any]], remarks: Mapping[str, list[str]]) -> None:
    """Add remarks, by message id, to the warnings of message rows."""
    for row in rows:
        if more := remarks.get(row["id"]):
            row["warnings"] = json.dumps([*json.loads(row["warnings"] or "[]"), *more])


def _duplicate_row(message: Message, first: str) -> dict[str, Any]:
    note = {"kind": "duplicate_key", "what": f"the same as message {first}", "at": "MSH-10", "fix": ""}
    return _message_row(replace(message, status=MessageStatus.DUPLICATE, error=note), reused=False)


def _delivery_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "message": delivery.message,
        "day": delivery.day,
        "route": delivery.route,
        "destination": delivery.destination,
        "mapping": delivery.mapping,
        "revision": delivery.revision,
        "position": delivery.position,
        "origin": delivery.origin,
        "status": DeliveryStatus.PENDING.value,
        "attempts": 0,
        "retry_at": 0,
        "suspected": delivery.suspected,
        "payload": delivery.payload,
        "context": json.dumps(delivery.context) if delivery.context else None,
        "error": None,
        "cause": delivery.cause,
        "created_at": delivery.created_at,
        "changed_at": delivery.created_at,
    }
