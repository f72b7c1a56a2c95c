"""The tables of patient identity. Identifiers are ``id^issuer``, as lanes and messages have them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from bridge.store.schema import ID, metadata

IDENTIFIER = String(255)

alias = Table(
    "patient_alias",
    metadata,
    Column("identifier", IDENTIFIER, primary_key=True),
    Column("survivor", IDENTIFIER, nullable=False),
    Column("authority", Text, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("message", ID, nullable=False),
    Index(None, "survivor"),
)
"""Identifiers that are used no more, each with the one that it was merged into as that was told: who survives in the
end is found by following them. ``authority``: the survivor's issuer in full, as JSON."""

link = Table(
    "patient_link",
    metadata,
    Column("identifier", IDENTIFIER, primary_key=True),
    Column("other", IDENTIFIER, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("message", ID, nullable=False),
)
"""Identifiers in use that stand for one person; each pair in both directions."""

cross_reference = Table(
    "patient_identifier",
    metadata,
    Column("identifier", IDENTIFIER, primary_key=True),
    Column("other", IDENTIFIER, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("message", ID, nullable=False),
)
"""Identifiers of several authorities that one message gave to one patient; each pair in both directions."""

question = Table(
    "identity_question",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("act", String(8), nullable=False),
    Column("identifier", IDENTIFIER, nullable=False),
    Column("candidates", Text, nullable=False),
    Column("doubt", Text, nullable=False),
    Column("message", ID, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("status", String(8), nullable=False),
    Column("answered_at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "status", "number"),
    Index(None, "identifier"),
)
"""What a message claims and a person has to decide: open, accepted or rejected."""

history = Table(
    "patient_history",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("act", String(8), nullable=False),
    Column("identifier", IDENTIFIER, nullable=False),
    Column("other", IDENTIFIER, nullable=False),
    Column("message", ID, nullable=False),
    Column("actor", String(128), nullable=False),
    Index(None, "identifier"),
    Index(None, "other"),
)
"""Every change that took effect. ``actor`` is empty when a message made it."""

TABLES = (alias, link, cross_reference, question, history)
