"""Alembic's entry: migrations run on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

from bridge.store import (  # noqa: F401 - their tables belong to it
    fhir_subscription_tables,
    fhir_tables,
    identity,
    mpps,
    unmapped,
    worklist,
)
from bridge.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
