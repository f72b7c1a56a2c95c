"""Transactions in and out of the FHIR facade, each number of connections beside plain FastAPI."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from bridge.bench.ends import Load, Sink, generate
from bridge.bench.fhir_site import MEDIA, Site, beside, plain, request, serving
from bridge.bench.figures import answers
from bridge.bench.flow import PATIENCE
from bridge.bench.mapping import CONTEXT, sources
from bridge.bench.orders import order
from bridge.bench.usage import Usage
from bridge.codecs.hl7v2 import parse
from bridge.demo.site import shipped
from bridge.mapping import compile_all

Step = Callable[[str], None]
IN = ("transaction", "create", "conditional update")
THROUGH = ("HL7 to the facade", "HL7 to fhir-out")
_SYSTEM = "urn:bench:result"
_WARM_UP = 100


def measure(place: Path, levels: Sequence[tuple[int, int]], step: Step) -> dict[str, Any]:
    """Each (connections, messages) of ``levels``; ``problems`` tells what was refused or lost."""
    problems: list[str] = []
    with Sink("bridge.bench.fhir_sink") as sink, serving(place, sink=sink.port) as site:
        made = _Made()
        with plain(_answers(site, made)) as bare:
            bench = _Bench(site, sink, bare, place / "var" / "radbridge.db", made, problems)
            bench.level(8, min(_WARM_UP, max(messages for _, messages in levels)))
            found = []
            for connections, messages in levels:
                step(f"{messages:,} writes over {connections} connection(s)")
                found.append(bench.level(connections, messages))
    return {"levels": found, "problems": problems}


class _Made:
    """Requests of each kind, told apart by run and number."""

    def __init__(self) -> None:
        compiled = compile_all(sources(shipped("mappings")))
        self._mapping = compiled.mappings["order-to-fhir"]

    def bundle(self, run: int, number: int) -> str:
        """The transaction that ``order-to-fhir`` makes of an order."""
        return self._mapping.render(parse(order(run, number)), CONTEXT).data.decode()

    def request(self, kind: str, run: int, number: int) -> tuple[str, str, str]:
        """Method, path and body."""
        if kind == "transaction":
            return "POST", "", self.bundle(run, number)
        name = f"V{run:02}{number:06}"
        if kind == "create":
            return "POST", "/Observation", _result(name, number % 100)
        return "PUT", f"/Observation?identifier={quote(f'{_SYSTEM}|{name}', safe='')}", _result(name, number % 100 + 1)


def _result(name: str, value: int) -> str:
    return json.dumps(
        {
            "resourceType": "Observation",
            "identifier": [{"system": _SYSTEM, "value": name}],
            "status": "final",
            "code": {"coding": [{"system": "urn:bench:codes", "code": "C1"}]},
            "subject": {"reference": "Patient/bench"},
            "effectiveDateTime": "2030-06-05T10:15:00Z",
            "valueQuantity": {"value": value, "unit": "mm"},
        }
    )


def _answers(site: Site, made: _Made) -> dict[str, str]:
    """What the facade answers to one of each kind, by method and URL: what the plain server is to answer."""
    bodies = {}
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        for kind in IN:
            method, path, body = made.request(kind, 0, 0)
            url = f"http://127.0.0.1:{site.http}/fhir{path}"
            answer = client.request(method, url, content=body, headers={"content-type": MEDIA}).text
            bodies["PUT" if method == "PUT" else f"{method} /fhir{path}"] = answer
    return bodies


class _Bench:
    def __init__(self, site: Site, sink: Sink, bare: int, database: Path, made: _Made, problems: list[str]) -> None:
        self._site, self._sink, self._bare, self._database = site, sink, bare, database
        self._made, self._problems, self._runs = made, problems, count(1)

    def level(self, connections: int, messages: int) -> dict[str, Any]:
        run = next(self._runs)
        rows = {kind: self._in(kind, connections, messages, run) for kind in IN}
        bare = rows["transaction"]["plain_per_s"]
        rows["HL7 to the facade"] = self._shown(connections, messages, next(self._runs), bare)
        rows["HL7 to fhir-out"] = self._sent(connections, messages, next(self._runs), bare)
        return {"connections": connections, "messages": messages, "rows": rows}

    def _in(self, kind: str, connections: int, messages: int, run: int) -> dict[str, float]:
        requests = [request(*self._made.request(kind, run, number)) for number in range(messages)]
        usage = Usage(self._site.engine.pid)
        figures, load = beside(self._site.http, self._bare, connections, requests)
        self._judge(kind, load, 0)
        return {**figures, "cpu_us": round(1e6 * usage.stop() / messages)}

    def _shown(self, connections: int, messages: int, run: int, bare: float) -> dict[str, float]:
        """Until the last order is in the projection."""
        before, usage = self._orders(), Usage(self._site.engine.pid)
        load = generate(self._site.hl7, connections, messages, run)
        until = time.monotonic() + PATIENCE
        while (came := self._orders() - before) < messages and time.monotonic() < until:
            time.sleep(0.02)
        ended = time.monotonic()
        self._judge("HL7 to the facade", load, messages - came)
        return _through(load, ended, bare, usage.stop())

    def _sent(self, connections: int, messages: int, run: int, bare: float) -> dict[str, float]:
        """Until the last transaction is with the receiver."""
        usage = Usage(self._site.engine.pid)
        load = generate(self._site.relay, connections, messages, run)
        arrived = self._sink.report(messages, PATIENCE)
        self._judge("HL7 to fhir-out", load, messages - len(set(arrived.ids)))
        return _through(load, arrived.last, bare, usage.stop())

    def _orders(self) -> int:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            asked = "SELECT count(*) FROM fhir_resource WHERE type = 'ServiceRequest' AND deleted = 0"
            return int(connection.execute(asked).fetchone()[0])

    def _judge(self, kind: str, load: Load, lost: int) -> None:
        if load.refused or lost:
            self._problems.append(f"{kind}: {load.refused} refused, {lost} lost")


def _through(load: Load, ended: float, bare: float, cpu: float) -> dict[str, float]:
    """The rate from the first message sent to the last one arrived, and the times of the acknowledgements."""
    acknowledged, messages = answers(load), len(load.sent)
    per_s = messages / max(ended - min(load.sent), 1e-3)
    return {
        "per_s": round(per_s),
        "p50_ms": acknowledged.p50_ms,
        "p95_ms": acknowledged.p95_ms,
        "plain_per_s": bare,
        "ratio": round(per_s / bare, 3),
        "cpu_us": round(1e6 * cpu / messages),
    }
