"""The delivery loop on a real store, with a destination that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from bridge.engine.deliver import Deliverer
from bridge.engine.render import Renderer
from bridge.engine.workers import Workers
from bridge.errors import Held, NotFound, Permanent, Temporary, Uncertain, Unreachable
from bridge.mapping import Rendered
from bridge.message import DeliveryStatus
from bridge.ports import Answer, Outgoing, RetryPolicy, SinkSettings
from bridge.store import schema as t
from bridge.store.finish import Finish
from bridge.store.leases import Lease
from bridge.store.store import Store
from tests.rigs.store import acceptance

Script = Callable[[Outgoing, int], BaseException | None]


class ScriptedSink:
    """Takes what it is sent; ``script(outgoing, times)`` says what goes wrong the n-th time it sees a message."""

    endpoint = "scripted"

    def __init__(self, script: Script = lambda outgoing, times: None, pause: float = 0.0) -> None:
        self.script, self.pause = script, pause
        self.seen: list[bytes] = []
        self.taken: list[bytes] = []
        self.under_way: set[tuple[str, ...]] = set()

    async def send(self, outgoing: Outgoing) -> Answer:
        keys = outgoing.delivery.keys
        assert keys not in self.under_way, "two deliveries of one key at a time"
        self.under_way.add(keys)
        self.seen.append(outgoing.data)
        await asyncio.sleep(self.pause)
        self.under_way.discard(keys)
        error = self.script(outgoing, self.seen.count(outgoing.data))
        if error is not None:
            raise error
        self.taken.append(outgoing.data)
        return Answer("AA")

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'radbridge.db'}")
    store.ensure_destinations(["pacs"])
    return store


def settings(**values: object) -> SinkSettings:
    retry = RetryPolicy.model_validate({"first": 0.02, "max": 0.1, "attempts": 3})
    return SinkSettings.model_validate({"type": "scripted", "retry": retry, **values})


def no_plan(revision: str) -> object:
    raise NotFound(revision)


@asynccontextmanager
async def delivering(
    store: Store, sink: ScriptedSink, plan: Callable[[str], object] = no_plan, **values: object
) -> AsyncIterator[Deliverer]:
    leases: list[Lease] = await store.leases("me", ["pacs"], alone=True)
    renderer = Renderer(store, plan, Workers())  # type: ignore[arg-type]
    deliverer = Deliverer("pacs", sink, settings(**values), store, renderer, lambda: leases[0])
    loop = asyncio.get_running_loop()
    store.on_commit = lambda names: loop.call_soon_threadsafe(deliverer.ring) and None
    task = asyncio.create_task(deliverer.run())
    try:
        yield deliverer
    finally:
        deliverer.stop()
        await asyncio.wait_for(task, 5)
        store.close()


async def until(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.01)


async def test_everything_arrives_once_and_in_sequence(store: Store) -> None:
    sink = ScriptedSink()
    async with delivering(store, sink):
        await asyncio.gather(*(store.accept(acceptance(f"C{n}", "pacs")) for n in range(500)))
        await until(lambda: len(sink.taken) == 500)
        await until(lambda: store.lanes() == [])
    assert sink.seen == [f"C{n}".encode() for n in range(500)]


async def test_a_retry_is_never_overtaken_on_its_key_and_others_go_on(store: Store) -> None:
    sink = ScriptedSink(lambda out, times: Temporary("busy") if out.data == b"A1" and times < 3 else None)
    async with delivering(store, sink, lane="patient"):
        for name in ("A1", "B1", "A2", "B2"):
            await store.accept(acceptance(name, "pacs", keys=(name[0],)))
        await until(lambda: len(sink.taken) == 4)
    assert [x for x in sink.taken if x[:1] == b"A"] == [b"A1", b"A2"]
    assert sink.taken.index(b"B2") < sink.taken.index(b"A1")


async def test_a_destination_that_is_away_burns_no_attempts_and_is_probed_by_one_message(store: Store) -> None:
    # Given a destination that refuses connections for a while, longer than any budget would last
    sink = ScriptedSink(lambda out, times: Unreachable("connection refused") if len(sink.seen) < 8 else None)
    async with delivering(store, sink, parallel=4, lane="patient") as deliverer:
        for n in range(20):
            await store.accept(acceptance(f"C{n}", "pacs", keys=(f"k{n}",)))
        # When it is away, this can be seen with its reason
        await until(lambda: deliverer.away is not None)
        assert deliverer.away and deliverer.away.reason["what"] == "connection refused"
        # Then all of it arrives when it is back, nothing is dead
        await until(lambda: len(sink.taken) == 20)
        await until(lambda: store.lanes() == [])
        assert deliverer.away is None


async def test_a_spent_budget_parks_its_key_with_the_reason_and_other_keys_go_on(store: Store) -> None:
    sink = ScriptedSink(lambda out, times: Temporary("busy", at="ERR-3") if out.data == b"A1" else None)
    async with delivering(store, sink, lane="patient"):
        for name in ("A1", "A2", "B1"):
            await store.accept(acceptance(name, "pacs", keys=(name[0],)))
        await until(lambda: any(lane.dead for lane in store.lanes()))
        await until(lambda: b"B1" in sink.taken)
        (dead,) = store.deliveries(status="dead")
        assert dead["error"]["what"] == "busy (given up after 3 of 3 attempts)"
        assert sink.seen.count(b"A1") == 3 and b"A2" not in sink.seen
        # When a person mends the cause and replays, the lane goes on in its sequence
        sink.script = lambda out, times: None
        store.replay_dead([dead["id"]], actor="test", revision="rev")
        await until(lambda: b"A2" in sink.taken)
    assert [x for x in sink.taken if x[:1] == b"A"] == [b"A1", b"A2"]


async def test_replaying_under_load_never_lets_a_later_message_of_the_key_pass(store: Store) -> None:
    sink = ScriptedSink(lambda out, times: Permanent("no") if out.data == b"A0" and times == 1 else None)
    async with delivering(store, sink, lane="patient"):
        await store.accept(acceptance("A0", "pacs", keys=("A",)))
        await until(lambda: any(lane.dead for lane in store.lanes()))
        more = [acceptance(f"{'AB'[n % 2]}{n + 1}", "pacs", keys=("AB"[n % 2],)) for n in range(300)]
        await asyncio.gather(*(store.accept(item) for item in more[:150]))
        (dead,) = store.deliveries(status="dead")
        rest = [asyncio.create_task(store.accept(item)) for item in more[150:]]
        await asyncio.to_thread(store.replay_dead, [dead["id"]], actor="test", revision="rev")
        await asyncio.gather(*rest)
        await until(lambda: len(sink.taken) == 301)
    for key in (b"A", b"B"):
        numbers = [int(x[1:]) for x in sink.taken if x[:1] == key]
        assert numbers == sorted(numbers)


async def test_a_permanent_error_is_dead_after_one_attempt(store: Store) -> None:
    sink = ScriptedSink(lambda out, times: Permanent("rejected", at="PID-3", fix="send it"))
    async with delivering(store, sink):
        await store.accept(acceptance("C1", "pacs"))
        await until(lambda: any(lane.dead for lane in store.lanes()))
        (dead,) = store.deliveries(status="dead")
    assert len(sink.seen) == 1 and dead["error"]["at"] == "PID-3"


async def test_a_missing_answer_repeats_the_same_bytes_marked_as_suspected(store: Store) -> None:
    suspected: list[bool] = []

    def script(out: Outgoing, times: int) -> BaseException | None:
        suspected.append(out.delivery.suspected)
        return Uncertain("no ACK") if times == 1 else None

    sink = ScriptedSink(script)
    async with delivering(store, sink):
        await store.accept(acceptance("C1", "pacs"))
        await until(lambda: len(sink.taken) == 1)
    assert sink.seen == [b"C1", b"C1"] and suspected == [False, True]


async def test_a_missing_answer_makes_no_more_duplicates_than_allowed_and_each_is_told(store: Store) -> None:
    retry = RetryPolicy.model_validate({"first": 0.01, "max": 0.02, "attempts": 9, "repeats": 2})
    sink = ScriptedSink(lambda out, times: Uncertain("no ACK"))
    item = acceptance("C1", "pacs")
    async with delivering(store, sink, retry=retry):
        await store.accept(item)
        await until(lambda: any(lane.dead for lane in store.lanes()))
        (found,) = store.message(item.message.id)["deliveries"]
    assert sink.seen == [b"C1"] * 3
    assert found["status"] == "dead" and found["suspected"] is True
    assert [one["outcome"] for one in found["tries"]] == ["suspected", "suspected", "dead"]


async def test_a_new_owner_knows_how_often_a_delivery_may_have_arrived(store: Store) -> None:
    (lease,) = await store.leases("me", ["pacs"], alone=True)
    item = acceptance("C1", "pacs")
    await store.accept(item)
    (delivery,) = item.deliveries
    delivery.suspected = True
    for attempt, suspected in enumerate((True, False, True), 1):
        delivery.attempts = attempt
        error = {"what": "no ACK"}
        await store.finish(Finish(delivery, lease.epoch, DeliveryStatus.PENDING, error=error, suspected=suspected))
    ((owed,), _) = store.claim("pacs", 0, 10)
    store.close()
    assert (owed.delivery.attempts, owed.delivery.repeats) == (3, 2)


async def test_a_delivery_that_arrived_after_a_repeat_still_tells_that_it_may_be_there_twice(store: Store) -> None:
    sink = ScriptedSink(lambda out, times: Uncertain("no ACK") if times == 1 else None)
    item = acceptance("C1", "pacs")
    async with delivering(store, sink):
        await store.accept(item)
        await until(lambda: store.lanes() == [])
        (found,) = store.message(item.message.id)["deliveries"]
    assert (found["status"], found["suspected"]) == ("done", True)


async def test_what_is_held_parks_its_lane_where_other_dead_letters_let_it_pass(store: Store) -> None:
    def script(out: Outgoing, times: int) -> BaseException | None:
        return {b"A1": Held("unknown patient"), b"B1": Permanent("no")}.get(out.data)

    sink = ScriptedSink(script)
    async with delivering(store, sink, lane="patient", on_dead="pass"):
        for name in ("A1", "B1", "A2", "B2"):
            await store.accept(acceptance(name, "pacs", keys=(name[0],)))
        await until(lambda: b"B2" in sink.taken)
        await asyncio.sleep(0.1)
    assert sink.taken == [b"B2"]


async def test_a_defect_holds_the_lane_is_told_without_content_and_can_be_skipped(store: Store) -> None:
    sink = ScriptedSink(lambda out, times: ZeroDivisionError("EXEMPLE^ALICE") if out.data == b"C1" else None)
    async with delivering(store, sink, on_dead="pass", retry={"first": 0.01, "attempts": 3}) as deliverer:
        for name in ("C1", "C2"):
            await store.accept(acceptance(name, "pacs"))
        await until(lambda: store.deliveries(status="dead") != [])
        (dead,) = store.deliveries(status="dead")
        assert "ZeroDivisionError" in dead["error"]["what"] and "EXEMPLE" not in str(dead)
        assert sink.seen == [b"C1"] * 3

        # When a person skips it, the lane goes on
        store.skip([dead["id"]], actor="test", reason="known defect")
        deliverer.ring()
        await until(lambda: sink.taken == [b"C2"])


async def test_no_more_than_the_bound_is_sent_without_being_marked(store: Store) -> None:
    sink = ScriptedSink()
    most = 0
    async with delivering(store, sink, repeat=1) as deliverer:
        await asyncio.gather(*(store.accept(acceptance(f"C{n}", "pacs")) for n in range(50)))
        while len(sink.taken) < 50:
            most = max(most, len(deliverer._lanes.unmarked))
            await asyncio.sleep(0)
    assert most == 1


async def test_without_a_lease_nothing_leaves(store: Store) -> None:
    sink = ScriptedSink()
    async with delivering(store, sink) as deliverer:
        deliverer._feed._lease = lambda: None
        await store.accept(acceptance("C1", "pacs"))
        await asyncio.sleep(0.3)
    assert sink.seen == []


class Swelling:
    """A plan whose mapping makes a large message of any."""

    target = "bytes"
    context: dict[str, object] = {}

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    def mapping(self, name: str) -> Swelling:
        return self

    def render(self, name: str, parsed: object, context: object) -> Rendered:
        self.failures -= 1
        if self.failures >= 0:
            raise Temporary("a worker ended")
        return Rendered(40_000 * b".", "bytes", "")


async def test_rendered_bytes_that_cannot_be_kept_interrupt_no_message_under_way(store: Store) -> None:
    sink = ScriptedSink(pause=1.5)
    async with delivering(store, sink, lambda revision: Swelling(), lane="patient", parallel=2):
        # Given a message under way, and a store that is full
        await store.accept(acceptance("A", "pacs", keys=("a",)))
        await until(lambda: sink.seen == [b"A"])
        pages = store.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
        store.write(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}").scalar())
        # When another one is to be rendered
        large = acceptance("B", "pacs", keys=("b",))
        large.deliveries[0].mapping = "swell"
        await store.accept(large)
        await until(lambda: not store.healthy)
        # Then the first one arrives all the same, and the other one when there is room
        await until(lambda: sink.taken == [b"A"])
        store.write(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 100000").scalar())
        await until(lambda: len(sink.taken) == 2)
    assert sink.seen == [b"A", 40_000 * b"."]


async def test_bytes_rendered_again_leave_only_once_they_are_kept(store: Store) -> None:
    def kept(outgoing: Outgoing, times: int) -> None:
        payload = select(t.delivery.c.payload).where(t.delivery.c.id == outgoing.delivery.id)
        assert store.read(lambda c: c.execute(payload).scalar()) == outgoing.data

    # Given a full store, and a message whose first rendering fails
    sink, plan = ScriptedSink(kept), Swelling(failures=1)
    async with delivering(store, sink, lambda revision: plan):
        pages = store.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
        store.write(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}").scalar())
        large = acceptance("B", "pacs")
        large.deliveries[0].mapping = "swell"
        await store.accept(large)
        # When the second one cannot be kept
        await until(lambda: not store.healthy)
        await asyncio.sleep(0.3)
        # Then it leaves when it can
        assert sink.seen == []
        store.write(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 100000").scalar())
        await until(lambda: len(sink.taken) == 1)
