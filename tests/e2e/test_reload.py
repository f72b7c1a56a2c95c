"""What a running engine does with another revision: channels come and go one by one, all of it or nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.app import Node, build
from bridge.engine.deployments import Outcome
from bridge.errors import BridgeError
from bridge.settings import Loaded, Overrides, load
from bridge.web.api import make_api
from tests.rigs.engine import write_site
from tests.rigs.processes import free_port
from tests.rigs.radiology import Said, order
from tests.rigs.recorders import Pacs
from tests.rigs.sender import Journal, Sender
from tests.rigs.site import eventually, port

QUICK = {"first": "50ms", "max": "100ms"}


@dataclass
class Place:
    """A folder with a site file, and the engine that is started with it."""

    folder: Path
    ends: dict[str, Any]
    to: list[str]
    node: Node | None = None
    journal: Journal = field(default_factory=Journal)

    @property
    def engine(self) -> Node:
        assert self.node is not None
        return self.node

    def load(self, ends: Mapping[str, Any] | None = None, to: list[str] | None = None) -> Loaded:
        """The site file with these channels and this route; what is not named stays as it was."""
        self.ends, self.to = dict(ends or self.ends), to or self.to
        sources = [name for name, end in self.ends.items() if end["type"] == "mllp-in"]
        empty = {"mappings": str(self.folder / "mappings"), "adapters": str(self.folder / "adapters")}
        path = write_site(self.folder, self.ends, {"all": {"from": sources, "to": self.to}}, **empty)
        return load(path, overrides=Overrides.model_construct(), environ={})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        self.node = build(self.load(), roles=frozenset({"receive", "deliver"}))
        try:
            await self.node.runtime.start()
            yield self.node
            await self.node.runtime.stop()
        finally:
            self.node.store.close()

    async def deploy(self, ends: Mapping[str, Any] | None = None, to: list[str] | None = None) -> Outcome:
        """Deploy the site file so changed, and wait until the engine has taken it over or refused it."""
        desk = self.engine.operations.deployments
        change = await asyncio.to_thread(desk.prepare, self.load(ends, to))
        made = await asyncio.to_thread(desk.deploy, change, actor="test", why="a try")
        return await asyncio.to_thread(desk.outcome, made)

    async def send(self, *messages: Said, channel: str = "ris-in") -> None:
        sender = Sender(self.journal, port(self.engine, channel))
        await sender.send_all(messages)

    def keys(self) -> list[set[str]]:
        """The lane keys of what is on its way, in the sequence of acceptance."""
        rows = self.engine.store.claim("pacs", 0, 100)[0]
        return [set(owed.delivery.keys) for owed in rows]


def mllp(end: Pacs | int, **settings: Any) -> dict[str, Any]:
    address = f"127.0.0.1:{end if isinstance(end, int) else end.port}"
    return {"type": "mllp-out", "connect": address, "retry": QUICK, **settings}


@pytest.fixture
async def pacs() -> AsyncIterator[Pacs]:
    end = Pacs()
    await end.start()
    yield end
    await end.stop()


@pytest.fixture
def place(tmp_path: Path, pacs: Pacs) -> Place:
    door = {"type": "mllp-in", "listen": f"127.0.0.1:{free_port()}"}
    return Place(tmp_path, {"ris-in": door, "pacs": mllp(pacs)}, ["pacs"])


async def test_channels_come_and_go_while_those_that_stay_keep_their_connections(place: Place, pacs: Pacs) -> None:
    async with place.running() as node:
        # Given a connection from a RIS, and one to a PACS
        ris = Sender(place.journal, port(node, "ris-in"))
        await ris.send(order("C1", "P1", 1))
        streams = ris._streams
        await eventually(lambda: pacs.ids == {"C1"})

        # When a second source and a second destination are deployed
        more = {"his-in": {"type": "mllp-in", "listen": "127.0.0.1:0"}, "vna": mllp(pacs)}
        assert (await place.deploy(place.ends | more, ["pacs", "vna"])).nodes
        # Then they work, and the connection of the RIS is the one that it was
        await place.send(order("C2", "P2", 2), channel="his-in")
        await ris.send(order("C3", "P1", 1, "XO"))
        assert ris._streams is streams
        await eventually(lambda: len(pacs.arrivals) == 5)

        # And when they are removed, they are gone
        door = port(node, "his-in")
        first = {name: end for name, end in place.ends.items() if name not in more}
        assert (await place.deploy(first, ["pacs"])).nodes
        await ris.send(order("C4", "P1", 1, "XO"))
        assert ris._streams is streams
        await eventually(lambda: len(pacs.arrivals) == 6 and node.runtime.endpoints().keys() == {"ris-in", "pacs"})
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", door)
        ris.close()


async def test_a_deploy_is_all_or_nothing_where_a_channel_cannot_start(place: Place, pacs: Pacs) -> None:
    async with place.running() as node:
        before = node.runtime.plan.revision
        # When one channel is given a port that another program has, and another one a new, good port
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bad = {"type": "mllp-in", "listen": f"127.0.0.1:{taken.getsockname()[1]}"}
            elsewhere = {"type": "mllp-in", "listen": f"127.0.0.1:{free_port()}"}
            was = port(node, "ris-in")
            # Then the deployment is refused with the reason, and the former channels serve on
            with pytest.raises(BridgeError, match="channel his-in: error: cannot listen"):
                await place.deploy(place.ends | {"his-in": bad, "ris-in": elsewhere})
        assert node.runtime.plan.revision == before
        assert node.runtime.sources.keys() == {"ris-in"}
        assert port(node, "ris-in") == was
        await place.send(order("C1", "P1", 1))
        await eventually(lambda: pacs.ids == {"C1"})
        (refused, _) = node.operations.deployments.history()
        assert "cannot listen" in refused.refused


async def test_a_removed_destination_gets_what_is_still_on_its_way(place: Place, pacs: Pacs) -> None:
    async with place.running() as node:
        # Given three messages for a PACS that is away
        await pacs.stop()
        await place.send(*(order(f"C{number}", "P1", 1) for number in (1, 2, 3)))
        # When it is removed for another one
        new = Pacs()
        await new.start()
        door = {"ris-in": place.ends["ris-in"]}
        assert (await place.deploy(door | {"vna": mllp(new)}, ["vna"])).nodes
        await place.send(order("C4", "P1", 1, "XO"))
        await eventually(lambda: new.ids == {"C4"})
        assert "pacs" in node.runtime.endpoints()

    # Then even after a restart it gets them, in sequence, once it is back
    async with place.running() as node:
        await eventually(lambda: "pacs" in node.runtime.endpoints())
        await pacs.start()
        await eventually(lambda: len(pacs.arrivals) == 3)
        assert [arrival.id for arrival in pacs.arrivals] == ["C1", "C2", "C3"]
        # And then it is gone
        await eventually(lambda: "pacs" not in node.runtime.endpoints())
        assert "pacs" not in node.runtime.deliverers
    await new.stop()


async def test_a_destination_with_dead_deliveries_cannot_be_removed(place: Place, pacs: Pacs) -> None:
    pacs.refused = {0}
    async with place.running() as node:
        await place.send(order("C1", "P1", 1))
        await eventually(lambda: len(node.operations.dead()) == 1)

        with pytest.raises(BridgeError, match="pacs is to be removed and has dead deliveries"):
            await place.deploy({"ris-in": place.ends["ris-in"], "vna": mllp(pacs)}, ["vna"])


async def test_the_sequence_holds_where_a_lane_becomes_narrower_or_wider(place: Place, pacs: Pacs) -> None:
    """Whatever was accepted under the former lane is not overtaken by what comes under the new one."""
    async with place.running():
        # Given orders of two patients for a PACS that is away, in one sequence
        await pacs.stop()
        await place.send(order("C1", "P1", 1), order("C2", "P2", 2))
        # When the sequence is to be each patient's own
        by_patient = {**place.ends, "pacs": mllp(pacs, lane="patient", parallel=4)}
        assert (await place.deploy(by_patient)).nodes
        await place.send(order("C3", "P1", 1, "XO"))
        # Then the next one waits for all that came before
        assert place.keys() == [{""}, {""}, {"", "P1^HOSP"}]
        pacs.busy = frozenset({"C1"})
        await pacs.start()
        await eventually(lambda: len(pacs.arrivals) == 3)
        assert [arrival.id for arrival in pacs.arrivals] == ["C1", "C2", "C3"]

        # And the other way round
        await pacs.stop()
        await place.send(order("C4", "P2", 2, "XO"))
        assert (await place.deploy({**by_patient, "pacs": mllp(pacs)})).nodes
        await place.send(order("C5", "P2", 2, "XO"))
        assert place.keys()[-1] == {"", "P2^HOSP"}
        await pacs.start()
        await eventually(lambda: len(pacs.arrivals) == 5)


async def test_a_destination_that_moves_gets_everything_once(place: Place, pacs: Pacs) -> None:
    async with place.running() as node:
        # Given a PACS that has taken one message and not answered it yet
        pacs.hold()
        await place.send(order("C1", "P1", 1), order("C2", "P1", 1, "XO"))
        await eventually(lambda: pacs.ids == {"C1"})
        # When it is said to be elsewhere, and answers
        new = Pacs()
        await new.start()
        moving = asyncio.create_task(place.deploy({**place.ends, "pacs": mllp(new)}))
        first = node.runtime.plan.revision
        await eventually(lambda: node.runtime.plan.revision != first)
        pacs.release()
        # Then the new place gets only what the old one did not
        assert (await moving).nodes
        await eventually(lambda: new.ids == {"C2"})
        assert [arrival.id for arrival in pacs.arrivals] == ["C1"]
    await new.stop()


async def test_a_rollback_outlives_a_restart(place: Place) -> None:
    async with place.running() as node:
        # Given files that were deployed and rolled back
        first = node.runtime.plan.revision
        assert (await place.deploy(place.ends | {"pacs": mllp(free_port())})).nodes
        second, desk = node.runtime.plan.revision, node.operations.deployments
        made = await asyncio.to_thread(desk.rollback, desk.compare(desk.older("", place.folder)), actor="test")
        assert (await asyncio.to_thread(desk.outcome, made)).nodes
        assert node.runtime.plan.revision == first != second

    # When the engine is started with them, they stay aside
    async with place.running() as node:
        assert (node.runtime.plan.revision, node.put_aside) == (first, second)
        assert [one.kind for one in node.operations.deployments.history()] == ["rollback", "deploy", "start"]

    # But files that were mended since run as ever
    place.load(place.ends | {"pacs": mllp(free_port())})
    async with place.running() as node:
        assert node.put_aside == ""
        assert node.runtime.plan.revision not in (first, second)


async def test_the_api_deploys_the_files_on_the_nodes_disk_and_rolls_back(place: Place, pacs: Pacs) -> None:
    async with place.running() as node:
        first = node.runtime.plan.revision
        served, headers = httpx.ASGITransport(make_api(node)), {"authorization": f"Bearer {node.token}"}
        async with httpx.AsyncClient(transport=served, base_url="http://node", headers=headers) as client:
            # When a file with an error is to be deployed, it is refused with its place
            place.load(place.ends, ["nowhere"])
            refused = await client.post("/api/deploy", json={"why": "a try"})
            assert (refused.status_code, refused.json()["kind"]) == (422, "settings")
            assert refused.json()["at"].startswith("config/bridge.yaml:")
            # When a good one is, it runs
            place.load(place.ends | {"vna": mllp(pacs)}, ["pacs", "vna"])
            deployed = (await client.post("/api/deploy", json={"why": "a try"})).json()
            again = (await client.post("/api/deploy", json={"why": "a try"})).json()
            assert (deployed["former"], deployed["starts"], deployed["restarts"]) == (first, ["vna"], [])
            assert deployed["nodes"] == [node.runtime.owner]
            assert (deployed["changed"], again["changed"]) == (True, False)
            assert node.runtime.plan.revision == deployed["revision"]
            # And it can be rolled back
            back = (await client.post("/api/rollback", json={"why": "a try"})).json()
            assert (back["revision"], back["stops"]) == (first, ["vna"])
            told = (await client.get("/api/revisions")).json()
            assert (told["running"], told["on_disk"]) == (first, deployed["revision"])
            assert [one["actor"] for one in told["deployments"]] == ["api", "api", "engine"]
            difference = (await client.get(f"/api/revisions/{first[:6]}/diff")).json()["diff"]
            assert "+  vna:" in difference.splitlines()
            unknown = await client.get("/api/revisions/nothing/diff")
            assert unknown.status_code == 404
