"""The load generator: a process of its own, closed loop on each connection, as light as Python allows.

``python -m bridge.bench.load PORT CONNECTIONS MESSAGES RUN`` prints one JSON object: for each message when it was sent
and answered (seconds on the machine's monotonic clock), and how many answers were not AA.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge.bench.orders import control_id, order

Judge = Callable[[bytes, bytes], bool | None]
"""Of a message and what came back so far: whether this is the answer it must have; None while it is not whole."""


class Client(asyncio.Protocol):
    """Sends its messages one after the other, each when the one before was answered."""

    def __init__(
        self, share: list[int], frames: Sequence[bytes], judge: Judge, sent: list[float], answered: list[float]
    ) -> None:
        self._share, self._frames, self._judge, self._sent, self._answered = share, frames, judge, sent, answered
        self._next = 0
        self._buffer = b""
        self.refused = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self._next == len(self._share):
            self._transport.close()
            self.done.set_result(None)
            return
        number = self._share[self._next]
        self._sent[number] = time.monotonic()
        self._transport.write(self._frames[number])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        number = self._share[self._next]
        good = self._judge(self._frames[number], self._buffer)
        if good is None:
            return
        self._answered[number] = time.monotonic()
        self.refused += not good
        self._buffer = b""
        self._next += 1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the other side"))


async def generate(port: int, connections: int, frames: Sequence[bytes], judge: Judge) -> dict[str, Any]:
    """When each of ``frames`` was sent and answered, and how many were answered wrong."""
    count = len(frames)
    sent, answered = [0.0] * count, [0.0] * count
    loop = asyncio.get_running_loop()
    shares = [list(range(first, count, connections)) for first in range(min(connections, count))]
    clients = [Client(share, frames, judge, sent, answered) for share in shares]
    await asyncio.gather(*(loop.create_connection(lambda c=client: c, "127.0.0.1", port) for client in clients))  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    return {"sent": sent, "answered": answered, "refused": sum(client.refused for client in clients)}


def _acknowledged(frame: bytes, received: bytes) -> bool | None:
    return b"\rMSA|AA|" + control_id(frame) in received if received.endswith(b"\x1c\r") else None


def main() -> None:
    import uvloop

    port, connections, messages, run = (int(word) for word in sys.argv[1:5])
    frames = [b"\x0b" + order(run, number) + b"\x1c\r" for number in range(messages)]
    json.dump(uvloop.run(generate(port, connections, frames, _acknowledged)), sys.stdout)


if __name__ == "__main__":
    main()
