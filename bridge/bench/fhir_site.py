"""The bench's engine with its FHIR facade, and the bare ends beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.bench.ends import Load, ask
from bridge.bench.figures import answers
from bridge.demo.engine import Engine, free_port
from bridge.demo.site import shipped

MEDIA = "application/fhir+json"
_CONFIG = """\
site: {{name: bench, timezone: Europe/Paris}}
channels:
  fhir:     {{type: fhir-server, listen: "127.0.0.1:{http}"}}
  hl7-in:   {{type: mllp-in, listen: "127.0.0.1:{hl7}"}}
  relay-in: {{type: mllp-in, listen: "127.0.0.1:{relay}"}}
  sink-out: {{type: fhir-out, base_url: "http://127.0.0.1:{sink}"}}
routes:
  shown: {{from: hl7-in, to: [{{fhir: order-to-fhir}}]}}
  sent:  {{from: relay-in, to: [{{sink-out: order-to-fhir}}]}}
web: {{listen: "127.0.0.1:{web}"}}
store: {{url: "{database}"}}
data: var
mappings: {mappings}
adapters: {adapters}
log: {{level: warning}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A running engine, by its ports: the facade, HL7 to the facade, HL7 to ``fhir-out``."""

    engine: Engine
    http: int
    hl7: int
    relay: int


@contextmanager
def serving(place: Path, *, sink: int = 0, database: str = "") -> Iterator[Site]:
    """An engine with its data in ``place``, or in ``database``. Raises BridgeError if it does not start."""
    ports = {name: free_port() for name in ("http", "hl7", "relay", "web")}
    folders = {name: shipped(name) for name in ("mappings", "adapters")}
    config = place / "bridge.yaml"
    text = _CONFIG.format(**ports, **folders, sink=sink or free_port(), database=database)
    config.write_text(text, encoding="utf-8")
    engine = Engine(config, place / "engine.log")
    engine.start()
    try:
        for name in ("http", "hl7", "relay"):
            engine.wait_for(ports[name], 60)
        yield Site(engine, ports["http"], ports["hl7"], ports["relay"])
    finally:
        engine.stop()


@contextmanager
def plain(bodies: Mapping[str, str]) -> Iterator[int]:
    """The port of :mod:`bridge.bench.fhir_plain` with these bodies."""
    command = [sys.executable, "-m", "bridge.bench.fhir_plain"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(bodies) + "\n")
        process.stdin.flush()
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def request(method: str, path: str, body: str = "") -> str:
    """The text of an HTTP request to the service's ``path``."""
    head = f"{method} /fhir{path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {MEDIA}\r\n"
    if body:
        head += f"content-type: {MEDIA}\r\ncontent-length: {len(body.encode())}\r\n"
    return f"{head}\r\n{body}"


def beside(port: int, bare: int, connections: int, requests: list[str]) -> tuple[dict[str, float], Load]:
    """Figures of these requests to the facade, and to the plain server right after; and what the facade answered."""
    load = ask(port, connections, requests)
    mine, other = answers(load), answers(ask(bare, connections, requests))
    figures = {
        "per_s": mine.per_s,
        "p50_ms": mine.p50_ms,
        "p95_ms": mine.p95_ms,
        "plain_per_s": other.per_s,
        "plain_p50_ms": other.p50_ms,
        "ratio": round(mine.per_s / other.per_s, 3),
    }
    return figures, load
