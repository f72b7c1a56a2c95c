"""A system that answers questions and orders (HIS, RIS), served by the MLLP server of PyPI's ``hl7``; and one who asks,
with its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hl7.mllp

from bridge.codecs.hl7v2 import parse
from tests.rigs.processes import free_port

Answering = Callable[[bytes, int], bytes]
"""The answer to a message, which is the n-th that came (from 1)."""


class Answerer:
    """Listens on a port of its own from :meth:`start` to :meth:`stop`, and again after that."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.asked: list[bytes] = []
        self.port = free_port()
        self.gate = asyncio.Event()
        """What is asked is answered while this is set."""
        self.gate.set()
        self._writers: set[Any] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await hl7.mllp.start_hl7_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: Any, writer: Any) -> None:
        self._writers.add(writer)
        try:
            while True:
                data = await reader.readblock()
                self.asked.append(data)
                number = len(self.asked)
                await self.gate.wait()
                writer.writeblock(self._answer(data, number))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def answerer(answer: Answering) -> AsyncIterator[Answerer]:
    made = Answerer(answer)
    await made.start()
    try:
        yield made
    finally:
        made.gate.set()
        await made.stop()


class Asker:
    """One connection of a system that asks."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Asker:
        return cls(*await hl7.mllp.open_hl7_connection("127.0.0.1", port, limit=1 << 20))

    def send(self, data: bytes) -> None:
        self._writer.writeblock(data)

    async def answer(self) -> bytes:
        block: bytes = await self._reader.readblock()
        return block

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.answer()

    def close(self) -> None:
        self._writer.close()


async def ask(port: int, data: bytes) -> bytes:
    """The answer on a connection of its own."""
    asker = await Asker.connect(port)
    try:
        return await asker.ask(data)
    finally:
        asker.close()


def query(number: int | str = 1, patient: str = "4711", modes: str = "|") -> bytes:
    """A patient demographics query (QBP^Q22), in Latin-1."""
    return (
        f"MSH|^~\\&|CT1|ROOM1|BRIDGE|HUB|20260102||QBP^Q22^QBP_Q21|Q{number}|P|2.5|||{modes}||8859/1\r"
        f"QPD|IHE PDQ Query|T{number}|@PID.3.1^{patient}\rRCP|I\r"
    ).encode("latin-1")


def demographics(asked: bytes, number: int) -> bytes:
    """RSP^K22 with one patient, of the number that was asked for."""
    question = parse(asked)
    patient = question.get("QPD-3").partition("^")[2]
    return (
        f"MSH|^~\\&|HIS|HOSP|{question.get('MSH-3')}|{question.get('MSH-4')}|20260102||RSP^K22^RSP_K21|R{number}|P|2.5"
        f"||||||8859/1\rMSA|AA|{question.get('MSH-10')}\rQAK|{question.get('QPD-2')}|OK|IHE PDQ Query\r"
        f"{asked.decode('latin-1').split(chr(13))[1]}\rPID|1||{patient}^^^HOSP||Testone^Zoé||19800101|F\r"
    ).encode("latin-1")


def order(number: int | str = 1, control: str = "SN", placer: str = "P1") -> bytes:
    return (
        f"MSH|^~\\&|HIS|HOSP|BRIDGE|HUB|20260102||ORM^O01^ORM_O01|O{number}|P|2.3.1\r"
        f"PID|||4711^^^HOSP||Testone^Alice\rORC|{control}|{placer}\rOBR|1|{placer}||CT^CT head\r"
    ).encode()


def numbered(asked: bytes, number: int) -> bytes:
    """ORR^O02 that gives the n-th order the filler number F<n>."""
    return answered_order(asked, number, "NA")


def answered_order(asked: bytes, number: int, word: str, code: str = "AA") -> bytes:
    question = parse(asked)
    return (
        f"MSH|^~\\&|RIS|RADIO|{question.get('MSH-3')}|{question.get('MSH-4')}|20260102||ORR^O02|A{number}|P|2.3.1\r"
        f"MSA|{code}|{question.get('MSH-10')}\rORC|{word}|{question.get('ORC-2')}|F{number}\r"
    ).encode()
