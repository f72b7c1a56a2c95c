"""Notifications of the FHIR facade over kill -9 and over several nodes: none is lost, one node sends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.rigs.engine import CRASHING, Node, until, write_site
from tests.rigs.fhir import report
from tests.rigs.processes import free_port
from tests.rigs.receiver import Receiver, receiving
from tests.rigs.subscriptions import HEADERS, Client, comes, topical

ROLES = "receive,deliver,web"


def site(folder: Path, receiver: Receiver, listen: str, **more: Any) -> Path:
    """A facade under the web server at ``listen``, that may post to ``receiver``."""
    subscriptions = {"endpoints": f"{receiver.url}/hook", "first": "50ms", "longest": "200ms"}
    channels = {"fhir": {"type": "fhir-server", "subscriptions": subscriptions}}
    return write_site(folder, channels, {}, web={"listen": listen, "token": "secret-token"}, **more)


def client(port: int) -> Client:
    return Client(f"http://127.0.0.1:{port}/fhir")


async def answers(node: Node, one: Client) -> None:
    """Return when the facade of a node can be asked."""

    async def asked() -> bool:
        try:
            return (await one.get("/metadata")).is_success
        except httpx.TransportError:
            return False

    await node.ready()
    async with asyncio.timeout(60):
        while not await asked():
            await asyncio.sleep(0.05)


async def test_what_was_written_before_a_kill_is_told_after_it_with_the_same_ids(tmp_path: Path) -> None:
    port = free_port()
    async with receiving() as receiver, client(port) as his:
        config = site(tmp_path, receiver, f"127.0.0.1:{port}")
        async with Node(config, command=CRASHING, roles=ROLES) as node:
            # Given a subscription, at an engine that dies once it has committed the report, before it tells anybody
            node.start("--die-after-accepts", "2")
            await answers(node, his)
            made = await his.active(topical("report-final", f"{receiver.url}/hook"))
            with suppress(httpx.TransportError):
                await his.post("/DiagnosticReport", json=report(1), headers=HEADERS)
            await node.dies()
            assert receiver.numbers() == []

            # When it lives again, and dies while the receiver has the notification and has not answered
            receiver.before = node.kill
            node.start()
            await until(lambda: receiver.before is None, "the notification comes")
            await asyncio.to_thread(node.process.wait, 60)
            node.start()
            await answers(node, his)
            await comes(lambda: len(receiver.taken()) == 2)

            # Then the event came again as the same, and the next one has the next number
            first, again = receiver.taken()
            assert first.body == again.body
            assert first.numbers == [1]
            await his.made(report(2))
            await comes(lambda: receiver.numbers() == [1, 1, 2])
            assert (await his.one(made))["status"] == "active"


async def test_one_of_two_nodes_sends_and_the_other_takes_over(tmp_path: Path, postgres_url: str) -> None:
    ports = [free_port(), free_port()]
    async with receiving() as receiver, client(ports[0]) as one, client(ports[1]) as other:
        config = site(tmp_path, receiver, "127.0.0.1:${PORT}", store={"url": postgres_url})
        nodes = [Node(config, roles=ROLES, name=f"node{port}", env={"PORT": str(port)}) for port in ports]
        async with nodes[0], nodes[1]:
            for node in nodes:
                node.start()
            for node, his in zip(nodes, (one, other), strict=True):
                await answers(node, his)

            # Given a subscription, and reports that are written at both nodes at once
            made = await one.active(topical("report-final", f"{receiver.url}/hook"))
            await asyncio.gather(*((one, other)[number % 2].made(report(number)) for number in range(10)))

            # Then each is told once
            await comes(lambda: len(receiver.numbers()) >= 10)
            assert receiver.numbers() == list(range(1, 11))

            # When the node that sends is killed, the other one goes on where it was
            sending = 0 if "notification_sent" in nodes[0].output() else 1
            nodes[sending].kill()
            left = (other, one)[sending]
            await left.made(report(11))
            await comes(lambda: receiver.numbers() == list(range(1, 12)))
            assert (await left.one(made))["status"] == "active"
