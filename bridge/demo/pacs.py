"""A simulated PACS: an MLLP server that keeps what it gets, and that can be taken down and brought back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bridge.demo.hl7 import acknowledge

END = b"\x1c\r"
LIMIT = 1 << 24


@dataclass(frozen=True, slots=True)
class Arrival:
    control_id: str
    raw: bytes
    at: float
    """On the machine's monotonic clock."""


class Pacs:
    """Acknowledges everything with AA. ``forgets`` names arrivals (from 1) that it acknowledges but does not keep: a
    fault, to show that the demo's checks find it."""

    def __init__(self, forgets: frozenset[int] = frozenset()) -> None:
        self.arrivals: list[Arrival] = []
        self.port = 0
        self.up = False
        self._forgets = forgets
        self._taken = 0
        self._silent = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def ids(self) -> set[str]:
        """Control ids of what it keeps."""
        return {arrival.control_id for arrival in self.arrivals}

    async def start(self) -> None:
        """Listen; the first time on any free port, later on the same one."""
        self._silent, self.up = False, True
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As if the process had died: nobody listens, and every connection breaks."""
        self.up = False
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def die_before_the_next_answer(self) -> None:
        """Keep the next message, but go down before it is acknowledged: its sender cannot know that it arrived."""
        self._silent = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                frame = await reader.readuntil(END)
                message = frame[frame.index(b"\x0b") + 1 : -2]
                self._keep(message)
                if self._silent:
                    await self.stop()
                    return
                writer.write(b"\x0b" + acknowledge(message, "PACS") + END)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _keep(self, message: bytes) -> None:
        self._taken += 1
        if self._taken not in self._forgets:
            identifier = message.split(b"\r", 1)[0].split(b"|")[9].decode()
            self.arrivals.append(Arrival(identifier, message, time.monotonic()))
