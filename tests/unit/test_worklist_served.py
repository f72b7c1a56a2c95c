"""Notes of who was given which step, and alerts for those that nobody fetched: on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from bridge.store import worklist_served as served
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.worklist import scheduled

MIDNIGHT, NOON = datetime(2026, 1, 5), datetime(2026, 1, 5, 12)


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    made = Database(store_url)
    metadata.create_all(made.writer, tables=[*TABLES, *served.TABLES])
    yield made
    made.close()


def put(worklist: Worklist, writer: Engine, *numbers: int, **changed: Any) -> None:
    with writer.begin() as tx:
        for number in numbers:
            worklist.apply(tx, scheduled(number, **changed), 1)


def test_notes_of_one_scanner_add_up_and_those_of_others_stay_apart(database: Database) -> None:
    for notes in ([(1, "CT1", 10, 20, 2), (2, "CT1", 10, 10, 1)], [(1, "CT1", 30, 40, 3), (1, "MR1", 35, 35, 1)]):
        with database.writer.begin() as tx:
            served.note(tx, notes)

    found = Worklist(database.reader).served_to([1, 2, 3])
    assert [(fetch.ae_title, fetch.first_at, fetch.last_at, fetch.times) for fetch in found[1]] == [
        ("CT1", 10, 40, 5),
        ("MR1", 35, 35, 1),
    ]
    assert [fetch.times for fetch in found[2]] == [1] and 3 not in found


def test_each_step_that_nobody_fetched_is_told_once_whichever_node_looks(database: Database) -> None:
    worklist = Worklist(database.reader)
    put(worklist, database.writer, 1, 2, 3)
    with database.writer.begin() as tx:
        served.note(tx, [(2, "CT1", 10, 10, 1)])
        first = served.raise_alerts(tx, MIDNIGHT, NOON)
    with database.writer.begin() as tx:
        second = served.raise_alerts(tx, MIDNIGHT, NOON)

    assert (first, second) == ([(1, ["CT1"]), (3, ["CT1"])], [])
    assert (worklist.alerted([1, 2, 3]), worklist.count_unfetched()) == ({1, 3}, 2)


@pytest.mark.parametrize(
    ("after", "before", "told"),
    [
        (datetime(2026, 1, 5, 9, 30), NOON, 1),
        (datetime(2026, 1, 5, 9, 31), NOON, 0),
        (MIDNIGHT, datetime(2026, 1, 5, 9, 29), 0),
        (datetime(2026, 1, 4, 23), datetime(2026, 1, 6, 1), 1),
    ],
)
def test_only_steps_due_within_the_time_looked_at_are_told(
    database: Database, after: datetime, before: datetime, told: int
) -> None:
    put(Worklist(database.reader), database.writer, 1)
    with database.writer.begin() as tx:
        assert len(served.raise_alerts(tx, after, before)) == told
