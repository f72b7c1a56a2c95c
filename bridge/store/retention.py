"""Keeping the store small: partitions ahead, old days dropped, the write-ahead log bounded."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count

import structlog
from sqlalchemy import Connection, delete, inspect, select, text

from bridge.store import schema as t
from bridge.store.database import Database

log = structlog.get_logger(__name__)

CHUNK = 1000
"""Rows deleted per transaction on SQLite, so that receivers never wait long for the lock."""


def day_of(millis: int) -> int:
    """UTC day of a time, as yyyymmdd."""
    day = datetime.fromtimestamp(millis / 1000, UTC)
    return day.year * 10_000 + day.month * 100 + day.day


def ensure_partitions(tx: Connection, today: int, ahead: int = 7) -> None:
    """PostgreSQL: make the day partitions from today on. A default partition takes what falls outside them."""
    if tx.dialect.name != "postgresql":
        return
    start = datetime.strptime(str(today), "%Y%m%d").replace(tzinfo=UTC)
    have = set(inspect(tx).get_table_names())
    for table in t.PARTITIONED:
        for offset in range(ahead):
            day, after = (int((start + timedelta(days=n)).strftime("%Y%m%d")) for n in (offset, offset + 1))
            name = f"{table.name}_{day}"
            if name not in have:
                tx.execute(text(f"CREATE TABLE {name} PARTITION OF {table.name} FOR VALUES FROM ({day}) TO ({after})"))


def drop_before(tx: Connection, day: int) -> int:
    """Drop journal days before ``day`` that owe nothing any more; returns how many rows (SQLite) or partitions went.

    A day stays while a pending or dead delivery still needs its messages.
    """
    needed = set(tx.execute(select(t.delivery.c.day).distinct()).scalars())
    if tx.dialect.name == "postgresql":
        return _drop_partitions(tx, day, needed)
    gone = 0
    for table in (t.attempt, t.delivery_log, t.message):
        ids = text(
            f"DELETE FROM {table.name} WHERE rowid IN (SELECT rowid FROM {table.name} WHERE day < :day"
            f" AND day NOT IN (SELECT day FROM delivery) LIMIT {CHUNK})"
        )
        gone += tx.execute(ids, {"day": day}).rowcount
    return gone


def _drop_partitions(tx: Connection, day: int, needed: set[int]) -> int:
    gone = 0
    for name in inspect(tx).get_table_names():
        table, _, suffix = name.rpartition("_")
        ours = suffix.isdigit() and len(suffix) == 8 and table in {p.name for p in t.PARTITIONED}
        if ours and int(suffix) < day and int(suffix) not in needed:
            tx.execute(text(f"DROP TABLE {name}"))
            gone += 1
    return gone


def trim_receipts(tx: Connection, before: int) -> int:
    """Forget receipts older than ``before`` (milliseconds), a chunk at a time; returns how many went."""
    old = select(t.receipt.c.scope, t.receipt.c.digest).where(t.receipt.c.received_at < before).limit(CHUNK)
    rows = tx.execute(old).all()
    for scope, digest in rows:
        tx.execute(delete(t.receipt).where(t.receipt.c.scope == scope, t.receipt.c.digest == digest))
    return len(rows)


class Checkpointer(threading.Thread):
    """SQLite: moves the write-ahead log into the database from a thread of its own, and keeps the log bounded.

    The log's file keeps its size when it starts again from its beginning: a commit that need not lengthen the file
    takes half as long. Only past the database's ``journal_size_limit`` it is cut.
    """

    EVERY = 0.2
    VACUUM = 5
    """Every so many rounds, pages that are free are given back to the disk."""
    BOUND = 16 << 20
    """Bytes of log past which it is to start again from its beginning."""
    PATIENCE_MS = 200
    """So long writers are held up for readers of the log to end."""

    def __init__(self, database: Database) -> None:
        super().__init__(name="radbridge-checkpoint", daemon=True)
        self._database = database
        self._stop_event = threading.Event()

    def run(self) -> None:
        lent = self._database.reader.raw_connection()
        connection = lent.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        lent.detach()
        with closing(connection):
            connection.execute(f"PRAGMA busy_timeout={self.PATIENCE_MS}")
            due = bound = self.BOUND // connection.execute("PRAGMA page_size").fetchone()[0]
            failing = False
            for number in count(1):
                if self._stop_event.wait(self.EVERY):
                    return
                try:
                    due = checkpoint(connection, due, bound)
                    if number % self.VACUUM == 0:
                        connection.execute("PRAGMA incremental_vacuum(200)").fetchall()
                    failing = False
                except sqlite3.Error as error:
                    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                        continue
                    if not failing:
                        log.warning("checkpoint_failed", reason=str(error))
                    failing = True

    def close(self) -> None:
        self._stop_event.set()
        self.join()


def checkpoint(connection: sqlite3.Connection, due: int, bound: int) -> int:
    """Move the log into the database, and past ``due`` pages have it start again from its beginning.

    Returns the pages past which that is due next: ``bound``, or as many more when a reader was in the way. So a reader
    that does not end holds up writers once for each ``bound``, not in every round.
    """
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages <= due:
        return due if pages > bound else bound
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    return int(pages) + bound if busy else bound


def now_millis() -> int:
    """This machine's clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
