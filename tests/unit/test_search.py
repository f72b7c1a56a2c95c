"""Finding messages stays quick when there are millions: every search is answered by an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from bridge.errors import NotFound
from bridge.message import id_millis, new_id
from bridge.store.search import MessageFilter
from bridge.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'radbridge.db'}")
    yield opened
    opened.close()


def plans(store: Store, search: Any) -> list[str]:
    """How SQLite answers each statement of ``search``."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: Any) -> None:
        seen.append((statement, parameters))

    event.listen(store.database.reader, "before_cursor_execute", note)
    try:
        search()
    except NotFound:
        pass
    finally:
        event.remove(store.database.reader, "before_cursor_execute", note)
    with store.database.reader.connect() as connection:
        return [
            row.detail
            for statement, parameters in seen
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (MessageFilter(), "sqlite_autoindex_message_1"),
        (MessageFilter(patient="4711^HOSP"), "ix_message_patient"),
        (MessageFilter(patient="4711"), "ix_message_patient"),
        (MessageFilter(accession="A1"), "ix_message_accession"),
        (MessageFilter(order_number="placer:1^RIS"), "ix_message_order_number"),
        (MessageFilter(control_id="O1"), "ix_message_control_id"),
        (MessageFilter(status="refused"), "ix_message_odd"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_search_goes_by_its_index(store: Store, wanted: MessageFilter, index: str) -> None:
    assert any(index in step for step in plans(store, lambda: store.messages(wanted)))


def test_the_newest_messages_are_read_off_without_sorting_all(store: Store) -> None:
    assert not any("TEMP B-TREE" in step for step in plans(store, lambda: store.messages(MessageFilter())))


@pytest.mark.parametrize("kind", ["message", "delivery"])
def test_one_row_is_looked_up_by_the_day_its_id_tells(store: Store, kind: str) -> None:
    first = [step for step in plans(store, lambda: getattr(store, kind)(new_id())) if "SCAN" not in step]

    assert any("day=? AND id=?" in step for step in first)


def test_an_id_tells_when_it_was_made() -> None:
    assert id_millis(new_id(1_700_000_000.123)) == 1_700_000_000_123
    assert id_millis("nonesuch") == id_millis("U" * 26) == 0


def test_the_plans_are_read_at_all(store: Store) -> None:
    everything = text("SELECT * FROM message")

    assert plans(store, lambda: store.read(lambda c: c.execute(everything).all())) == ["SCAN message"]
