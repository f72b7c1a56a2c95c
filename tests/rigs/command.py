"""The installed command run as people run it, and a PACS and a RIS made of the third-party package ``hl7``."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hl7
import httpx
from hl7.mllp import open_hl7_connection, start_hl7_server

from tests.rigs.engine import RADBRIDGE, Node, write_site

ROUTES = {
    "orders": {"from": "ris-in", "when": {"message": "ORM^O01"}, "to": [{"worklist": "order-to-worklist"}, "pacs-out"]},
    "reports": {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": "pacs-out"},
}

TOKEN = "the-token-of-this-test"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and all it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def radbridge(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
    """Run ``radbridge`` with these arguments to its end."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("RADBRIDGE_")}
    process = await asyncio.create_subprocess_exec(
        RADBRIDGE,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**ours, **(env or {})},
    )
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def reserve() -> socket.socket:
    """Holds a TCP port of 127.0.0.1 until it is closed: programs may listen there, nobody else is given it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


@dataclass(slots=True)
class Hl7Pacs:
    """A receiver made of the package ``hl7``, down until it is put up. It answers every message with ``answer``."""

    port: int
    answer: str = "AA"
    received: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Hl7Pacs]:
        async with await start_hl7_server(self._serve, "127.0.0.1", self.port, encoding="utf-8") as server:
            yield self
            server.close()

    async def _serve(self, reader: Any, writer: Any) -> None:
        try:
            while True:
                message = await reader.readmessage()
                self.received.append(str(message))
                writer.writemessage(message.create_ack(self.answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    @property
    def control_ids(self) -> list[str]:
        return [str(hl7.parse(text).segment("MSH")[10]) for text in self.received]

    async def has(self, count: int, seconds: float = 30) -> None:
        """Return when so many messages have arrived."""
        await until(lambda: len(self.received) >= count, f"{count} messages at the PACS", seconds)


async def until(ready: Any, what: str, seconds: float = 30) -> None:
    """Return when ``ready()`` is true; fail with ``what`` after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            while not ready():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {seconds:.0f} s") from None


async def send_with_hl7(port: int, *messages: bytes) -> list[str]:
    """MSA-1 of each answer, as a RIS made of the package ``hl7`` reads it."""
    reader, writer = await open_hl7_connection("127.0.0.1", port, encoding="utf-8")
    with closing(writer):
        answers = []
        for data in messages:
            writer.writemessage(hl7.parse(data.decode()))
            await writer.drain()
            answers.append(str((await reader.readmessage()).segment("MSA")[1]))
        return answers


@dataclass(slots=True)
class Hospital:
    """A site in a folder: RIS and modalities in, a PACS out, and what is needed to reach it."""

    config: Path
    mllp: int
    dicom: int
    web: int
    pacs: Hl7Pacs
    holders: list[socket.socket] = field(repr=False)

    @classmethod
    def build(cls, folder: Path, **more: Any) -> Hospital:
        holders = [reserve() for _ in range(4)]
        mllp, dicom, web, pacs = (holder.getsockname()[1] for holder in holders)
        retry = {"first": "50ms", "max": "200ms", "attempts": 3}
        channels = {
            "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{mllp}"},
            "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}", "ae_title": "RADBRIDGE"},
            "pacs-out": {"type": "mllp-out", "connect": f"127.0.0.1:{pacs}", "lane": "patient", "retry": retry},
        }
        settings = {"web": {"listen": f"127.0.0.1:{web}", "token": TOKEN}, **more}
        return cls(write_site(folder, channels, ROUTES, **settings), mllp, dicom, web, Hl7Pacs(pacs), holders)

    def close(self) -> None:
        """Give the ports back."""
        for holder in self.holders:
            holder.close()

    @asynccontextmanager
    async def open(self, roles: str = "receive,deliver,dicom,web") -> AsyncIterator[Node]:
        """The engine, running and ready."""
        with Node(self.config, roles=roles) as node:
            node.start()
            await node.says("Stop with Ctrl+C")
            yield node

    async def run(self, *arguments: str | Path, stdin: bytes = b"") -> Ran:
        """A command on this site."""
        return await radbridge(*arguments, "--config", self.config, stdin=stdin)

    def client(self, token: str = TOKEN) -> httpx.AsyncClient:
        """For the API of the running engine."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        base = f"http://127.0.0.1:{self.web}"
        return httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=30)

    async def comes_to(self, path: str, ready: Any) -> Any:
        """What the API says at ``path``, once ``ready`` finds it true."""
        async with self.client() as client:
            for _ in range(600):
                found = (await client.get(path)).json()
                if ready(found):
                    return found
                await asyncio.sleep(0.05)
        raise AssertionError(f"{path} still says {found}")

    async def dead(self, count: int) -> list[dict[str, Any]]:
        """The dead deliveries, once there are so many."""
        gone: list[dict[str, Any]] = await self.comes_to("/api/deliveries", lambda found: len(found) == count)
        return gone

    async def waits(self) -> dict[str, Any]:
        """The one lane, once it is known to wait."""
        status = await self.comes_to("/api/status", lambda found: found["lanes"] and found["lanes"][0]["waits_for"])
        (lane,) = status["lanes"]
        return dict(lane)

    def audit(self) -> list[tuple[str, str, str]]:
        """(actor, action, subject) of all that was audited, in sequence."""
        with closing(sqlite3.connect(self.config.parent / "var" / "radbridge.db")) as database:
            return database.execute("SELECT actor, action, subject FROM audit ORDER BY at, id").fetchall()
