"""Several real nodes on one PostgreSQL and one RabbitMQ: whatever is killed, frozen or away, nothing is lost and every
sequence holds (laws 1, 3, 4, 5)."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.rigs import laws
from tests.rigs.command import radbridge
from tests.rigs.engine import Node, until, write_site
from tests.rigs.need import REPOSITORY
from tests.rigs.processes import free_port
from tests.rigs.rabbitmq import RabbitMq
from tests.rigs.radiology import Desk, Said, order
from tests.rigs.recorders import Pacs
from tests.rigs.sender import Journal, Sender, acknowledgement

A, B = 0, 1
PARALLEL, PACS_REPEAT, VNA_REPEAT, SEED = 4, 16, 1, 20260106
PATIENCE = 2.0
"""Seconds after which a sender takes a node for gone and goes to the other."""


@dataclass
class Cluster:
    """Two nodes with one site file, and what they serve; arrivals tell by their ``life`` which node brought them."""

    nodes: list[Node]
    ris: list[int]
    pacs: Pacs
    vna: Pacs
    journal: Journal = field(default_factory=Journal)

    def senders(self, days: Sequence[Sequence[Said]]) -> list[asyncio.Task[None]]:
        """A task for each day, its sender at home with one node, and gone to the other where that fails."""
        return [
            asyncio.create_task(
                Sender(self.journal, *self.ris[home % 2 :], *self.ris[: home % 2], patience=PATIENCE).send_all(day)
            )
            for home, day in enumerate(days)
        ]

    def brought_by(self, node: int) -> int:
        return sum(arrival.life == node for end in (self.pacs, self.vna) for arrival in end.arrivals)

    async def arrived(self, owed: set[str], *nodes: Node) -> None:
        """Everything that is owed to both ends is there, in sequence, and repeated no more than configured."""
        for end, keyed in (self.pacs, True), (self.vna, False):
            await until(lambda end=end: not laws.lost(end.arrivals, owed), "all that was acknowledged", *nodes)
            assert laws.overtaken(end.arrivals, self.journal.sent, keyed=keyed) == []
            assert laws.changed(end.arrivals) == set()
            assert laws.strangers(end.arrivals, owed) == set()


@pytest.fixture
async def cluster(tmp_path: Path, postgres_url: str, rabbitmq_url: str) -> AsyncIterator[Cluster]:
    pacs, vna = Pacs(), Pacs()
    quick = {"first": "100ms", "max": "500ms"}
    channels = {
        "ris-in": {"type": "mllp-in", "listen": "127.0.0.1:${RIS}"},
        "pacs": {"type": "mllp-out", "connect": "127.0.0.1:${PACS}", "lane": "patient", "retry": quick}
        | {"parallel": PARALLEL, "repeat": PACS_REPEAT},
        "vna": {"type": "mllp-out", "connect": "127.0.0.1:${VNA}", "retry": quick, "repeat": VNA_REPEAT},
    }
    routes = {"all": {"from": "ris-in", "to": ["pacs", "vna"]}}
    config = write_site(tmp_path, channels, routes, store={"url": postgres_url}, broker={"url": rabbitmq_url})
    nodes, ports = [], [free_port(), free_port()]
    async with AsyncExitStack() as ends:
        for number, port in enumerate(ports):
            doors = {"PACS": str(await pacs.door(number)), "VNA": str(await vna.door(number))}
            node = Node(config, name="ab"[number], env={"RIS": str(port), **doors})
            nodes.append(await ends.enter_async_context(node))
        yield Cluster(nodes, ports, pacs, vna)
    for end in (pacs, vna):
        await end.stop()


def days(desks: int, messages: int) -> list[list[Said]]:
    return [Desk(number, SEED).day(messages) for number in range(desks)]


def ids(days: Sequence[Sequence[Said]]) -> set[str]:
    return {message.id for day in days for message in day}


async def one_by_one(cluster: Cluster, prefix: str, count: int) -> None:
    """Send messages to the first node, each when the former has arrived everywhere."""
    sender = Sender(cluster.journal, cluster.ris[A])
    for number in range(count):
        message = order(f"{prefix}{number:05}", "P1", 1, "XO")
        await sender.send(message)
        await until(lambda name=message.id: name in cluster.pacs.ids & cluster.vna.ids, f"{message.id} at both ends")
    sender.close()


async def woken(cluster: Cluster, prefix: str) -> None:
    """Bells work: thirty messages, each sent when the former has arrived, in half the time that sweeping takes."""
    async with asyncio.timeout(15):
        await one_by_one(cluster, prefix, 30)


async def test_the_broker_wakes_the_other_node_and_without_it_everything_still_arrives(
    cluster: Cluster, rabbitmq: RabbitMq
) -> None:
    # Given one node that only receives, and one that only delivers
    receiving, delivering = cluster.nodes
    receiving.start("--roles", "receive")
    delivering.start("--roles", "deliver")
    for node in cluster.nodes:
        await node.ready()
        await node.says("broker_connected")

    # Then what the one receives wakes the other
    await woken(cluster, "C")
    assert cluster.brought_by(A) == 0

    # When the broker is stopped, everything still arrives
    rabbitmq.halt()
    try:
        await delivering.says("broker_lost")
        await one_by_one(cluster, "D", 3)
    finally:
        rabbitmq.start()

    # And when it is back, bells ring again
    for node in cluster.nodes:
        await node.says("broker_connected", times=4)
    await woken(cluster, "E")


async def test_two_nodes_that_start_at_once_on_an_empty_database_both_serve(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        await node.ready()

    work = days(4, 20)
    await asyncio.gather(*cluster.senders(work))
    await cluster.arrived(ids(work), *cluster.nodes)


async def test_a_message_that_reaches_both_nodes_at_once_is_processed_once(cluster: Cluster) -> None:
    first, second = cluster.nodes
    first.start()
    await first.ready()
    second.start()
    await second.ready()

    # When a sender's message reaches both nodes at the same moment
    (day,) = days(1, 150)
    senders = [Sender(cluster.journal, port) for port in cluster.ris]
    for message in day:
        answers = await asyncio.gather(*(sender.once(message) for sender in senders))
        # Then both give it the same positive answer
        assert answers[0] == answers[1]
        assert acknowledgement(answers[0]) == ("AA", message.id)
    for sender in senders:
        sender.close()

    # And it arrives once
    for end in cluster.pacs, cluster.vna:
        await until(lambda end=end: end.ids == ids([day]), "all of the day", *cluster.nodes)
        assert len(end.arrivals) == len(day)


async def test_when_the_owner_is_killed_the_other_node_takes_over_in_sequence(cluster: Cluster) -> None:
    # Given a node that owns every lane, one that waits, and a RIS that works with both
    first, second = cluster.nodes
    first.start()
    await first.ready()
    second.start()
    await second.ready()
    work = days(8, 150)
    senders = cluster.senders(work)

    # When the owner is killed at work
    await until(lambda: cluster.brought_by(A) > 300, "the first node delivers", *cluster.nodes)
    assert cluster.brought_by(B) == 0
    first.kill()

    # Then the other goes on, and everything arrives
    await asyncio.gather(*senders)
    await cluster.arrived(ids(work), second)
    assert laws.repeats(cluster.pacs.arrivals)[B] <= PACS_REPEAT
    assert laws.repeats(cluster.vna.arrivals)[B] <= VNA_REPEAT
    assert laws.left_behind(cluster.pacs.arrivals, keyed=True) == {}

    # And when that one is killed too, the first comes back
    first.start()
    await first.ready()
    more = [[order(f"D{number:05}", "P1", 1, "XO") for number in range(40)]]
    tasks = cluster.senders(more)
    second.kill()
    await asyncio.gather(*tasks)
    await cluster.arrived(ids(work) | ids(more), first)


async def test_an_owner_that_was_frozen_past_its_lease_writes_nothing_more(cluster: Cluster) -> None:
    # Given a node that owns every lane, one that waits, and a RIS that works with both
    first, second = cluster.nodes
    first.start()
    await first.ready()
    second.start()
    await second.ready()
    work = days(8, 250)
    senders = cluster.senders(work)
    await until(lambda: cluster.brought_by(A) > 200, "the first node delivers", *cluster.nodes)

    # When the owner is frozen for longer than its lease
    first.process.send(signal.SIGSTOP)
    await until(lambda: cluster.brought_by(B) > 200, "the second node takes over", second)
    before = cluster.brought_by(A)
    first.process.send(signal.SIGCONT)

    # Then the other owns every lane, and the first sends no more than what it was about to send
    await asyncio.gather(*senders)
    await cluster.arrived(ids(work), *cluster.nodes)
    assert cluster.brought_by(A) - before <= PARALLEL + 1
    assert laws.repeats(cluster.pacs.arrivals)[B] <= PACS_REPEAT
    assert laws.repeats(cluster.vna.arrivals)[B] <= VNA_REPEAT

    # And it serves on: it takes over itself when the other is gone
    second.kill()
    more = [[order(f"D{number:05}", "P1", 1, "XO") for number in range(40)]]
    await asyncio.gather(*cluster.senders(more))
    await cluster.arrived(ids(work) | ids(more), first)


async def test_what_a_frozen_owner_learns_after_its_lease_is_not_written(cluster: Cluster) -> None:
    # Given an owner that is frozen while it waits for an answer, and another that takes over and delivers
    first, second = cluster.nodes
    first.start()
    await first.ready()
    second.start()
    await second.ready()
    cluster.pacs.hold(A)
    sender = Sender(cluster.journal, cluster.ris[B])
    await sender.send(order("C1", "P1", 1))
    await until(lambda: cluster.pacs.ids == {"C1"}, "C1 at the PACS", *cluster.nodes)
    first.process.send(signal.SIGSTOP)
    await until(lambda: [arrival.life for arrival in cluster.pacs.arrivals] == [A, B], "C1 again", second)

    # When the first one wakes up to a refusal, which would park the patient
    cluster.pacs.refused.add(A)
    cluster.pacs.release(A)
    first.process.send(signal.SIGCONT)
    await first.says("attempt_not_recorded")

    # Then the patient's next message goes
    await sender.send(order("C2", "P1", 1, "XO"))
    sender.close()
    await until(lambda: cluster.pacs.ids == {"C1", "C2"}, "C2 at the PACS", *cluster.nodes)


async def test_both_nodes_turn_to_what_is_deployed_and_to_neither_what_one_of_them_cannot_serve(
    cluster: Cluster,
) -> None:
    first, second = cluster.nodes
    config = first.log.with_name("bridge.yaml")
    config.write_text(config.read_text().replace(f"{REPOSITORY}/", ""))
    first.start()
    await first.ready()
    second.start()
    await second.ready()
    work = days(4, 200)
    senders = cluster.senders(work)
    env = {"RIS": str(cluster.ris[A]), "PACS": str(cluster.pacs.port), "VNA": str(cluster.vna.port)}

    # When other settings of the PACS are deployed at work, both nodes turn to them
    text = config.read_text()
    config.write_text(text.replace(f"parallel: {PARALLEL}", f"parallel: {PARALLEL - 1}"))
    deployed = await radbridge("deploy", "--yes", "--json", "--config", config, env=env)
    assert deployed.code == 0, deployed.err
    assert len(deployed.json["nodes"]) == 2
    for node in cluster.nodes:
        await node.says("revision_changed")

    # When a channel is deployed that only one of them can bind, neither keeps it
    with socket.create_server(("127.0.0.1", 0)) as taken:
        door = f"127.0.0.1:{taken.getsockname()[1]}"
        more = config.read_text().replace("routes:", f"  his-in:\n    type: mllp-in\n    listen: {door}\nroutes:")
        config.write_text(more.replace("from: ris-in", "from: [ris-in, his-in]"))
        refused = await radbridge("deploy", "--yes", "--json", "--config", config, env=env)
    assert refused.code == 4
    assert "another program listens there" in refused.json["error"]["what"]

    # And everything arrives, as if nothing had been
    await asyncio.gather(*senders)
    await cluster.arrived(ids(work), *cluster.nodes)
    for end in cluster.pacs, cluster.vna:
        assert len(end.arrivals) == len(ids(work))
