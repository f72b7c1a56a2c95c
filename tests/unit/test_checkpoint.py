"""The embedded store's write-ahead log stays bounded, and readers of it do not hold up writers for long."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.store.database import LOG_LIMIT, Database
from bridge.store.retention import checkpoint

BOUND = 10


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    database = Database(f"sqlite:///{tmp_path / 'bridge.db'}")
    with database.writer.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA busy_timeout=1")
        driver.execute("CREATE TABLE big (content BLOB)")
        yield driver
    database.close()


def write(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute("INSERT INTO big VALUES (zeroblob(?))", (pages * 4096,))


def log_size(tmp_path: Path) -> int:
    return (tmp_path / "bridge.db-wal").stat().st_size


def test_a_log_past_its_bound_starts_again_and_keeps_its_file(writer: sqlite3.Connection, tmp_path: Path) -> None:
    write(writer, 3 * BOUND)
    size = log_size(tmp_path)
    assert checkpoint(writer, BOUND, BOUND) == BOUND
    write(writer, 1)
    assert log_size(tmp_path) == size
    assert checkpoint(writer, BOUND, BOUND) == BOUND


def test_a_reader_that_does_not_end_holds_up_writers_once_for_each_bound(
    writer: sqlite3.Connection, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "bridge.db", isolation_level=None)) as reader:
        # Given a reader in the log
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM big").fetchone()
        # When the log grows past its bound
        write(writer, 3 * BOUND)
        due = checkpoint(writer, BOUND, BOUND)
        # Then it is tried again only when it has grown by as much again
        assert due > 4 * BOUND
        assert checkpoint(writer, due, BOUND) == due
        write(writer, 3 * BOUND)
        later = checkpoint(writer, due, BOUND)
        assert later > due + BOUND
    # And once the reader has ended, the log starts again at its usual bound
    write(writer, 3 * BOUND)
    assert checkpoint(writer, later, BOUND) == BOUND


def test_a_log_that_a_reader_let_grow_is_cut_when_it_starts_again(writer: sqlite3.Connection, tmp_path: Path) -> None:
    write(writer, LOG_LIMIT // 4096 + 1000)
    assert log_size(tmp_path) > LOG_LIMIT
    checkpoint(writer, BOUND, BOUND)
    write(writer, 1)
    assert log_size(tmp_path) <= LOG_LIMIT
