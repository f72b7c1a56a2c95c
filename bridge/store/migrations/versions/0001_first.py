"""The first schema: as declared, until the first release freezes it here. Its name changes with it until then."""

from __future__ import annotations

from alembic import op

from bridge.store.schema import PARTITIONED, metadata

revision = "0001_preview3"
down_revision = None


def upgrade() -> None:
    bind = op.get_bind()
    metadata.create_all(bind)
    if bind.dialect.name == "postgresql":
        for table in PARTITIONED:
            op.execute(f"CREATE TABLE {table.name}_default PARTITION OF {table.name} DEFAULT")
