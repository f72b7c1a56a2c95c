"""What was received, to be tried once more: messages with their bytes, and what was known when they were delivered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from bridge.message import MessageStatus
from bridge.store import schema as t

_TAKEN = (MessageStatus.ROUTED.value, MessageStatus.UNROUTED.value)


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it was received."""

    id: str
    channel: str
    format: str
    charset: str
    raw: bytes
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Destination -> the context that its delivery was rendered with, where it had any."""


def page(connection: Connection, *, before: str = "", since: int = 0, limit: int = 100) -> list[Received]:
    """The newest first, older than the message ``before``; those refused, or that came a second time, left out."""
    m = t.message.c
    query = select(t.message).where(m.status.in_(_TAKEN)).order_by(m.day.desc(), m.id.desc()).limit(limit)
    if since:
        query = query.where(m.received_at >= since)
    if before:
        query = query.where(m.id < before)
    rows = connection.execute(query).all()
    contexts = _contexts(connection, [row.id for row in rows])
    return [
        Received(row.id, row.channel, row.format, row.charset, bytes(row.raw), contexts.get(row.id, {})) for row in rows
    ]


def _contexts(connection: Connection, messages: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for table in (t.delivery_log, t.delivery):
        c = table.c
        query = select(c.message, c.destination, c.context).where(c.message.in_(messages), c.context.is_not(None))
        for row in connection.execute(query):
            found.setdefault(row.message, {})[row.destination] = json.loads(row.context)
    return found
