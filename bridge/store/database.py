"""The database underneath: SQLite (WAL, synchronous=FULL) or PostgreSQL, behind one pair of engines."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.functions import FunctionElement

IDLE = 2000
"""Milliseconds after which PostgreSQL ends a transaction whose node is silent: a frozen node's locks would hold up all
others."""

LOG_LIMIT = 128 << 20
"""SQLite: bytes to which the write-ahead log is cut when it starts again, after a reader let it grow."""


SILENCE = {
    "connect_timeout": 5,
    "tcp_user_timeout": 8000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}
"""libpq's patience with a PostgreSQL host that a network has swallowed: some seconds, not the system's many minutes.
What the database's address says of these goes before."""


class now_ms(FunctionElement[int]):  # noqa: N801 - it reads as an SQL function
    """The database's clock, in milliseconds since the epoch. Leases and retries are decided on it."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


class Database:
    """Two engines on one database: ``writer`` for the writer thread, ``reader`` for everybody else.

    On SQLite the writer begins IMMEDIATE, so that a second process waits for the lock instead of failing on it.
    """

    def __init__(self, url: str, *, synchronous: str = "FULL") -> None:
        self.url: URL = make_url(url)
        self.embedded = self.url.get_backend_name() == "sqlite"
        if self.embedded:
            self.writer = _sqlite(self.url, "BEGIN IMMEDIATE", synchronous, size=2)
            self.reader = _sqlite(self.url, "BEGIN", synchronous, size=8)
        else:
            patience = {name: value for name, value in SILENCE.items() if name not in self.url.query}
            self.writer = create_engine(self.url, pool_size=4, pool_pre_ping=True, connect_args=patience)
            self.reader = create_engine(self.url, pool_size=8, pool_pre_ping=True, connect_args=patience)
            event.listen(self.writer, "connect", _bound_silence)

    def close(self) -> None:
        self.reader.dispose()
        self.writer.dispose()


def _bound_silence(connection: Any, _: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE}")
    connection.commit()


def _sqlite(url: URL, begin: str, synchronous: str, size: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=8,
        connect_args={"check_same_thread": False, "timeout": 10.0, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        for pragma in (
            "busy_timeout=10000",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "wal_autocheckpoint=0",
            f"journal_size_limit={LOG_LIMIT}",
            "cache_size=-8000",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
