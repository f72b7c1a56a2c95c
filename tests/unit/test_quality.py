"""What is said of a sender's data, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bridge.errors import CodecError, Invalid
from bridge.message import DeliveryStatus, Message, MessageStatus, new_id
from bridge.store.accept import Acceptance
from bridge.store.finish import Finish
from bridge.store.quality import QualitySource, quality
from bridge.store.retention import day_of
from bridge.store.store import Store
from tests.rigs.store import acceptance

HOUR = 3_600_000
NO_ACCESSION = {"kind": "required", "what": "no accession", "at": "OBR-18", "fix": "send OBR-18"}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    opened.ensure_destinations(["pacs", "his"])
    yield opened
    opened.close()


def now() -> int:
    return time.time_ns() // 1_000_000


def report(store: Store, since: int | None = None, channel: str = "") -> list[QualitySource]:
    start = now() - HOUR if since is None else since
    found: list[QualitySource] = store.read(lambda connection: quality(connection, start, channel))
    return found


async def refused(store: Store, control_id: str, at: str, what: str, **changes: object) -> Message:
    item = acceptance(control_id)
    error = {"kind": "required", "what": what, "at": at, "fix": f"send {at}"}
    message = replace(item.message, status=MessageStatus.REFUSED, error=error, **changes)
    await store.accept(Acceptance(message, [], receipt=False))
    return message


async def dies(store: Store, item: Acceptance, **errors: dict[str, str]) -> None:
    """Accepted, and dead at each destination with its error."""
    await store.accept(item)
    leases = await store.leases("me", sorted(errors), alone=False)
    for delivery in item.deliveries:
        epoch = next(lease.epoch for lease in leases if lease.destination == delivery.destination)
        error = errors[delivery.destination]
        await store.finish(Finish(delivery, epoch, DeliveryStatus.DEAD, error=error, hold=False))


async def test_each_missing_field_is_counted_for_its_sender_with_the_newest_example(store: Store) -> None:
    # Given a sender with ten messages, three refused for two reasons, and another one in order
    for number in range(7):
        await store.accept(acceptance(f"GOOD{number}", "pacs"))
    await refused(store, "BAD1", "PID-3", "patient identifier missing")
    newest = await refused(store, "BAD2", "PID-3", "patient identifier missing")
    await refused(store, "BAD3", "MSH-9", "message type missing")
    item = acceptance("ELSE1", "pacs")
    await store.accept(
        Acceptance(replace(item.message, header=replace(item.message.header, sender="HIS|X")), item.deliveries)
    )

    mine, other = report(store)

    assert (mine.channel, mine.sender, mine.messages, mine.refused) == ("ris-in", "RIS|SITE", 10, 3)
    assert [(found.place, found.kind, found.outcome, found.messages) for found in mine.findings] == [
        ("PID-3", "required", "refused", 2),
        ("MSH-9", "required", "refused", 1),
    ]
    first = mine.findings[0]
    assert (first.example, first.control_id, first.last) == (newest.id, "BAD2", newest.received_at)
    assert (first.what, first.fix) == ("patient identifier missing", "send PID-3")
    assert first.first <= first.last
    assert (other.sender, other.messages, other.findings) == ("HIS|X", 1, [])


async def test_faults_that_differ_in_their_numbers_only_are_one(store: Store) -> None:
    await refused(store, "C1", "OBX(2)-5[3].1", "17 characters long")
    await refused(store, "C2", "OBX(14)-5.1", "230 characters long")
    await refused(store, "C3", "OBX-5.2", "17 characters long")

    (source,) = report(store)

    assert [(found.place, found.what, found.messages) for found in source.findings] == [
        ("OBX-5.1", "230 characters long", 2),
        ("OBX-5.2", "17 characters long", 1),
    ]


async def test_what_could_not_be_delivered_for_its_content_counts_once_a_message(store: Store) -> None:
    await dies(store, acceptance("C1", "his", "pacs"), pacs=NO_ACCESSION, his=NO_ACCESSION)
    await dies(store, acceptance("C2", "pacs"), pacs=NO_ACCESSION)
    await dies(store, acceptance("C3", "pacs"), pacs={**NO_ACCESSION, "at": "http://127.0.0.1:8090/fhir"})
    await dies(store, acceptance("C4", "pacs"), pacs={**NO_ACCESSION, "at": "MSA-1"})

    (source,) = report(store)

    assert (source.messages, source.refused) == (4, 0)
    assert [(found.place, found.outcome, found.messages, found.control_id) for found in source.findings] == [
        ("OBR-18", "undeliverable", 2, "C2")
    ]


@pytest.mark.parametrize("dealt_with", ["replayed", "skipped"])
async def test_what_a_person_has_dealt_with_stays_in_the_report(store: Store, dealt_with: str) -> None:
    item = acceptance("C1", "pacs")
    await dies(store, item, pacs=NO_ACCESSION)
    dead = [item.deliveries[0].id]

    if dealt_with == "skipped":
        store.skip(dead, actor="me", reason="not needed")
    else:
        store.replay_dead(dead, actor="me", revision="rev")

    (source,) = report(store)
    assert [(found.place, found.messages) for found in source.findings] == [("OBR-18", 1)]


async def test_remarks_are_counted_at_the_place_they_name(store: Store) -> None:
    long = "OBR-18 is longer than its 22 characters"
    await store.accept(acceptance("C1", "pacs", warnings=(long, "line 7 is not a segment")))
    await store.accept(acceptance("C2", "pacs", warnings=("line 12 is not a segment", "line 13 is not a segment")))

    (source,) = report(store)

    assert [(found.place, found.outcome, found.what, found.messages) for found in source.findings] == [
        ("", "remarked", "line 12 is not a segment", 2),
        ("OBR-18", "remarked", long, 1),
    ]


async def test_every_fault_that_validation_found_is_counted_at_its_place(store: Store) -> None:
    # Given a channel that only warns, and one that refuses messages with several faults
    missing = CodecError("required field missing", at="PID(2)-8", fix="send it")
    too_long = CodecError("18 characters long", at="OBR-18", fix="send 16 at most", kind="datatype")
    await store.accept(acceptance("C1", "pacs", warnings=(str(missing), str(too_long))))
    several = Invalid([missing, too_long, CodecError("no such code", at="PV1-2", kind="code")])
    refusal = acceptance("C2").message
    await store.accept(
        Acceptance(replace(refusal, status=MessageStatus.REFUSED, error=several.as_dict()), [], receipt=False)
    )

    (source,) = report(store)

    assert {(found.place, found.outcome, found.what, found.fix) for found in source.findings} == {
        ("PID-8", "remarked", "required field missing", "send it"),
        ("OBR-18", "remarked", "18 characters long", "send 16 at most"),
        ("PID-8", "refused", "required field missing", "send it"),
        ("OBR-18", "refused", "one more fault of a message with several", ""),
        ("PV1-2", "refused", "one more fault of a message with several", ""),
    }


async def test_resends_are_neither_messages_nor_faults(store: Store) -> None:
    for _ in range(3):
        await store.accept(acceptance("C1", "pacs"))

    (source,) = report(store)

    assert (source.messages, source.findings) == (1, [])


async def test_only_the_span_and_the_channel_that_were_asked_for_are_read(store: Store) -> None:
    long_ago = now() - 48 * HOUR
    old = {"id": new_id(long_ago / 1000), "day": day_of(long_ago), "received_at": long_ago}
    await refused(store, "OLD", "PID-3", "patient identifier missing", **old)
    await refused(store, "NEW", "PID-3", "patient identifier missing", channel="his-in")

    assert [(source.channel, source.messages) for source in report(store)] == [("his-in", 1)]
    assert report(store, channel="ris-in") == []
    assert [source.channel for source in report(store, since=long_ago)] == ["his-in", "ris-in"]


async def test_the_worst_sender_comes_first(store: Store) -> None:
    await refused(store, "A1", "PID-3", "patient identifier missing", channel="a-in")
    for number in range(2):
        await refused(store, f"B{number}", "PID-3", "patient identifier missing", channel="b-in")

    assert [source.channel for source in report(store)] == ["b-in", "a-in"]
