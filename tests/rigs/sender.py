"""A sending system over MLLP: one message at a time on a connection, the same one again until it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.rigs.radiology import Said, stamped

VT, END = b"\x0b", b"\x1c\r"


@dataclass(slots=True)
class Sent:
    """What a sender knows of one of its messages; times are seconds on the monotonic clock."""

    first: float
    answered: float = math.inf
    """When its positive acknowledgement was read."""
    answers: list[bytes] = field(default_factory=list)
    versions: list[bytes] = field(default_factory=list)
    """As it was sent, each time with another MSH-7."""


@dataclass(slots=True)
class Journal:
    """Of all senders of a test, by control id."""

    sent: dict[str, Sent] = field(default_factory=dict)
    refusals: int = 0
    """Answers AR: the message was sent again."""

    @property
    def acknowledged(self) -> set[str]:
        return {identifier for identifier, sent in self.sent.items() if sent.answered < math.inf}


class Sender:
    """One connection. Where it breaks, or no answer comes, the next address is tried, with the same message."""

    PAUSE = 0.03

    def __init__(self, journal: Journal, *ports: int, patience: float = 30.0) -> None:
        self._journal, self._patience = journal, patience
        self._ports = itertools.cycle(ports)
        self._seconds = itertools.count()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send_all(self, messages: Sequence[Said]) -> None:
        for message in messages:
            await self.send(message)
        self.close()

    async def send(self, message: Said) -> bytes:
        """Returns its positive answer. Fails for any other answer but AR, which asks to come again."""
        sent = self._journal.sent.setdefault(message.id, Sent(time.monotonic()))
        while True:
            try:
                answer = await self._once(message, sent)
            except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                self.close()
                await asyncio.sleep(self.PAUSE)
                continue
            code, about = acknowledgement(answer)
            assert about == message.id, f"{message.id} was sent, {about} was answered"
            sent.answers.append(answer)
            if code == "AA":
                sent.answered = min(sent.answered, time.monotonic())
                return answer
            assert code == "AR", answer
            self._journal.refusals += 1
            await asyncio.sleep(self.PAUSE)

    async def once(self, message: Said) -> bytes:
        """Send it once, on this connection; the answer. Raises OSError or EOFError if none comes."""
        return await self._once(message, self._journal.sent.setdefault(message.id, Sent(time.monotonic())))

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def _once(self, message: Said, sent: Sent) -> bytes:
        async with asyncio.timeout(self._patience):
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", next(self._ports), limit=1 << 20)
            reader, writer = self._streams
            data = stamped(message.data, next(self._seconds))
            sent.versions.append(data)
            writer.write(VT + data + END)
            await writer.drain()
            return (await reader.readuntil(END))[1:-2]


async def send_raw(port: int, data: bytes, seconds: float = 30.0) -> bytes:
    """Everything that comes back for these bytes, until nothing has come for a second or the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    answer = b""
    with contextlib.suppress(OSError):
        writer.write(data)
        async with asyncio.timeout(seconds):
            await writer.drain()
    with contextlib.suppress(OSError, TimeoutError):
        while chunk := await asyncio.wait_for(reader.read(1 << 16), 1.0):
            answer += chunk
    writer.close()
    return answer


def acknowledgement(answer: bytes) -> tuple[str, str]:
    """MSA-1 and MSA-2."""
    msa = next(row for row in answer.split(b"\r") if row.startswith(b"MSA")).split(answer[3:4])
    return msa[1].decode(), msa[2].decode()


def control_id_of(answer: bytes) -> str:
    """An answer's own MSH-10."""
    return answer.split(b"|", 10)[9].decode()
