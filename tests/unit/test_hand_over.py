"""What was just accepted goes to its deliverer in memory; whatever is missed on that way is claimed, nothing twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.engine.deliver import Deliverer
from bridge.engine.feed import SWEEP
from bridge.engine.render import Renderer
from bridge.engine.workers import Workers
from bridge.errors import NotFound, Permanent, Unreachable
from bridge.ports import SinkSettings
from bridge.store.accept import Acceptance
from bridge.store.deliveries import Front, Owed
from bridge.store.leases import Lease
from bridge.store.store import Store
from tests.rigs.store import acceptance
from tests.unit.test_deliver import Script, ScriptedSink, settings, until

EPOCH_LASTS = 600.0


class CountingStore(Store):
    """Counts how often deliveries are read back."""

    claims = 0

    def claim(self, destination: str, after: int, limit: int) -> tuple[list[Owed], Front]:
        self.claims += 1
        return super().claim(destination, after, limit)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    store = CountingStore(f"sqlite:///{tmp_path / 'radbridge.db'}")
    store.ensure_destinations(["pacs"])
    return store


class Node:
    """A deliverer that is handed what is accepted, unless ``misses`` says that it misses it."""

    def __init__(self, store: Store, sink: ScriptedSink, lane: SinkSettings) -> None:
        (lease,) = store.write(lambda tx: _take(tx))
        self.lease = Lease("pacs", lease.epoch, time.monotonic() + EPOCH_LASTS)
        renderer = Renderer(store, _no_plan, Workers())  # type: ignore[arg-type]
        self.deliverer = Deliverer("pacs", sink, lane, store, renderer, lambda: self.lease)
        self.misses: Callable[[Acceptance], bool] = lambda accepted: False
        loop = asyncio.get_running_loop()
        store.on_commit = lambda names: loop.call_soon_threadsafe(self.deliverer.ring) and None
        store.hand_over(self.take)

    def take(self, accepted: Acceptance) -> None:
        if self.misses(accepted):
            self.deliverer.ring()
            return
        for delivery in accepted.deliveries:
            self.deliverer.offer(Owed(delivery, accepted.message.raw, "bytes", "", "", 0, fresh=True))


def _take(tx: object) -> list[Lease]:
    from bridge.store import leases

    return leases.take(tx, "me", ["pacs"], alone=True)  # type: ignore[arg-type]


def _no_plan(revision: str) -> object:
    raise NotFound(revision)


@asynccontextmanager
async def node(
    store: Store, script: Script | None = None, **values: object
) -> AsyncIterator[tuple[Node, ScriptedSink]]:
    sink = ScriptedSink(script) if script else ScriptedSink()
    made = Node(store, sink, settings(**values))
    task = asyncio.create_task(made.deliverer.run())
    try:
        yield made, sink
    finally:
        made.deliverer.stop()
        await asyncio.wait_for(task, 20)
        store.close()


def names(count: int) -> list[bytes]:
    return [f"C{number}".encode() for number in range(count)]


async def test_what_is_handed_over_arrives_without_being_read_back(store: CountingStore) -> None:
    async with node(store) as (made, sink):
        # Given a deliverer that knows all there is
        await store.accept(acceptance("C0", "pacs"))
        await until(lambda: len(sink.taken) == 1 and made.deliverer._feed._reached == 1, 60)
        before, began = store.claims, time.monotonic()
        # When more is accepted
        for number in range(1, 50):
            await store.accept(acceptance(f"C{number}", "pacs"))
        await until(lambda: len(sink.taken) == 50, 60)
        # Then it arrives without a claim, but for those of the sweeper
        assert store.claims - before <= (time.monotonic() - began) / SWEEP
    assert sink.seen == names(50)


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_missed_on_the_way_is_claimed_and_nothing_comes_twice(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    async with node(store) as (made, sink):
        made.misses = lambda accepted: chance.random() < 0.05
        number = 0
        while number < 400:
            burst = chance.choice((1, 2, 30, 80))
            items = [acceptance(f"C{number + n}", "pacs") for n in range(min(burst, 400 - number))]
            number += len(items)
            await asyncio.gather(*(store.accept(item) for item in items))
            await asyncio.sleep(chance.choice((0, 0, 0.01)))
        await until(lambda: len(sink.seen) >= 400, 60)
        await until(lambda: store.lanes() == [], 60)
    assert sink.seen == names(400)


async def test_more_than_may_be_held_in_memory_is_claimed(store: Store) -> None:
    away = True
    async with node(store, lambda out, times: Unreachable("away") if away else None) as (_, sink):
        # Given 12 MB for a destination that is away, where 8 are held
        items = [acceptance(f"C{number}", "pacs", raw=b"%03d" % number * 20_000) for number in range(200)]
        await asyncio.gather(*(store.accept(item) for item in items))
        # When it is back
        away = False
        # Then all of it arrives in sequence
        await until(lambda: len(sink.taken) == 200, 60)
    assert [int(one[:3]) for one in sink.taken] == list(range(200))


async def test_a_death_keeps_what_is_handed_over_behind_it_on_its_key(store: Store) -> None:
    # Given a patient whose second message dies, and more about the same and another patient, as it comes
    script: Script = lambda out, times: Permanent("no") if out.data == b"A1" and times == 1 else None  # noqa: E731
    async with node(store, script, lane="patient") as (_, sink):
        for number in range(40):
            await store.accept(acceptance(f"{'AB'[number % 2]}{number // 2}", "pacs", keys=("AB"[number % 2],)))
        await until(lambda: len(sink.taken) == 21, 60)
        assert [one for one in sink.taken if one[:1] == b"A"] == [b"A0"]
        # When a person replays it
        (dead,) = store.deliveries(status="dead")
        await asyncio.to_thread(store.replay_dead, [dead["id"]], actor="test", revision="rev")
        # Then the patient's sequence goes on from there, and what comes later is handed over again
        await until(lambda: len(sink.taken) == 40, 60)
        await store.accept(acceptance("A20", "pacs", keys=("A",)))
        await until(lambda: len(sink.taken) == 41, 60)
    assert [one for one in sink.taken if one[:1] == b"A"] == [f"A{n}".encode() for n in range(21)]


async def test_a_lease_that_was_renewed_late_lets_nothing_overtake(store: CountingStore) -> None:
    async with node(store, lane="patient") as (made, sink):
        sink.pause = 0.5
        # Given one delivery under way and others of its key that wait behind it
        for number in range(10):
            await store.accept(acceptance(f"C{number}", "pacs", keys=("A",)))
        await until(lambda: len(sink.seen) == 1 and len(made.deliverer._feed.lanes.waiting) == 9, 60)
        # When the lease runs out, and is renewed with the same epoch
        good = made.lease
        made.lease = Lease("pacs", good.epoch, 0.0)
        made.deliverer.ring()
        await until(lambda: not made.deliverer._feed.lanes.waiting, 60)
        made.lease = good
        made.deliverer.ring()
        await store.accept(acceptance("C10", "pacs", keys=("A",)))
        sink.pause = 0.0
        # Then nothing overtakes
        await until(lambda: len(sink.taken) == 11, 60)
    assert sink.taken == names(11)


async def test_a_new_lease_starts_from_what_the_store_says(store: Store) -> None:
    async with node(store) as (made, sink):
        await store.accept(acceptance("C0", "pacs"))
        await until(lambda: len(sink.taken) == 1, 60)
        # Given another owner in between, who leaves something undone
        made.lease = Lease("pacs", made.lease.epoch, 0.0)
        await store.accept(acceptance("C1", "pacs"))
        # When this one owns the destination again
        (again,) = await asyncio.to_thread(store.write, lambda tx: _other_then_me(tx))
        made.lease = Lease("pacs", again.epoch, time.monotonic() + EPOCH_LASTS)
        made.deliverer.ring()
        await store.accept(acceptance("C2", "pacs"))
        # Then nothing is missing
        await until(lambda: len(sink.taken) == 3, 60)
    assert sink.seen == names(3)


def _other_then_me(tx: object) -> list[Lease]:
    from bridge.store import leases

    leases.take(tx, "other", ["pacs"], alone=True)  # type: ignore[arg-type]
    return _take(tx)
