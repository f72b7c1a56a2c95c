"""The store on SQLite and on PostgreSQL: the same promises on both."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, text

from bridge.codecs.hl7v2 import parse
from bridge.engine.plan import lane_keys
from bridge.errors import BridgeError, NotFound, Overloaded, Permanent, StoreUnavailable
from bridge.message import Delivery, DeliveryStatus
from bridge.ports import Answer
from bridge.store import migrate, retention
from bridge.store import schema as t
from bridge.store.deliveries import claim
from bridge.store.finish import Fenced, Finish, Frozen
from bridge.store.leases import Lease
from bridge.store.search import MessageFilter
from bridge.store.store import Store
from tests.rigs.store import acceptance


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    store.ensure_destinations(["pacs", "his"])
    store.maintain(keep_days=90, receipt_window_ms=86_400_000)
    yield store
    store.close()


async def own(store: Store, owner: str = "me") -> Lease:
    (lease,) = await store.leases(owner, ["pacs"], alone=False)
    return lease


def claimed(store: Store, after: int = 0) -> list[Delivery]:
    return [owed.delivery for owed in store.claim("pacs", after, 100)[0]]


async def die(store: Store, delivery: Delivery, epoch: int, hold: bool = True) -> None:
    error = {"kind": "required", "what": "no accession", "at": "OBR-18", "fix": "send it"}
    await store.finish(Finish(delivery, epoch, DeliveryStatus.DEAD, error=error, hold=hold))


async def test_an_accepted_message_is_owed_to_every_destination_in_the_sequence_of_acceptance(store: Store) -> None:
    # Given ten messages for two destinations
    items = [acceptance(f"C{n}", "pacs", "his") for n in range(10)]
    # When they are accepted, many to a commit
    results = await asyncio.gather(*(store.accept(item) for item in items))
    # Then each is stored once and each destination owes all of them in that sequence
    assert [result.message for result in results] == [item.message.id for item in items]
    for destination in ("pacs", "his"):
        owed, _ = store.claim(destination, 0, 100)
        assert [o.raw for o in owed] == [f"C{n}".encode() for n in range(10)]
        assert [o.delivery.position for o in owed] == list(range(1, 11))


async def test_a_resend_gets_the_first_answer_and_owes_nothing_but_has_its_row(store: Store) -> None:
    first = await store.accept(acceptance("C1", "pacs"))
    again = await store.accept(acceptance("C1", "pacs"))
    assert again.duplicate and again.answer == first.answer
    assert len(claimed(store)) == 1
    statuses = {row["id"]: row["status"] for row in store.messages(MessageFilter(control_id="C1"))}
    assert statuses == {first.message: "routed", again.message: "duplicate"}


async def test_a_resend_inside_the_same_commit_is_recognised_too(store: Store) -> None:
    results = await asyncio.gather(*(store.accept(acceptance("C1", "pacs")) for _ in range(5)))
    assert [result.duplicate for result in results] == [False, True, True, True, True]
    assert len({result.answer for result in results}) == 1
    assert len(claimed(store)) == 1


async def test_the_same_control_id_with_other_content_is_processed_and_flagged(store: Store) -> None:
    await store.accept(acceptance("C1", "pacs", content=b"one"))
    other = await store.accept(acceptance("C1", "pacs", content=b"two"))
    assert not other.duplicate
    assert len(claimed(store)) == 2
    assert store.message(other.message)["warnings"] == ["control id was used before with other content"]


async def test_a_batch_that_is_run_again_after_an_unknown_commit_changes_nothing(store: Store) -> None:
    # Given a message whose commit went through unnoticed
    item = acceptance("C1", "pacs")
    first = await store.accept(item)
    # When the writer runs the same job again
    second = await store.accept(item)
    # Then it is the same acceptance, not a duplicate of itself
    assert (second.message, second.answer, second.duplicate) == (first.message, first.answer, False)
    assert len(claimed(store)) == 1 and len(store.messages(MessageFilter())) == 1


async def test_one_bad_row_does_not_fail_its_neighbours(store: Store) -> None:
    # Given a batch in which one delivery repeats the id of a stored one
    stored = acceptance("C0", "pacs")
    await store.accept(stored)
    items = [acceptance(f"C{n}", "pacs") for n in range(1, 40)]
    bad = acceptance("C40", "pacs")
    bad.deliveries[0].id = stored.deliveries[0].id
    # When all are accepted together
    results = await asyncio.gather(
        *(store.accept(item) for item in [*items[:20], bad, *items[20:]]), return_exceptions=True
    )
    # Then only the bad one fails
    assert isinstance(results.pop(20), Exception)
    assert all(not isinstance(result, Exception) for result in results)
    assert [d.message for d in claimed(store)] == [stored.message.id, *(item.message.id for item in items)]


async def test_positions_of_a_commit_that_failed_are_allotted_anew(store: Store) -> None:
    # Given a batch that fails after its positions were allotted: one delivery repeats the id of a stored one
    stored = acceptance("C0", "pacs")
    await store.accept(stored)
    bad = acceptance("C1", "pacs")
    bad.deliveries[0].id = stored.deliveries[0].id
    neighbours = [acceptance(f"C{n}", "pacs") for n in range(2, 8)]
    # When its good part is committed by itself, and more follows
    await asyncio.gather(*(store.accept(item) for item in [*neighbours, bad]), return_exceptions=True)
    later = [acceptance(f"C{n}", "pacs") for n in range(8, 14)]
    await asyncio.gather(*(store.accept(item) for item in later))
    # Then every delivery has a place of its own, in the sequence of acceptance
    assert [d.message for d in claimed(store)] == [item.message.id for item in [stored, *neighbours, *later]]
    assert len({d.position for d in claimed(store)}) == 13


async def test_a_full_queue_refuses_instead_of_growing(store: Store, store_url: str) -> None:
    small = Store(store_url, queue=3)
    results = await asyncio.gather(
        *(small.accept(acceptance(f"C{n}", "pacs")) for n in range(500)), return_exceptions=True
    )
    small.close()
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert refused and "more is arriving" in str(refused[0])
    assert len(claimed(store)) == min(100, len(results) - len(refused)), "what was answered is stored, nothing else"


async def test_frozen_bytes_survive_and_a_finish_moves_the_delivery_to_the_journal(store: Store) -> None:
    accepted = await store.accept(acceptance("C1", "pacs"))
    lease = await own(store)
    (delivery,) = claimed(store)
    await store.freeze([Frozen(delivery.id, b"rendered", {"exam": 1})])
    (frozen,) = claimed(store)
    assert (frozen.payload, frozen.context) == (b"rendered", {"exam": 1})
    await store.finish(Finish(frozen, lease.epoch, DeliveryStatus.DONE, answer="AA", sent=b"rendered"))
    (row,) = store.message(accepted.message)["deliveries"]
    assert (row["status"], row["answer"]) == ("done", "AA")
    assert claimed(store) == [] and store.lanes() == []


async def test_finishing_twice_is_harmless(store: Store) -> None:
    accepted = await store.accept(acceptance("C1", "pacs"))
    lease = await own(store)
    (delivery,) = claimed(store)
    for _ in range(2):
        await store.finish(Finish(delivery, lease.epoch, DeliveryStatus.DONE, answer="AA"))
    assert len(store.message(accepted.message)["deliveries"]) == 1


async def test_a_finish_under_a_lost_lease_is_not_written(store: Store) -> None:
    await store.accept(acceptance("C1", "pacs"))
    lease = await own(store)
    (delivery,) = claimed(store)
    with pytest.raises(Fenced):
        await store.finish(Finish(delivery, lease.epoch - 1, DeliveryStatus.DONE))
    assert len(claimed(store)) == 1


async def test_a_lease_is_held_by_one_and_taken_over_when_given_back(store: Store) -> None:
    mine = await own(store)
    assert await store.leases("other", ["pacs"], alone=False) == []
    renewed = await own(store)
    assert renewed.epoch == mine.epoch and renewed.valid
    store.give_back("me")
    theirs = await own(store, "other")
    assert theirs.epoch == mine.epoch + 1


async def test_the_only_process_takes_a_killed_ones_lease_at_once(store: Store) -> None:
    before = await own(store, "killed")
    (lease,) = await store.leases("me", ["pacs"], alone=True)
    assert lease.epoch == before.epoch + 1


async def test_a_dead_delivery_parks_its_key_and_no_other(store: Store) -> None:
    for control_id, key in (("C1", "a"), ("C2", "a"), ("C3", "b")):
        await store.accept(acceptance(control_id, "pacs", keys=(key,)))
    lease = await own(store)
    await die(store, claimed(store)[0], lease.epoch)
    assert [d.keys for d in claimed(store)] == [("b",)]
    (lane,) = store.lanes()
    assert (lane.pending, lane.dead, lane.parked_keys) == (2, 1, 1)
    assert lane.head_error and lane.head_error["at"] == "OBR-18"


ORDER_1, ORDER_2 = ("o1", "~a"), ("o2", "~a")
MERGE, ORDER_OF_B = ("a", "b", "~a", "~b"), ("o3", "~b")


async def test_by_order_a_dead_order_holds_its_own_order_and_the_merge_of_its_patient_and_nothing_else(
    store: Store,
) -> None:
    # Given an order that died, one more message of it, another order of the patient, one of somebody else
    for number, keys in enumerate((ORDER_1, ORDER_1, ORDER_2, ("o4", "~c"))):
        await store.accept(acceptance(f"C{number}", "pacs", keys=keys))
    lease = await own(store)
    await die(store, claimed(store)[0], lease.epoch)
    assert [d.position for d in claimed(store)] == [3, 4]
    # When the patient is merged, and orders of both patients follow
    for number, keys in enumerate((MERGE, ORDER_2, ORDER_OF_B), start=4):
        await store.accept(acceptance(f"C{number}", "pacs", keys=keys))
    # Then they wait for the merge, which waits for the dead order
    assert [d.position for d in claimed(store)] == [3, 4]
    # And once it is given up all go on
    store.skip([d["id"] for d in store.deliveries(status="dead")], actor="test", reason="not needed")
    assert [d.position for d in claimed(store)] == [2, 3, 4, 5, 6, 7]


async def test_by_order_a_dead_merge_holds_every_order_of_both_patients(store: Store) -> None:
    for number, keys in enumerate((MERGE, ORDER_1, ORDER_OF_B, ("o4", "~c"))):
        await store.accept(acceptance(f"C{number}", "pacs", keys=keys))
    lease = await own(store)
    await die(store, claimed(store)[0], lease.epoch)

    assert [d.position for d in claimed(store)] == [4]


async def test_a_merge_behind_a_dead_order_that_waits_for_another_one_is_held_too(store: Store) -> None:
    # Given a dead order of patient a, and behind it a message of the same order about patient b
    for number, keys in enumerate((ORDER_1, ("o1", "~b"), ("b", "~b"), ORDER_OF_B)):
        await store.accept(acceptance(f"C{number}", "pacs", keys=keys))
    lease = await own(store)
    await die(store, claimed(store)[0], lease.epoch)

    # Then the update of b waits for that message, and b's order for the update
    assert claimed(store) == []


async def test_a_lane_that_lets_pass_goes_on_behind_a_dead_delivery(store: Store) -> None:
    for control_id in ("C1", "C2"):
        await store.accept(acceptance(control_id, "pacs"))
    lease = await own(store)
    await die(store, claimed(store)[0], lease.epoch, hold=False)
    assert [d.position for d in claimed(store)] == [2]


async def test_replaying_a_dead_delivery_takes_its_place_in_the_lane_and_names_its_cause(store: Store) -> None:
    for control_id in ("C1", "C2"):
        await store.accept(acceptance(control_id, "pacs"))
    lease = await own(store)
    first = claimed(store)[0]
    await die(store, first, lease.epoch)
    before = store.claim("pacs", 0, 10)[1].shuffles
    replayed = store.replay_dead([first.id], actor="test", revision="rev2")
    owed, front = store.claim("pacs", 0, 10)
    assert [(o.delivery.position, o.delivery.cause, o.delivery.revision) for o in owed] == [
        (1, first.id, "rev2"),
        (2, "", "rev"),
    ]
    assert replayed.deliveries == [owed[0].delivery.id] and front.shuffles == before + 1
    assert store.delivery(first.id)["status"] == "replayed"


async def test_skipping_is_recorded_and_frees_the_lane(store: Store) -> None:
    for control_id in ("C1", "C2"):
        await store.accept(acceptance(control_id, "pacs"))
    lease = await own(store)
    first = claimed(store)[0]
    await die(store, first, lease.epoch)
    store.skip([first.id], actor="anna", reason="sent by phone")
    assert [d.position for d in claimed(store)] == [2]
    rows = store.read(lambda c: c.execute(t.audit.select()).mappings().all())
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [("anna", "skip", first.id)]


@pytest.mark.parametrize("act", ["replay_dead", "skip"])
async def test_only_dead_deliveries_can_be_replayed_in_place_or_skipped(store: Store, act: str) -> None:
    await store.accept(acceptance("C1", "pacs"))
    (pending,) = claimed(store)
    arguments: dict[str, Any] = {"actor": "test"}
    arguments |= {"revision": "rev"} if act == "replay_dead" else {"reason": "x"}
    with pytest.raises(BridgeError, match="pending, not dead"):
        getattr(store, act)([pending.id], **arguments)
    with pytest.raises(NotFound):
        getattr(store, act)(["nothing"], **arguments)


async def test_a_projection_is_written_with_its_finish_or_not_at_all(store: Store) -> None:
    for control_id in ("C1", "C2"):
        await store.accept(acceptance(control_id, "pacs", keys=(control_id,)))
    lease = await own(store)
    good, bad = claimed(store)

    def write(tx: Connection, fail: bool) -> Answer:
        tx.execute(insert(t.meta), {"key": "projected-bad" if fail else "projected", "value": "1"})
        if fail:
            raise Permanent("cannot be applied")
        return Answer("applied")

    results = await asyncio.gather(
        store.finish(Finish(good, lease.epoch, DeliveryStatus.DONE, apply=lambda tx: write(tx, False))),
        store.finish(Finish(bad, lease.epoch, DeliveryStatus.DONE, apply=lambda tx: write(tx, True))),
        return_exceptions=True,
    )
    assert results[0].answer == "applied" and isinstance(results[1], Permanent)  # type: ignore[union-attr]
    assert [d.id for d in claimed(store)] == [bad.id]
    kept = store.read(lambda c: set(c.execute(text("SELECT key FROM meta")).scalars()))
    assert "projected" in kept and "projected-bad" not in kept


async def test_bells_ring_after_the_commit_and_only_for_who_is_owed_something(store: Store) -> None:
    rung: list[set[str]] = []

    def on_commit(destinations: set[str]) -> None:
        rung.append({d for d in destinations if store.claim(d, 0, 1)[0]})

    store.on_commit = on_commit
    await store.accept(acceptance("C1", "his"))
    assert rung == [{"his"}]


async def test_receipts_and_old_days_are_forgotten_but_what_is_owed_keeps_its_message(store: Store) -> None:
    # Given an old message that ended, and an old one that is dead
    done, dead = await asyncio.gather(store.accept(acceptance("C1", "pacs")), store.accept(acceptance("C2", "pacs")))
    lease = await own(store)
    first, second = claimed(store)
    await store.finish(Finish(first, lease.epoch, DeliveryStatus.DONE, answer="AA"))
    # When the same day is past its retention while one delivery is still owed
    tomorrow = retention.day_of(retention.now_millis() + 86_400_000)
    store.write(lambda tx: retention.drop_before(tx, tomorrow))
    # Then what is owed is whole
    assert [d.id for d in claimed(store)] == [second.id]
    assert store.message(dead.message)["control_id"] == "C2"
    # And once it ended too, the day goes
    await store.finish(Finish(second, lease.epoch, DeliveryStatus.DONE, answer="AA"))
    store.write(lambda tx: retention.drop_before(tx, tomorrow))
    assert store.messages(MessageFilter()) == []
    assert store.write(lambda tx: retention.trim_receipts(tx, retention.now_millis() + 1)) == 2
    assert not (await store.accept(acceptance("C1", "pacs"))).duplicate
    assert done.message


def test_a_token_is_made_once(store: Store) -> None:
    assert store.meta("token", lambda: "abc") == ("abc", True)
    assert store.meta("token", lambda: "other") == ("abc", False)


def test_the_migrated_schema_is_the_declared_one(store: Store) -> None:
    scripts = ScriptDirectory(str((migrate.Path(migrate.__file__)).parent / "migrations"))
    assert scripts.get_current_head() == migrate.HEAD == migrate.current(store.database)
    with store.database.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _ours})
        assert compare_metadata(context, t.metadata) == []


def _ours(thing: Any, name: str, kind: str, reflected: bool, compared: Any) -> bool:
    partitions = tuple(f"{table.name}_" for table in t.PARTITIONED)
    return not (kind == "table" and reflected and name.startswith(partitions) and name not in t.metadata.tables)


def test_a_database_of_another_version_is_left_as_it_is_and_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    Store(url).close()
    with sqlite3.connect(tmp_path / "x.db") as by_hand:
        by_hand.execute("UPDATE alembic_version SET version_num = '0000-other'")

    with pytest.raises(BridgeError) as caught:
        Store(url)

    assert "0000-other" in caught.value.what and "version that made it" in caught.value.fix


def test_a_database_that_cannot_be_opened_is_named_with_a_fix() -> None:
    with pytest.raises(BridgeError) as caught:
        Store("sqlite:////nonexistent/folder/x.db")
    assert "/nonexistent/folder/x.db" in caught.value.at and caught.value.fix


async def test_a_disk_that_fills_up_never_brings_a_positive_answer_without_the_message(tmp_path: Path) -> None:
    # Given room for a large message, and for its large answer, but not for both
    store = Store(f"sqlite:///{tmp_path / 'bridge.db'}")
    store.ensure_destinations(["pacs"])
    large = acceptance("C1", "pacs", raw=b"." * 40_000)
    large.answer = b"." * 24_000
    pages = store.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
    store.write(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count = {pages + 12}").scalar())
    # When it comes
    with pytest.raises(StoreUnavailable, match="full"):
        await store.accept(large)
    # Then nothing of it was kept, and there is room for the next one
    assert store.messages(MessageFilter()) == claimed(store) == []
    assert store.read(lambda c: c.execute(text("SELECT count(*) FROM receipt")).scalar()) == 0
    await store.accept(acceptance("C2", "pacs"))
    store.close()


async def test_what_waits_further_behind_costs_a_claim_past_dead_deliveries_nothing(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'bridge.db'}")
    store.ensure_destinations(["pacs"])

    def steps(connection: Connection) -> int:
        """Thousands of SQLite's virtual machine steps that a claim takes."""
        seen: list[None] = []
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(lambda: seen.append(None), 1000)
        assert len(claim(connection, "pacs", 0, 8)[0]) == 8
        driver.set_progress_handler(None, 0)
        return len(seen)

    # Given dead deliveries of eight orders, and others that wait
    taken = []
    for count in (200, 1000):
        orders = [acceptance(f"C{count}-{n}", "pacs", keys=(f"~p{n % 40}", f"o{count}-{n}")) for n in range(count)]
        await asyncio.gather(*(store.accept(one) for one in orders))
        lease = await own(store)
        for delivery in claimed(store)[: 8 - 8 * len(taken)]:
            await die(store, delivery, lease.epoch)
        taken.append(store.read(steps))
    # Then a claim takes as long with six times as many behind
    assert taken[1] < 2 * taken[0] + 10
    store.close()


async def test_a_message_with_nul_characters_is_stored_as_it_came(store: Store) -> None:
    raw = b"MSH|^~\\&|R\0|D|P|D|2026||ORM^O\0|C\0|P|2.3\rPID|1||P\\X00\\1^^^H\rORC|NW|O\0\rOBR|1" + 15 * b"|" + b"A\0"
    header = parse(raw).header
    item = acceptance("C1", "pacs", keys=lane_keys(header, "order"), raw=raw)
    item.message = replace(item.message, header=header)
    await store.accept(item)
    assert store.claim("pacs", 0, 1)[0][0].raw == raw
