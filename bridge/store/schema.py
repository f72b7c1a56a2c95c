"""The tables. Hot ones hold what is pending; the journal (message, delivery_log, attempt) is kept by day.

Times are milliseconds since the epoch, UTC. ``day`` is the message's day of receipt, yyyymmdd UTC, and part of every
journal key: PostgreSQL partitions by it and drops a day whole.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
)

ID = String(26)
NAME = String(64)

message = Table(
    "message",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("id", ID, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Column("channel", NAME, nullable=False),
    Column("format", String(16), nullable=False),
    Column("peer", String(255), nullable=False),
    Column("type", String(64), nullable=False),
    Column("control_id", String(255), nullable=False),
    Column("sender", String(511), nullable=False),
    Column("charset", String(32), nullable=False),
    Column("test", Boolean, nullable=False),
    Column("status", String(12), nullable=False),
    Column("patient", String(255), nullable=False),
    Column("order_number", String(255), nullable=False),
    Column("accession", String(64), nullable=False),
    Column("error", Text),
    Column("warnings", Text),
    Column("size", Integer, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Index(None, "control_id"),
    Index(None, "patient", sqlite_where=text("patient <> ''"), postgresql_where=text("patient <> ''")),
    Index(None, "order_number", sqlite_where=text("order_number <> ''"), postgresql_where=text("order_number <> ''")),
    Index(None, "accession", sqlite_where=text("accession <> ''"), postgresql_where=text("accession <> ''")),
    Index(
        "ix_message_odd",
        "status",
        "id",
        sqlite_where=text("status <> 'routed'"),
        postgresql_where=text("status <> 'routed'"),
    ),
    postgresql_partition_by="RANGE (day)",
)

receipt = Table(
    "receipt",
    metadata,
    Column("scope", LargeBinary(16), primary_key=True),
    Column("digest", LargeBinary(16), primary_key=True),
    Column("message", ID, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Index(None, "received_at"),
    sqlite_with_rowid=False,
)
"""Who sent which control id with which content, and what it was answered (law 5)."""

lane_position = Table(
    "lane_position",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("shuffles", BigInteger, nullable=False),
)
"""The counter from which a destination's positions are allotted, inside the accept transaction; ``shuffles`` counts
the times a person changed what is at the front (replay, skip), so that the owner reads its lanes again."""

delivery = Table(
    "delivery",
    metadata,
    Column("id", ID, primary_key=True),
    Column("message", ID, nullable=False),
    Column("day", Integer, nullable=False),
    Column("route", NAME, nullable=False),
    Column("destination", NAME, nullable=False),
    Column("mapping", NAME, nullable=False),
    Column("revision", String(12), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("status", String(12), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retry_at", BigInteger, nullable=False),
    Column("suspected", Boolean, nullable=False),
    Column("payload", LargeBinary),
    Column("context", Text),
    Column("error", Text),
    Column("cause", ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Index(None, "destination", "status", "position"),
    Index(None, "message"),
)
"""Deliveries that have not ended: pending and dead."""

delivery_key = Table(
    "delivery_key",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(255), primary_key=True),
    Index(None, "destination", "key", "position"),
    sqlite_with_rowid=False,
)
"""A delivery may go when it is the lowest position on all its keys."""

parked_key = Table(
    "parked_key",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("delivery", ID, nullable=False),
    Column("since", BigInteger, nullable=False),
    Index(None, "delivery"),
)
"""Lane keys that wait for a person, each with the dead delivery that holds it."""

delivery_log = Table(
    "delivery_log",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("id", ID, primary_key=True),
    Column("message", ID, nullable=False),
    Column("route", NAME, nullable=False),
    Column("destination", NAME, nullable=False),
    Column("mapping", NAME, nullable=False),
    Column("revision", String(12), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("status", String(12), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("context", Text),
    Column("error", Text),
    Column("cause", ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("answer", String(255), nullable=False),
    Column("digest", LargeBinary(16)),
    Index(None, "message"),
    postgresql_partition_by="RANGE (day)",
)
"""Deliveries that have ended. ``digest`` is BLAKE2b of the bytes that left; the revision renders them again."""

attempt = Table(
    "attempt",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("delivery", ID, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("error", Text),
    postgresql_partition_by="RANGE (day)",
)
"""Attempts that did not succeed; the one that did is the delivery_log row itself."""

SUSPECTED = "suspected"
"""``outcome`` of an attempt that may have reached the destination, though no answer came."""

lease = Table(
    "lease",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

revision = Table(
    "revision",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("files", Text, nullable=False),
)

deployment = Table(
    "deployment",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("revision", String(12), nullable=False),
    Column("former", String(12), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("why", Text, nullable=False),
    Column("refused", Text, nullable=False),
)
"""Each time another revision was made the one that runs; ``refused`` says why a node could not take it over."""

node = Table(
    "node",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("deployment", Integer, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
"""The engines that run, and which deployment each serves; one that has not been seen for a while runs no more."""

audit = Table(
    "audit",
    metadata,
    Column("id", ID, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("detail", Text, nullable=False),
    Index(None, "subject", "id"),
    Index(None, "actor", "id"),
)

meta = Table("meta", metadata, Column("key", NAME, primary_key=True), Column("value", Text, nullable=False))

PARTITIONED = (message, delivery_log, attempt)
