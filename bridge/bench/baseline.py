"""What the machine could do at best: the disk under the engine's data, without an engine."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

ROW = 800
"""Bytes in a row."""


def commits_per_second(folder: Path, rows: int) -> float:
    """SQLite, write-ahead log, synchronous=FULL: one row of 800 bytes in each commit."""
    file = folder / "baseline.db"
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE raw (id INTEGER PRIMARY KEY, data BLOB)")
        data = b"x" * ROW
        started = time.perf_counter()
        for _ in range(rows):
            connection.execute("INSERT INTO raw (data) VALUES (?)", (data,))
        return rows / (time.perf_counter() - started)
    finally:
        connection.close()
        for part in folder.glob("baseline.db*"):
            part.unlink()
