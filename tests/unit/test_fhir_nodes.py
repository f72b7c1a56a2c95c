"""Several nodes that write the FHIR projection on one PostgreSQL: each waits its turn, and never in a circle."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import Connection, text

from bridge.fhir.interaction import interactions
from bridge.message import DeliveryStatus
from bridge.ports import Answer
from bridge.store import fhir_rows
from bridge.store.finish import Finish
from bridge.store.store import Store
from tests.rigs.fhir import NOON, bundle, create, patient
from tests.rigs.store import acceptance

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
ALLOT = "UPDATE lane_position SET last = last + 1 WHERE destination = 'pacs'"


async def test_a_node_that_waits_to_write_fhir_holds_up_no_acceptance_of_another(postgres_url: str) -> None:
    # Given a node that in one commit will accept an order for the PACS and write FHIR
    store, other = Store(postgres_url), Store(postgres_url)
    store.ensure_destinations(["pacs", "facade"])
    store.maintain(keep_days=90, receipt_window_ms=60_000)
    await store.accept(acceptance("C1", "facade"))
    (lease,) = await store.leases("me", ["facade"], alone=False)
    (owed,) = store.claim("facade", 0, 9)[0]

    def write(tx: Connection) -> Answer:
        store.fhir.write(tx, interactions(bundle(create(patient(1)))), message=owed.delivery.message, at=NOON)
        return Answer("1 created")

    # When another node writes FHIR first, and then accepts something for the PACS
    with other.database.writer.begin() as tx:
        fhir_rows.lock(tx)
        finished = store.finish(Finish(owed.delivery, lease.epoch, DeliveryStatus.DONE, apply=write))
        accepted = asyncio.ensure_future(store.accept(acceptance("C2", "pacs")))
        await asyncio.to_thread(_wait_for_the_lock, store)
        tx.execute(text("SET LOCAL lock_timeout = '500ms'"))
        tx.execute(text(ALLOT))

    # Then both go through
    assert (await finished).answer == "1 created"
    await accepted
    assert len(store.fhir.search("Patient", []).matches) == 1
    for one in (store, other):
        one.close()


def _wait_for_the_lock(store: Store) -> None:
    deadline = time.monotonic() + 10
    while not store.read(lambda c: c.execute(text(WAITING)).scalar()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
