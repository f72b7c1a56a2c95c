"""A simulated RIS: an MLLP client that sends one message at a time and keeps what it was answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from bridge.demo.hl7 import Sent

END = b"\x1c\r"
PAUSE = 0.05
"""Seconds before a broken connection is opened again."""


@dataclass(slots=True)
class Told:
    """What became of one message id: when it was first sent and first answered, and every MSA-1."""

    sent: float
    answered: float = float("inf")
    codes: list[str] = field(default_factory=list)


class Ris:
    """Sends to ``port`` of 127.0.0.1. A message whose answer does not come is sent again, as it is, until it does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        self.told: dict[str, Told] = {}
        """By control id; times on the machine's monotonic clock."""

    async def send(self, message: Sent) -> str:
        """Send and wait for the answer; its MSA-1. Messages leave in the sequence in which this is called."""
        async with self._turn:
            told = self.told.setdefault(message.control_id, Told(time.monotonic()))
            while True:
                try:
                    code = await self._exchange(message)
                except (OSError, asyncio.IncompleteReadError):
                    self._forget()
                    await asyncio.sleep(PAUSE)
                    continue
                told.answered = min(told.answered, time.monotonic())
                told.codes.append(code)
                return code

    async def _exchange(self, message: Sent) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(b"\x0b" + message.raw + END)
        await writer.drain()
        answer = await reader.readuntil(END)
        fields = answer.partition(b"\rMSA|")[2].split(b"\r", 1)[0].split(b"|")
        if len(fields) < 2 or fields[1].decode() != message.control_id:
            raise ConnectionError("an answer to another message")
        return fields[0].decode()

    def _forget(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def close(self) -> None:
        self._forget()
