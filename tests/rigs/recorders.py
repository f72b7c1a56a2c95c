"""Receiving systems that write down all that arrives, and answer well: a PACS over MLLP, a FHIR server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.rigs.processes import free_port
from tests.rigs.radiology import control_id, patients

VT, END = b"\x0b", b"\x1c\r"
_SAYS = re.compile(rb"as (C\w+) says")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it arrived: what it is, and in which life of its sender."""

    id: str
    keys: tuple[str, ...]
    data: bytes
    life: int
    at: float


class Recorder(ABC):
    """A server on a free port of 127.0.0.1, and further ones (:meth:`door`), that keeps what arrives."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.life = 0
        """Counts the sender's lives; kept with what arrives on connections made from then on."""
        self.open = 0
        """Connections."""
        self.busy: frozenset[str] = frozenset()
        """Messages that are asked to come again when they are first seen, and not kept then."""
        self._asked_again: set[str] = set()
        self._gates: dict[int, asyncio.Event] = {}
        self._doors: dict[int, int | None] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listen on :attr:`port`, and on every door that there was before :meth:`stop`."""
        if not self._doors:
            self.port = free_port()
            self._doors[self.port] = None
        for port, life in self._doors.items():
            await self._listen(port, life)

    async def door(self, life: int) -> int:
        """A further port: what arrives there is kept as of this life, for senders that run side by side."""
        port = free_port()
        self._doors[port] = life
        await self._listen(port, life)
        return port

    async def stop(self) -> None:
        """Close every connection; :meth:`start` opens again on the same ports."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._servers.clear()

    async def _listen(self, port: int, life: int | None) -> None:
        serve = partial(self._serve, life)
        self._servers.append(await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 26))

    def hold(self, life: int = 0) -> None:
        """From now on, what arrives of this life is kept, and not answered until :meth:`release`."""
        self._gates[life] = asyncio.Event()

    def release(self, life: int = 0) -> None:
        self._gates.pop(life).set()

    def _comes_too_early(self, identifier: str) -> bool:
        early = identifier in self.busy - self._asked_again
        self._asked_again.add(identifier)
        return early

    async def _let_through(self, life: int) -> None:
        if gate := self._gates.get(life):
            await gate.wait()

    async def quiet(self) -> None:
        """Return when every connection has ended, and all that came over them is kept."""
        while self.open:
            await asyncio.sleep(0.005)

    @property
    def ids(self) -> set[str]:
        return {arrival.id for arrival in self.arrivals}

    async def _serve(self, life: int | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        mine = self.life if life is None else life
        try:
            while True:
                await self._answer(reader, writer, mine)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    def _keep(self, identifier: str, keys: tuple[str, ...], data: bytes, life: int) -> None:
        self.arrivals.append(Arrival(identifier, keys, data, life, time.monotonic()))

    @abstractmethod
    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, life: int) -> None:
        """Take one message and answer it. Raises IncompleteReadError at the end of the connection."""


class Pacs(Recorder):
    """Takes HL7 over MLLP; every message is answered AA, or AE to the lives in ``refused``."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[int] = set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, life: int) -> None:
        frame = await reader.readuntil(END)
        assert frame.startswith(VT), frame[:20]
        data = frame[1:-2]
        identifier = control_id(data)
        if self._comes_too_early(identifier):
            code = "AR"
        else:
            self._keep(identifier, patients(data), data, life)
            await self._let_through(life)
            code = "AE" if life in self.refused else "AA"
        head = f"MSH|^~\\&|PACS|DEMO|RADBRIDGE|DEMO|||ACK|A{identifier}|P|2.5.1"
        writer.write(VT + f"{head}\rMSA|{code}|{identifier}\r".encode() + END)
        await writer.drain()


class Fhir(Recorder):
    """Takes transaction bundles of reports; whatever is searched for is not there."""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, life: int) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        data = await reader.readexactly(int(length[1]) if length else 0)
        bundle, status = json.loads(data), "200 OK"
        if bundle["type"] == "transaction":
            said = _SAYS.search(data)
            assert said, data
            if self._comes_too_early(said[1].decode()):
                status = "409 Conflict"
            else:
                self._keep(said[1].decode(), ("",), data, life)
                await self._let_through(life)
        body = json.dumps(_response(bundle)).encode()
        writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/fhir+json\r\n".encode())
        writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


def _response(bundle: dict[str, Any]) -> dict[str, Any]:
    """A transaction-response that made everything, or a batch-response that found nothing (R4, 3.1.0.11)."""
    entries: list[dict[str, Any]] = []
    for number, entry in enumerate(bundle["entry"], 1):
        if bundle["type"] == "transaction":
            location = f"{entry['resource']['resourceType']}/{number}/_history/1"
            entries.append({"response": {"status": "201", "location": location}})
        else:
            found = {"resourceType": "Bundle", "type": "searchset", "total": 0}
            entries.append({"resource": found, "response": {"status": "200"}})
    return {"resourceType": "Bundle", "type": f"{bundle['type']}-response", "entry": entries}
