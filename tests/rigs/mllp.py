"""Both ends of an MLLP connection: an engine to hand messages to, senders and receivers that follow a script."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.codecs.ack import Ack, acknowledge, read_ack
from bridge.codecs.hl7v2 import parse
from bridge.codecs.mllp import Framer, wrap
from bridge.errors import BridgeError, CodecError
from bridge.message import Delivery
from bridge.ports import Answer, Inbound, Outgoing, Receive, Reply, Services
from channels.mllp import MLLP_IN, MLLP_OUT
from channels.mllp_client import MllpSink
from channels.mllp_server import MllpSource
from tests.rigs.need import require

SERVICES = Services(name="the-channel", site=None)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
DELIVERY = Delivery("d1", "m1", 20260102, "route", "the-channel", "", "r1", ("all",))


def certificate(folder: Path, name: str) -> None:
    """A self-signed certificate for 127.0.0.1 in ``folder``: ``name``.pem and ``name``.key."""
    subprocess.run(
        [require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")],
        check=True, capture_output=True,
    )  # fmt: skip


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def message(number: int | str = 1, text: str = "", version: str = "2.5.1") -> bytes:
    return (
        f"MSH|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102||ORM^O01^ORM_O01|C{number}|P|{version}||||||UNICODE UTF-8\r"
        f"PID|||A||Testone^Zoé\rNTE|1||{text}\r"
    ).encode()


def accepted(data: bytes, error: BridgeError | None = None) -> Reply:
    code = error.face.ack if error else "AA"
    try:
        read = parse(data)
    except CodecError as broken:
        read, error, code = None, broken, "AE"
    body = acknowledge(read, data, code=code, control_id="OWN", now=NOW, error=error)
    return Reply(ok=error is None, message="m1", body=body, error=error)


class Engine:
    """What a source hands its messages to: remembers them, and answers while ``gate`` is open."""

    def __init__(self, answer: Callable[[Inbound], Awaitable[Reply]] | None = None) -> None:
        self.received: list[Inbound] = []
        self.under_way = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._answer = answer

    async def __call__(self, inbound: Inbound) -> Reply:
        self.received.append(inbound)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            return await self._answer(inbound) if self._answer else accepted(inbound.data)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def listening(receive: Receive, **settings: Any) -> AsyncIterator[MllpSource]:
    model = MLLP_IN.settings.model_validate({"type": "mllp-in", "listen": "127.0.0.1:0", **settings})
    source: MllpSource = MLLP_IN.build(model, SERVICES)
    await source.start(receive)
    try:
        yield source
    finally:
        await source.stop()


def port_of(source: MllpSource) -> int:
    return int(source.endpoint.rpartition(":")[2])


class Client:
    """A sender that does as it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._framer = Framer(1 << 20)
        self._answers: list[Ack] = []

    @classmethod
    async def connect(cls, source: MllpSource, **options: Any) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port_of(source), **options))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answers(self, count: int) -> list[Ack]:
        """The next answers; fewer when the other side closes."""
        while len(self._answers) < count:
            data = await self.reader.read(65536)
            if not data:
                break
            self._answers += [read_ack(frame) for frame in self._framer.feed(data) if isinstance(frame, bytes)]
        taken, self._answers = self._answers[:count], self._answers[count:]
        return taken

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@asynccontextmanager
async def peer(script: Script) -> AsyncIterator[tuple[int, list[int]]]:
    """A receiver that follows ``script`` on each connection; its port, and one entry for each connection made."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(len(connections))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


def answering(code: str = "AA", error: BridgeError | None = None, times: int = 1000) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            payload = (await reader.readuntil(b"\x1c\r"))[1:-2]
            writer.write(wrap(acknowledge(None, payload, code=code, control_id="P", now=NOW, error=error)))

    return script


def sink(port: int, host: str = "127.0.0.1", **settings: Any) -> MllpSink:
    model = MLLP_OUT.settings.model_validate({"type": "mllp-out", "connect": f"{host}:{port}", **settings})
    built: MllpSink = MLLP_OUT.build(model, SERVICES)
    return built


async def send(channel: MllpSink, number: int | str = 1, data: bytes = b"") -> Answer:
    return await channel.send(Outgoing(data or message(number), DELIVERY, control_id=f"C{number}"))
