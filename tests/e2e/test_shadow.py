"""A shadow run: what other files would have sent of what was really received, field by field, and nothing sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.app import Node, build
from bridge.settings import Overrides, load
from bridge.web.api import make_api
from tests.rigs.command import radbridge
from tests.rigs.engine import write_site
from tests.rigs.processes import free_port
from tests.rigs.radiology import order, report
from tests.rigs.recorders import Pacs
from tests.rigs.sender import Journal, Sender
from tests.rigs.site import eventually, port

MAPPING = "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - set: {MSH-3: {value: US}}\n"
CHANGED = MAPPING + "  - when: {PID-3.1: P2}\n    set: {OBR-24: {value: MR}}\n"
NEEDY = CHANGED + "  - set: {OBR-31: {from: OBR-31, required: true}}\n"


class Files:
    """A site with orders to a PACS through a mapping."""

    def __init__(self, folder: Path, pacs: Pacs) -> None:
        self.folder, self.door, self.pacs = folder, free_port(), pacs

    def write(self, mapping: str, **routes: object) -> Path:
        mappings = self.folder / "mappings"
        mappings.mkdir(exist_ok=True)
        (mappings / "to-pacs.yaml").write_text(mapping)
        ends = {
            "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{self.door}"},
            "pacs": {"type": "mllp-out", "connect": f"127.0.0.1:{self.pacs.port}"},
            "vna": {"type": "mllp-out", "connect": f"127.0.0.1:{self.pacs.port}"},
        }
        orders = {"orders": {"from": "ris-in", "when": {"message": "ORM^O01"}, "to": {"pacs": "to-pacs"}}}
        folders = {"mappings": str(mappings), "adapters": str(self.folder / "adapters")}
        return write_site(self.folder, ends, {**orders, **routes}, **folders)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        reports = {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": "pacs"}
        path = self.write(MAPPING, reports=reports)
        node = build(
            load(path, overrides=Overrides.model_construct(), environ={}), roles=frozenset({"receive", "deliver"})
        )
        try:
            await node.runtime.start()
            yield node
            await node.runtime.stop()
        finally:
            node.store.close()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    pacs = Pacs()
    await pacs.start()
    yield Files(tmp_path, pacs)
    await pacs.stop()


async def test_a_shadow_run_tells_by_field_and_route_what_would_change_and_sends_nothing(files: Files) -> None:
    # Given six orders of two patients and a report, delivered
    said = [order(f"C{number}", f"P{number % 3}", number) for number in range(6)]
    async with files.running() as node:
        await Sender(Journal(), port(node, "ris-in")).send_all([*said, report("C6", "P1", 1)])
        await eventually(lambda: len(files.pacs.arrivals) == 7)

        # When the files on disk map one patient's modality anew and lead reports elsewhere, and somebody signs that off
        config = files.write(CHANGED, reports={"from": "ris-in", "when": {"message": "ORU^R01"}, "to": "vna"})
        early = await radbridge("deploy", "--yes", "--require-sign-off", "--config", config)
        ran = await radbridge("shadow", "--show", "1", "--sign-off", "as ordered", "--config", config)
        # Then it says so, by field and route
        assert ran.code == 0, ran.err
        lines = [line.partition("; for example")[0] for line in ran.out.splitlines()]
        assert "tried on 7 messages; nothing was sent." in lines[0]
        assert lines[1:7] == [
            "",
            "pacs",
            "  OBR-24 differs: 2 of 7 messages",
            "  no longer goes there: 1 of 7 messages",
            "",
            "vna",
        ]
        assert lines[7] == "  now goes there, too: 1 of 7 messages"
        assert [line[-3:] for line in lines if line.startswith(("-OBR", "+OBR"))] == ["|CT", "|MR"]
        assert len(files.pacs.arrivals) == 7
        # And what was signed off can be deployed by those who want that
        assert (early.code, "nobody signed off" in early.err) == (6, True)
        deployed = await radbridge("deploy", "--yes", "--require-sign-off", "--config", config)
        assert deployed.code == 0, deployed.err

        # And a mapping that would fail is told with what it lacks, without a word of a patient's
        config = files.write(NEEDY)
        told = await radbridge("shadow", "--last", "3", "--json", "--config", config)
    (failing, gone) = told.json["differences"]
    assert (failing["destination"], failing["messages"]) == ("pacs", 2)
    assert failing["what"].startswith("fails now: ")
    assert "OBR-31" in failing["what"]
    assert (gone["destination"], gone["what"], gone["messages"]) == ("vna", "no longer goes there", 1)
    assert "LODIE" not in told.out


async def test_a_shadow_run_is_started_seen_and_signed_off_by_the_api(files: Files) -> None:
    said = [order(f"C{number}", f"P{number % 3}", number) for number in range(6)]
    async with files.running() as node:
        await Sender(Journal(), port(node, "ris-in")).send_all(said)
        await eventually(lambda: len(files.pacs.arrivals) == 6)
        transport, key = httpx.ASGITransport(make_api(node)), {"Authorization": f"Bearer {node.token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://node", headers=key) as client:
            # Given nothing was asked for yet
            assert (await client.get("/api/shadow")).status_code == 404

            # When the files on disk map one patient's modality anew, and a shadow run is started
            files.write(CHANGED)
            started = await client.post("/api/shadow", json={"last": 5})
            again = await client.post("/api/shadow", json={})
            found = await ended(client)
            # Then it finds that, and one runs at a time
            assert (started.json()["state"], again.status_code) == ("running", 409)
            assert [found[name] for name in ("state", "messages", "changed", "unread")] == ["done", 5, 2, 0]
            (one,) = found["differences"]
            assert (one["destination"], one["what"], one["messages"]) == ("pacs", "OBR-24 differs", 2)

            # And what was signed off can be deployed by those who want that
            early = await client.post("/api/deploy", json={"why": "a new CT", "signed_off": True})
            other = await client.post("/api/shadow/sign-off", json={"candidate": found["running"], "why": "seen"})
            agreed = await client.post("/api/shadow/sign-off", json={"candidate": found["candidate"], "why": "seen"})
            deployed = await client.post("/api/deploy", json={"why": "a new CT", "signed_off": True})
            assert (early.status_code, other.status_code, agreed.status_code) == (403, 404, 200)
            assert (deployed.status_code, deployed.json()["revision"]) == (200, found["candidate"])

            # And what cannot be tried says why
            (files.folder / "mappings" / "to-pacs.yaml").write_text("[")
            await client.post("/api/shadow", json={"since": "never"})
            failed = await ended(client)
    assert failed["state"] == "failed"
    assert failed["error"]["what"]


async def ended(client: httpx.AsyncClient) -> Any:
    async with asyncio.timeout(60):
        while (found := (await client.get("/api/shadow")).json())["state"] == "running":
            await asyncio.sleep(0.05)
    return found
