"""The load generator of the FHIR bench: requests over HTTP/1.1, as ``bridge.bench.load`` sends messages.

``python -m bridge.bench.fhir_load PORT CONNECTIONS`` reads a JSON list of requests, each the text of one, and prints
what ``bridge.bench.load`` prints; refused are those that were answered other than 2xx.
"""

from __future__ import annotations

import json
import re
import sys

from bridge.bench.load import generate

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def whole(received: bytes) -> bool:
    """Whether an HTTP message that tells the length of its body is there to its end."""
    head, end, body = received.partition(b"\r\n\r\n")
    said = _LENGTH.search(head)
    return bool(end) and len(body) >= (int(said[1]) if said else 0)


def _succeeded(_: bytes, received: bytes) -> bool | None:
    return received[9:10] == b"2" if whole(received) else None


def main() -> None:
    import uvloop

    port, connections = (int(word) for word in sys.argv[1:3])
    frames = [one.encode() for one in json.load(sys.stdin)]
    json.dump(uvloop.run(generate(port, connections, frames, _succeeded)), sys.stdout)


if __name__ == "__main__":
    main()
