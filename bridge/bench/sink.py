"""The receiving end: an MLLP server that only acknowledges and remembers which ids came, in a process of its own.

``python -m bridge.bench.sink`` prints its port. Each line ``EXPECTED SECONDS`` on its standard input is answered with
one JSON line, as soon as that many different messages have come or the time is over; then it starts anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from bridge.bench.orders import EDITED

_ACK = b"\x0bMSH|^~\\&|SINK|BENCH|RADBRIDGE|BENCH|20300605081500||ACK^O01^ACK|%b|P|2.5.1\rMSA|AA|%b\r\x1c\r"


class Sink:
    """What came since the last report."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.ids: list[str] = []
        self.distinct: set[bytes] = set()
        self.unedited = 0
        self.last = 0.0

    def take(self, message: bytes) -> bytes:
        """Remember one message; its acknowledgement, framed."""
        identifier = message.split(b"|", 10)[9]
        self.last = time.monotonic()
        self.ids.append(identifier.decode())
        self.distinct.add(identifier)
        self.unedited += not all(mark in message for mark in EDITED)
        return _ACK % (identifier, identifier)

    async def report(self, expected: int, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while len(self.distinct) < expected and time.monotonic() < until:
            await asyncio.sleep(0.01)
        found = {"ids": self.ids, "unedited": self.unedited, "last": self.last}
        self._forget()
        return found


class Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *frames, self._buffer = (self._buffer + data).split(b"\x1c\r")
        if frames:
            self._transport.write(b"".join(self._sink.take(frame) for frame in frames))


async def serve(sink: Sink, connection: Callable[[], asyncio.Protocol]) -> None:
    """Listen on any free port, and report of ``sink`` until the input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        expected, seconds = line.split()
        print(json.dumps(await sink.report(int(expected), float(seconds))), flush=True)


def main() -> None:
    import uvloop

    sink = Sink()
    uvloop.run(serve(sink, lambda: Connection(sink)))


if __name__ == "__main__":
    main()
