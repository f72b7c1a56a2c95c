"""The load generator: a process of its own, closed loop on each connection, as light as Python allows.

``python -m bridge.bench.load PORT CONNECTIONS MESSAGES RUN`` prints one JSON object: for each message when it was sent
and answered (seconds on the machine's monotonic clock), and how many answers were not AA.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from bridge.bench.orders import control_id, order


class Client(asyncio.Protocol):
    """Sends its messages one after the other, each when the one before was answered."""

    def __init__(self, share: list[int], frames: list[bytes], sent: list[float], answered: list[float]) -> None:
        self._share, self._frames, self._sent, self._answered = share, frames, sent, answered
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
        if not self._buffer.endswith(b"\x1c\r"):
            return
        number = self._share[self._next]
        self._answered[number] = time.monotonic()
        if b"\rMSA|AA|" + control_id(self._frames[number]) not in self._buffer:
            self.refused += 1
        self._buffer = b""
        self._next += 1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the other side"))


async def generate(port: int, connections: int, messages: int, run: int) -> dict[str, Any]:
    frames = [b"\x0b" + order(run, number) + b"\x1c\r" for number in range(messages)]
    sent, answered = [0.0] * messages, [0.0] * messages
    loop = asyncio.get_running_loop()
    shares = [list(range(first, messages, connections)) for first in range(min(connections, messages))]
    clients = [Client(share, frames, sent, answered) for share in shares]
    await asyncio.gather(*(loop.create_connection(lambda c=client: c, "127.0.0.1", port) for client in clients))  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    return {"sent": sent, "answered": answered, "refused": sum(client.refused for client in clients)}


def main() -> None:
    import uvloop

    port, connections, messages, run = (int(word) for word in sys.argv[1:5])
    json.dump(uvloop.run(generate(port, connections, messages, run)), sys.stdout)


if __name__ == "__main__":
    main()
