"""PostgreSQL goes away under the engine: senders are told to come again, what was acknowledged is kept (laws 1, 5)."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridge.errors import StoreUnavailable
from bridge.store.store import Store
from tests.rigs import laws
from tests.rigs.engine import Node, until, write_site
from tests.rigs.postgres import Postgres
from tests.rigs.processes import free_port
from tests.rigs.proxy import PostgresProxy
from tests.rigs.radiology import Desk, Said, hl7, order, pid
from tests.rigs.recorders import Pacs
from tests.rigs.sender import Journal, Sender, acknowledgement, control_id_of

REPEAT = 16


class Site:
    """One engine on PostgreSQL, between a RIS and a PACS."""

    def __init__(self, node: Node, port: int, pacs: Pacs) -> None:
        self.node, self.port, self.pacs = node, port, pacs
        self.journal = Journal()


@asynccontextmanager
async def site(folder: Path, url: str) -> AsyncIterator[Site]:
    pacs, port = Pacs(), free_port()
    await pacs.start()
    channels: dict[str, Any] = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{port}"},
        "pacs": {"type": "mllp-out", "connect": f"127.0.0.1:{pacs.port}", "lane": "patient", "parallel": 4}
        | {"repeat": REPEAT, "retry": {"first": "100ms", "max": "500ms"}},
    }
    routes = {"all": {"from": "ris-in", "when": {"message": ["ORM^O01", "ORU^R01", "ADT^A40"]}, "to": ["pacs"]}}
    async with Node(write_site(folder, channels, routes, store={"url": url})) as node:
        node.start()
        await node.ready()
        yield Site(node, port, pacs)
    await pacs.stop()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_restart_of_the_database_under_load_loses_nothing(
    tmp_path: Path, postgres: Postgres, postgres_url: str, how: int
) -> None:
    work = [Desk(number, 20260107).day(120) for number in range(8)]
    async with site(tmp_path, postgres_url) as here:
        senders = [asyncio.create_task(Sender(here.journal, here.port).send_all(day)) for day in work]

        # When the database goes away under load and comes back, the second time after longer than a lease lasts
        for moment, pause in (150, 0.2), (400, 4.0):
            await until(lambda moment=moment: len(here.journal.acknowledged) > moment, f"{moment} answers", here.node)
            await asyncio.to_thread(postgres.halt, how)
            await asyncio.sleep(pause)
            postgres.start()
        await asyncio.gather(*senders)

        # Then everything was acknowledged in the end, and arrives in sequence
        owed = {message.id for day in work for message in day}
        assert here.journal.acknowledged == owed
        await until(lambda: not laws.lost(here.pacs.arrivals, owed), "all that was acknowledged", here.node)
    assert laws.overtaken(here.pacs.arrivals, here.journal.sent, keyed=True) == []
    assert laws.changed(here.pacs.arrivals) == set()
    assert laws.left_behind(here.pacs.arrivals, keyed=True) == {}
    assert len(laws.twice_in_a_life(here.pacs.arrivals)) <= 2 * REPEAT


async def test_while_the_database_is_away_senders_are_told_to_come_again(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    async with site(tmp_path, postgres_url) as here:
        sender = Sender(here.journal, here.port)
        assert acknowledgement(await sender.once(order("C1", "P1", 1))) == ("AA", "C1")

        # When the database is away, the answer is AR, each time
        await asyncio.to_thread(postgres.halt)
        for name in "C2", "C3":
            assert acknowledgement(await sender.once(order(name, "P1", 1, "XO"))) == ("AR", name)
        assert here.node.process.running()

        # And once it is back, the same messages are taken, and arrive once
        postgres.start()
        for name in "C2", "C3":
            await sender.send(order(name, "P1", 1, "XO"))
        sender.close()
        await until(lambda: len(here.pacs.ids) == 3, "all three", here.node)
    assert [arrival.id for arrival in here.pacs.arrivals] == ["C1", "C2", "C3"]


def test_a_database_host_that_says_nothing_is_given_up_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreUnavailable) as caught:
            Store(f"postgresql+psycopg://radbridge@127.0.0.1:{port}/radbridge")
    assert str(port) in caught.value.at and "timeout" in caught.value.what


async def test_a_database_that_refuses_for_a_while_stops_nothing_for_good(tmp_path: Path, postgres_url: str) -> None:
    async with site(tmp_path, postgres_url) as here:
        sender = Sender(here.journal, here.port)
        await sender.send(order("C1", "P1", 1))
        await until(lambda: here.pacs.ids == {"C1"}, "the first one", here.node)

        # When leases cannot be renewed until they have run out, though the database answers
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as by_hand:
            by_hand.execute("ALTER TABLE lease RENAME TO lease_away")
            await here.node.says("leases_not_renewed", times=4)
            by_hand.execute("ALTER TABLE lease_away RENAME TO lease")

        # Then the node goes on by itself
        await sender.send(order("C2", "P1", 1, "XO"))
        sender.close()
        await until(lambda: here.pacs.ids == {"C1", "C2"}, "the second one", here.node)


@pytest.fixture
async def proxy(postgres: Postgres) -> AsyncIterator[PostgresProxy]:
    wire = PostgresProxy(postgres.port)
    await wire.start()
    yield wire
    await wire.stop()


@pytest.mark.parametrize("reaching", [True, False], ids=["committed", "not-committed"])
async def test_a_commit_of_unknown_outcome_is_settled_before_the_answer(
    tmp_path: Path, postgres_url: str, proxy: PostgresProxy, postgres: Postgres, reaching: bool
) -> None:
    url = postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/")
    async with site(tmp_path, url) as here:
        sender = Sender(here.journal, here.port)

        async def send(message: Said) -> bytes:
            """Its answer, when the wire broke at its COMMIT."""
            broken = proxy.lost
            proxy.lose(message.id, reaching=reaching)
            answer = await sender.once(message)
            assert proxy.lost == broken + 1
            return answer

        # Messages that are owed to somebody are accepted
        for number in range(5):
            message = order(f"C{number}", "P1", number)
            answer = await send(message)
            assert acknowledgement(answer) == ("AA", message.id)
            # And the same one again is answered the same, though the wire broke again
            assert await send(message) == answer
        # So are messages that no route wants
        assert acknowledgement(await send(Said("U1", "MDM", hl7("MDM^T02", "U1", pid("P1"))))) == ("AA", "U1")
        # And a refusal stays a refusal
        training = hl7("ORM^O01", "T1", pid("P1")).replace(b"|T1|P|", b"|T1|T|")
        answer = await send(Said("T1", "ORM", training))
        assert acknowledgement(answer) == ("AR", "T1") and b"202" in answer

        # And what was delivered when the wire broke at its end is not delivered again
        here.pacs.hold()
        answer = await sender.once(order("C9", "P1", 9))
        proxy.lose(control_id_of(answer), reaching=reaching)
        here.pacs.release()
        sender.close()
        await until(lambda: proxy.lost == 13, "the end of the delivery", here.node)
        await until(lambda: len(here.pacs.ids) == 6, "all that was acknowledged", here.node)
    assert [arrival.id for arrival in here.pacs.arrivals] == ["C0", "C1", "C2", "C3", "C4", "C9"]
