"""A message that changes its own channel's projection: both are kept, or it is refused and neither is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from bridge.errors import Refused
from bridge.message import Delivery, Message, new_id
from bridge.ports import Answer
from bridge.store.accept import Acceptance
from bridge.store.search import MessageFilter
from bridge.store.store import Store
from tests.rigs.store import acceptance


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    store.ensure_destinations(["copy", "own"])
    store.maintain(keep_days=90, receipt_window_ms=60_000)
    yield store
    store.close()


def written(tx: Any, message: Message) -> Answer:
    tx.execute(text("INSERT INTO meta VALUES ('own', :id)"), {"id": message.id})
    return Answer("1 created", b"made " + message.header.control_id.encode())


def refused(tx: Any, message: Message) -> Answer:
    written(tx, message)
    raise Refused("another version is there", kind="locked")


def with_own(item: Acceptance, apply: Any) -> Acceptance:
    message = item.message
    own = Delivery(new_id(), message.id, message.day, "", "own", "", "rev", (), created_at=message.received_at)
    return replace(item, own=(own, apply))


def projected(store: Store) -> list[str]:
    return list(store.read(lambda c: c.execute(text("SELECT value FROM meta WHERE key = 'own'")).scalars()))


async def test_the_projection_the_journal_and_what_is_owed_are_written_together(store: Store) -> None:
    item = with_own(acceptance("W1", "copy"), written)

    accepted = await store.accept(item)

    assert accepted.answer == b"made W1"
    assert projected(store) == [item.message.id]
    ends = [(one["destination"], one["status"]) for one in store.message(item.message.id)["deliveries"]]
    assert sorted(ends) == [("copy", "pending"), ("own", "done")]


async def test_what_the_projection_refuses_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(Refused):
        await store.accept(with_own(acceptance("W1", "copy"), refused))

    assert projected(store) == []
    assert store.messages(MessageFilter()) == []


async def test_a_repeat_gets_the_first_answer_and_writes_nothing(store: Store) -> None:
    first = with_own(acceptance("W1"), written)
    await store.accept(first)

    again = await store.accept(with_own(acceptance("W1"), written))

    assert (again.answer, again.duplicate) == (b"made W1", True)
    assert projected(store) == [first.message.id]
