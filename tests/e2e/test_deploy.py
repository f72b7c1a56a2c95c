"""A revision is deployed and rolled back while messages come and go: nothing broken gets in, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import laws
from tests.rigs.command import Ran, radbridge
from tests.rigs.engine import Node, until, write_site
from tests.rigs.processes import free_port
from tests.rigs.radiology import order
from tests.rigs.recorders import Pacs
from tests.rigs.sender import END, VT, Sent, acknowledgement

RATE, SENDERS = 200, 4
"""Messages a second of all senders together."""
MAPPING = "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - set: {MSH-3: {value: %s}}\n"
CASE = "- name: the engine is the sender\n  given: order.hl7\n  expect: {MSH-3: %s}\n"


class CountingPacs(Pacs):
    """Counts the connections that were made to it."""

    connections = 0

    async def _serve(self, life: int | None, reader: Any, writer: Any) -> None:
        self.connections += 1
        await super()._serve(life, reader, writer)


@dataclass
class Works:
    """A site of its own with one mapping on the way from RIS to PACS, and a RIS that does not reconnect."""

    config: Path
    ris: int
    pacs: CountingPacs
    sent: dict[str, Sent] = field(default_factory=dict)

    def write(self, sender: str, case: str = "", **channels: Any) -> None:
        """The mapping names the engine so; its case expects that, or ``case``. ``channels`` are further ones."""
        folder = self.config.parent / "mappings"
        folder.mkdir(exist_ok=True)
        (folder / "order.hl7").write_bytes(order("C0", "P1", 1).data)
        (folder / "to-pacs.yaml").write_text(MAPPING % sender)
        (folder / "to-pacs.cases.yaml").write_text(CASE % (case or sender))
        ends = {
            "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{self.ris}"},
            "pacs-out": {"type": "mllp-out", "connect": f"127.0.0.1:{self.pacs.port}"},
        }
        routes = {"orders": {"from": "ris-in", "to": {"pacs-out": "to-pacs"}}}
        if channels:
            routes["more"] = {"from": list(channels), "to": "pacs-out"}
        write_site(self.config.parent, ends | channels, routes, mappings=str(folder), adapters=str(folder / "none"))

    async def run(self, *arguments: str) -> Ran:
        return await radbridge(*arguments, "--config", self.config)

    async def send(self, number: int, over: asyncio.Event) -> None:
        """Orders of one patient over one connection, each acknowledged before the next, until ``over``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ris)
        began = time.monotonic()
        for count in itertools.count():
            if over.is_set():
                break
            message = order(f"C{number}{count:05}", f"P{number}", 1)
            sent = self.sent[message.id] = Sent(time.monotonic())
            writer.write(VT + message.data + END)
            assert acknowledgement((await reader.readuntil(END))[1:-2]) == ("AA", message.id)
            sent.answered = time.monotonic()
            await asyncio.sleep(began + (count + 1) * SENDERS / RATE - time.monotonic())
        writer.close()

    async def arrives(self, count: int) -> None:
        """So many more messages have come to the PACS."""
        wanted = len(self.pacs.arrivals) + count
        await until(lambda: len(self.pacs.arrivals) >= wanted, f"{count} more messages")

    def names(self) -> list[str]:
        """How the engine named itself, in the sequence of arrival; repeats left out."""
        return [name for name, _ in itertools.groupby(one.data.split(b"|")[2].decode() for one in self.pacs.arrivals)]

    def delivered(self) -> list[tuple[str, str]]:
        """(control id, revision) in the sequence of acceptance."""
        with closing(sqlite3.connect(self.config.parent / "var" / "radbridge.db")) as database:
            query = "SELECT m.control_id, d.revision FROM delivery_log d JOIN message m ON m.id = d.message"
            return database.execute(query + " ORDER BY d.position").fetchall()


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Works]:
    pacs = CountingPacs()
    await pacs.start()
    made = Works(tmp_path / "bridge.yaml", free_port(), pacs)
    made.write("FIRST")
    yield made
    await pacs.stop()


async def test_under_load_a_deploy_and_a_rollback_lose_reorder_and_duplicate_nothing_and_drop_no_connection(
    works: Works,
) -> None:
    async with Node(works.config) as node:
        # Given an engine that brings two hundred messages a second from four senders to a PACS
        node.start()
        await node.ready()
        over = asyncio.Event()
        senders = [asyncio.create_task(works.send(number, over)) for number in range(SENDERS)]
        await works.arrives(RATE)

        # When a mapping is to be deployed that does not do what its case says, or that is none
        works.write("SECOND", case="FIRST")
        red = await works.run("deploy", "--yes")
        works.write("[SECOND")
        broken = await works.run("deploy", "--yes", "--json")
        # Then it is refused with every reason
        assert (red.code, broken.code) == (2, 2)
        assert "mappings/to-pacs.cases.yaml:1:1" in red.err
        assert 'expected "FIRST", found "SECOND"' in red.err
        assert [one["file"] for one in broken.json["error"]["findings"]] == ["mappings/to-pacs.yaml"]

        # When a channel is to be deployed whose port another program has, it is refused by the engine
        with socket.create_server(("127.0.0.1", 0)) as taken:
            door = {"type": "mllp-in", "listen": f"127.0.0.1:{taken.getsockname()[1]}"}
            works.write("NEVER", his=door)
            refused = await works.run("deploy", "--yes")
        assert refused.code == 4
        assert "another program listens there" in refused.err

        # When a good one is deployed, rolled back and deployed again
        works.write("SECOND")
        for command in ("deploy", "rollback", "deploy"):
            ran = await works.run(command, "--yes", "--why", "a try")
            assert (ran.code, "runs on 1 node(s)" in ran.out) == (0, True), ran.err
            # And whoever rolls back is told that the files on disk are others now
            assert ("THE FILES ON DISK ARE ANOTHER REVISION" in ran.out) == (command == "rollback")
            await works.arrives(RATE)
        over.set()
        await asyncio.gather(*senders)
        await until(lambda: not laws.lost(works.pacs.arrivals, works.sent), "all that was sent", node)
        told = await works.run("revisions", "--json")

    # Then everything arrived once and in sequence, over the connections that there were
    assert len(works.pacs.arrivals) == len(works.sent)
    assert laws.overtaken(works.pacs.arrivals, works.sent, keyed=False) == []
    assert works.pacs.connections == 1
    # And each by one revision, switched as often as was commanded
    assert works.names() == ["FIRST", "SECOND", "FIRST", "SECOND"]
    first, second = told.json["deployments"][-1]["revision"], told.json["running"]
    delivered = works.delivered()
    assert [revision for revision, _ in itertools.groupby(revision for _, revision in delivered)] == [
        *(first, second, first, second)
    ]
    assert [one.id for one in works.pacs.arrivals] == [control_id for control_id, _ in delivered]
    kinds = [(one["kind"], bool(one["refused"])) for one in told.json["deployments"]]
    assert kinds == [("deploy", False), ("rollback", False), ("deploy", False), ("deploy", True), ("start", False)]
