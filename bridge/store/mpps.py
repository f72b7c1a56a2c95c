"""Performed procedure steps: what was told of each so far, so that an N-SET is read together with its N-CREATE.

An event changes its step in the transaction in which it is accepted. What it was joined to is kept with the message, so
this table serves the next event alone, and nothing that is replayed looks here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, Text, delete, insert, select, update

from bridge.codecs.performed import KnownStep, PerformedStep, is_event, parse_step
from bridge.errors import BridgeError
from bridge.message import Message, MessageStatus
from bridge.store.schema import metadata

performed_step = Table(
    "performed_step",
    metadata,
    Column("instance", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("digest", String(32), nullable=False),
    Column("changed_at", BigInteger, nullable=False, index=True),
    Column("attributes", Text, nullable=False),
)
"""By SOP Instance UID: how many events there were, the digest of the last one, and all attributes as JSON."""


def find(connection: Connection, instance: str) -> KnownStep | None:
    """What is known of a step; None if it was never created."""
    table = performed_step.c
    row = connection.execute(select(performed_step).where(table.instance == instance)).first()
    return KnownStep(row.number, row.digest, json.loads(row.attributes)) if row else None


def settle(tx: Connection, messages: Iterable[Message]) -> None:
    """Bring events that are being accepted into their steps. Safe to run twice for the same event.

    Raises BridgeError (unavailable) if another event of the step was accepted since it was looked up: its sender comes
    again.
    """
    for message in messages:
        event = message.format == "dicom" and is_event(message.raw)
        if event and message.status is not MessageStatus.REFUSED:
            _settle(tx, parse_step(message.raw), message.received_at)


def _settle(tx: Connection, step: PerformedStep, now: int) -> None:
    event, table = step.event, performed_step.c
    if event.repeated:
        return
    values = {
        "number": event.number,
        "digest": event.digest,
        "changed_at": now,
        "attributes": json.dumps(event.values, ensure_ascii=False, separators=(",", ":")),
    }
    known = find(tx, event.instance)
    if known and known.digest == event.digest:
        return
    if (known and known.number) != (event.known and event.known.number):
        raise BridgeError("another event of this performed step came first", fix="send it again", kind="unavailable")
    if known is None:
        tx.execute(insert(performed_step), {"instance": event.instance, **values})
    else:
        tx.execute(update(performed_step).where(table.instance == event.instance).values(**values))


def forget(tx: Connection, before: int) -> int:
    """Forget steps that were last told of before this time (milliseconds); how many went."""
    return tx.execute(delete(performed_step).where(performed_step.c.changed_at < before)).rowcount
