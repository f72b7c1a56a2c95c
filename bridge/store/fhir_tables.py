"""The FHIR projection's tables: resources, every version of them, and what they are found by.

Texts compare by code point on both databases. ``parameter`` is a search parameter of one type as a small number
(:func:`bridge.fhir.parameters.number`), so that the indexes stay small.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    event,
    text,
)

from bridge.store.schema import ID, metadata

ROW = BigInteger().with_variant(Integer, "sqlite")
KEY = Text().with_variant(Text(collation="C"), "postgresql")

resource = Table(
    "fhir_resource",
    metadata,
    Column("row", ROW, primary_key=True, autoincrement=False),
    Column("type", String(32), nullable=False),
    Column("id", KEY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Index("uq_fhir_resource_id", "type", "id", unique=True),
    Index("ix_fhir_resource_listed", "type", "deleted", "row"),
    Index("ix_fhir_resource_modified", "type", "deleted", "modified", "row"),
)
"""A resource as it is now; its body is that of the version with the same ``sequence``. ``row`` is the sequence number
of its first version: rows go by age."""

version = Table(
    "fhir_version",
    metadata,
    Column("sequence", ROW, primary_key=True, autoincrement=False),
    Column("type", String(32), nullable=False),
    Column("id", KEY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("modified", BigInteger, nullable=False),
    Column("method", String(6), nullable=False),
    Column("message", ID, nullable=False),
    Column("body", LargeBinary),
    Index("uq_fhir_version_id", "type", "id", "version", unique=True),
    Index("ix_fhir_version_type", "type", "sequence"),
)
"""Every version, in the sequence in which they became visible; ``message`` wrote it. No body: deleted."""

token = Table(
    "fhir_token",
    metadata,
    Column("parameter", Integer, primary_key=True, autoincrement=False),
    Column("code", KEY, primary_key=True),
    Column("resource", ROW, primary_key=True, autoincrement=False),
    Column("system", KEY, primary_key=True),
    Index("ix_fhir_token_resource", "resource", "parameter"),
    sqlite_with_rowid=False,
)
"""Tokens, URIs (without ``system``) and references (``system`` is the type, ``code`` the id; or a URL)."""


@event.listens_for(token, "after_create")
def _know_pairs(_: Any, connection: Connection, **__: Any) -> None:
    """Without it PostgreSQL takes a frequent status for a rare one."""
    if connection.dialect.name == "postgresql":
        made = "CREATE STATISTICS fhir_token_pairs (mcv, dependencies) ON parameter, code FROM fhir_token"
        connection.execute(text(made))


string = Table(
    "fhir_string",
    metadata,
    Column("parameter", Integer, primary_key=True, autoincrement=False),
    Column("folded", KEY, primary_key=True),
    Column("resource", ROW, primary_key=True, autoincrement=False),
    Column("value", KEY, primary_key=True),
    Index("ix_fhir_string_resource", "resource", "parameter"),
    sqlite_with_rowid=False,
)
"""Texts, without case and accents, and as they are."""

span = Table(
    "fhir_span",
    metadata,
    Column("parameter", Integer, primary_key=True, autoincrement=False),
    Column("low", Double, primary_key=True),
    Column("resource", ROW, primary_key=True, autoincrement=False),
    Column("high", Double, primary_key=True),
    Column("unit", KEY, primary_key=True),
    Index("ix_fhir_span_high", "parameter", "high"),
    Index("ix_fhir_span_resource", "resource", "parameter"),
    sqlite_with_rowid=False,
)
"""Dates (milliseconds since the epoch, ``high`` excluded), numbers and quantities (``unit``: ``system|code``)."""

TABLES = (resource, version, token, string, span)
