"""Messages and deliveries for tests of the store and the engine, made without a codec."""

from __future__ import annotations

import time
from typing import Any

from bridge.message import Delivery, Header, Message, MessageStatus, new_id
from bridge.store.accept import Acceptance
from bridge.store.retention import day_of


def acceptance(
    control_id: str,
    *destinations: str,
    content: bytes = b"",
    keys: tuple[str, ...] = ("",),
    raw: bytes | None = None,
    **header: Any,
) -> Acceptance:
    """A message with this control id, owed to ``destinations``; ``content`` tells equal and different ones apart."""
    now = time.time_ns() // 1_000_000
    digest = (content or control_id.encode()).ljust(16, b".")[:16]
    message = Message(
        id=new_id(),
        day=day_of(now),
        received_at=now,
        channel="ris-in",
        format="bytes",
        peer="127.0.0.1:1",
        header=Header(type="ORM^O01", control_id=control_id, sender="RIS|SITE", digest=digest, **header),
        raw=raw if raw is not None else control_id.encode(),
        status=MessageStatus.ROUTED,
    )
    deliveries = [
        Delivery(
            id=new_id(),
            message=message.id,
            day=message.day,
            route="orders",
            destination=name,
            mapping="",
            revision="rev",
            keys=keys,
            created_at=now,
        )
        for name in destinations
    ]
    return Acceptance(message, deliveries, answer=f"ACK {message.id}".encode())
