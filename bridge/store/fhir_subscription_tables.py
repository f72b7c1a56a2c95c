"""The tables of subscriptions to the FHIR projection: how each stands, and the events it is owed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from bridge.store.fhir_tables import KEY, ROW
from bridge.store.schema import NAME, metadata

subscription = Table(
    "fhir_subscription",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("channel", NAME, nullable=False, index=True),
    Column("owner", Text, nullable=False),
    Column("restrict", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("headers", Text, nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("status", String(9), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
)
"""A Subscription resource that a client wrote through ``channel``, and that is not deleted. ``owner`` made it, and may
see what ``restrict`` (JSON, search parameters) lets through; ``headers`` (JSON) are secrets. ``asked``: sequence number
of the client's last write; ``started``: of the one that it began with. Times are milliseconds since the epoch."""

event = Table(
    "fhir_subscription_event",
    metadata,
    Column("subscription", KEY, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("version", ROW, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ix_fhir_subscription_event_at", "at"),
    sqlite_with_rowid=False,
)
"""The ``number``-th event of a subscription is the version of a resource with this sequence number."""

reached = Table(
    "fhir_subscription_reached",
    metadata,
    Column("channel", NAME, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Up to which version the subscriptions of a channel have their events."""
