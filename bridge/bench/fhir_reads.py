"""Reads and searches of the FHIR facade among so many resources, beside plain FastAPI that returns the same bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx

from bridge.bench.fhir_exams import PER_EXAM, SECOND, fill, reads
from bridge.bench.fhir_site import beside, plain, request, serving
from bridge.bench.flow import PATIENCE
from bridge.store.store import Store

AIM_MS = 20.0
"""What 95 of 100 reads of a single client should not exceed."""
CROWDED = ("read by id", "vread", "history", "by accession", "by patient", "by status and date")
"""Asked over several connections too."""
Step = Callable[[str], None]


def measure(
    place: Path, resources: int, levels: Sequence[tuple[int, int]], repeats: int, step: Step, database: str = ""
) -> dict[str, Any]:
    """Every kind of read, ``repeats`` times over one connection; those of :data:`CROWDED` also at each (connections,
    requests) of ``levels``. ``database`` is the URL of one that holds no resources; empty: SQLite in ``place``."""
    exams = max(1, round(resources / PER_EXAM))
    step(f"{resources:,} resources")
    (place / "var").mkdir(parents=True)
    made, seconds = _fill(database or f"sqlite:///{place / 'var' / 'radbridge.db'}", exams)
    with serving(place, database=database) as site:
        chance = Random(exams)
        asked = [reads(chance, exams) for _ in range(repeats)]
        problems: list[str] = []
        paths, bodies = _answers(f"http://127.0.0.1:{site.http}", asked, problems)
        found: dict[str, Any] = {}
        with plain(bodies) as bare:
            for name, urls in paths.items():
                step(name)
                requests = [request("GET", url) for url in urls]
                found[name], load = beside(site.http, bare, 1, requests)
                found[name] |= {"met": found[name]["p95_ms"] < AIM_MS, "levels": []}
                problems += [f"{name}: {load.refused} refused"] if load.refused else []
                for connections, count in levels if name in CROWDED else ():
                    many = [requests[number % len(requests)] for number in range(count)]
                    figures, _ = beside(site.http, bare, connections, many)
                    found[name]["levels"].append({"connections": connections, "requests": count, **figures})
    kind = "PostgreSQL" if database else "SQLite"
    filled = {"resources": made, "filled_per_s": round(made / seconds), "database": kind, "aim_ms": AIM_MS}
    return {**filled, "reads": found, "problems": problems}


def _fill(url: str, exams: int) -> tuple[int, float]:
    store = Store(url)
    try:
        began = time.perf_counter()
        return fill(store, exams), time.perf_counter() - began
    finally:
        store.close()


def _answers(
    server: str, asked: Sequence[dict[str, str]], problems: list[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Each kind of read with its URLs below the service's; and what each is answered, by method and URL."""
    paths: dict[str, list[str]] = {name: [] for name in asked[0]}
    bodies = {}
    with httpx.Client(base_url=server, trust_env=False, timeout=PATIENCE) as client:
        for name, url in ((name, url) for one in asked for name, url in one.items()):
            answer = client.get(f"/fhir/{url}")
            if name == SECOND:
                links = {link["relation"]: link["url"] for link in answer.json().get("link", [])}
                url = links.get("next", "").partition("/fhir/")[2] or url
                answer = client.get(f"/fhir/{url}")
            bodies[f"GET /fhir/{url}"] = answer.text
            paths[name].append(f"/{url}")
            if answer.status_code != 200 or ("accession" in name and not json.loads(answer.text).get("entry")):
                problems.append(f"{name}: HTTP {answer.status_code}, or nothing found")
    return paths, bodies
