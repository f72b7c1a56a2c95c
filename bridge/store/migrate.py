"""Schema migrations: expand, then contract; run at start when the database is behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from bridge.errors import StoreUnavailable
from bridge.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001_preview3"
"""The newest revision in ``migrations/versions``; a test keeps it true."""


def upgrade(database: Database) -> None:
    """Bring the schema to HEAD. Raises StoreUnavailable when the database cannot be reached or written, or was made by
    another version that this one does not know."""
    try:
        found = current(database)
        if found == HEAD:
            return
        if found is not None and found not in _known():
            raise StoreUnavailable(
                f"the database has the schema {found}, which this version cannot read",
                at=database.url.render_as_string(hide_password=True),
                fix="use the version that made it, or begin with an empty database",
            )
        _run(database)
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        place = database.url.render_as_string(hide_password=True)
        raise StoreUnavailable(
            f"the database cannot be opened: {reason}", at=place, fix="check the address, the folder and its rights"
        ) from error


def current(database: Database) -> str | None:
    """The revision the database is at; None when it is empty."""
    with database.reader.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return version


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _known() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _run(database: Database) -> None:
    from alembic import command

    config = _config()
    with database.writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7205759)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
