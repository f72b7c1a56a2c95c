"""What channels keep in the store, and whose turn a channel is: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from bridge.engine.state import StoredState
from bridge.store.state import channel_state
from bridge.store.store import Store


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    yield store
    store.close()


async def test_what_a_channel_keeps_is_its_own_and_outlives_the_process(store_url: str) -> None:
    first = Store(store_url)
    await StoredState(first, "one", "").put({"a": {"n": [1, "é\0"]}, "b": 2})
    await StoredState(first, "two", "").put({"a": 3})
    first.close()

    again = Store(store_url)
    kept = await StoredState(again, "one", "").get(["a", "b", "c"])
    again.close()

    assert kept == {"a": {"n": [1, "é\0"]}, "b": 2}


async def test_the_last_value_counts(store: Store) -> None:
    state = StoredState(store, "one", "")

    await asyncio.gather(*(state.put({"a": number, "b": number}) for number in range(20)))

    assert await state.get(["a", "b"]) == {"a": 19, "b": 19}
    assert await state.get([]) == {}


async def test_what_is_over_is_forgotten_and_the_rest_is_not(store: Store) -> None:
    state = StoredState(store, "one", "")
    await state.put({"long": 1}, keep=3600)
    await state.put({"good": 2})
    await state.put({"over": 3}, keep=-1)

    kept = await state.get(["long", "good", "over"])
    store.maintain(keep_days=1, receipt_window_ms=1)
    rows = store.read(lambda c: sorted(c.execute(select(channel_state.c.key)).scalars()))

    assert kept == {"long": 1, "good": 2}
    assert rows == ["good", "long"]


async def test_one_node_has_the_turn_until_it_is_over_or_given_back(store: Store) -> None:
    one, other, channel = (
        StoredState(store, "poll", "n1"),
        StoredState(store, "poll", "n2"),
        StoredState(store, "x", "n2"),
    )

    assert await one.turn(60)
    assert await one.turn(60)
    assert not await other.turn(60)
    assert await channel.turn(60)
    assert await one.turn(-1)
    assert await other.turn(60)
    assert not await one.turn(60)


async def test_of_nodes_that_ask_at_once_one_has_the_turn(store: Store, store_url: str) -> None:
    stores = [store, *(Store(store_url) for _ in range(3))]

    had = await asyncio.gather(*(StoredState(one, "poll", f"n{n}").turn(60) for n, one in enumerate(stores)))
    for one in stores[1:]:
        one.close()

    assert sorted(had) == [False, False, False, True]


async def test_a_node_that_is_alone_has_every_turn(store: Store) -> None:
    await StoredState(store, "poll", "killed").turn(3600)

    assert await StoredState(store, "poll", "").turn(60)
