"""The receiving end of ``fhir-out``: a FHIR server that knows nothing and keeps nothing, in a process of its own.

``python -m bridge.bench.fhir_sink`` prints its port and reports as ``bridge.bench.sink`` does. A batch finds nothing, a
transaction is answered as created.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

from bridge.bench import sink
from bridge.bench.fhir_load import whole

_ORDER = re.compile(rb'"value":"P(\d{8})"')
_NOTHING = {"resourceType": "Bundle", "type": "searchset", "total": 0}


class Sink(sink.Sink):
    """The numbers of the orders in transactions."""

    _made = 0

    def take(self, message: bytes) -> bytes:
        """Remember one Bundle; its answer over HTTP."""
        bundle = json.loads(message)
        if bundle["type"] != "transaction":
            found = {"response": {"status": "200"}, "resource": _NOTHING}
            return _answer("batch-response", [found] * len(bundle["entry"]))
        self.last = time.monotonic()
        if order := _ORDER.search(message):
            self.ids.append(order[1].decode())
            self.distinct.add(order[1])
        return _answer("transaction-response", [self._create(one["resource"]) for one in bundle["entry"]])

    def _create(self, resource: dict[str, Any]) -> dict[str, Any]:
        self._made += 1
        location = f"{resource['resourceType']}/{self._made}/_history/1"
        return {"response": {"status": "201", "location": location, "etag": 'W/"1"'}}


def _answer(kind: str, entries: list[dict[str, Any]]) -> bytes:
    body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    def __init__(self, sink_: Sink) -> None:
        self._sink = sink_
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if whole(self._buffer):
            _, _, body = self._buffer.partition(b"\r\n\r\n")
            self._buffer = b""
            self._transport.write(self._sink.take(body))


def main() -> None:
    import uvloop

    mine = Sink()
    uvloop.run(sink.serve(mine, lambda: Connection(mine)))


if __name__ == "__main__":
    main()
