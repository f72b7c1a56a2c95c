"""The bench of the FHIR facade: what it takes, sends and shows in a real engine, beside plain FastAPI and uvicorn."""

from __future__ import annotations

import json as json_
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.bench import fhir_reads, fhir_writes
from bridge.bench.flow import ON_DISK

_WHEN = {None: "", True: "met", False: "missed"}


def run(
    *,
    json: bool,
    levels: Sequence[tuple[int, int]] = ((1, 300), (8, 800), (32, 1600)),
    resources: int = 20_000,
    repeats: int = 200,
    database: str = "",
) -> int:
    """Measure and print; 1 when something was refused, lost, or not found.

    ``levels`` are pairs of connections and messages; ``resources`` so many are read from, each kind of read ``repeats``
    times; ``database`` is the URL of an empty one for them (PostgreSQL), SQLite without it.
    """
    console = Console(stderr=json)
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    report: dict[str, Any] = {"subject": "fhir", "machine": machine, "load": os.getloadavg()[0]}
    place = Path(tempfile.mkdtemp(prefix="radbridge-bench-", dir=ON_DISK if ON_DISK.is_dir() else None))
    try:
        with console.status("the engine starts") as status:
            (place / "writes").mkdir()
            report["writes"] = fhir_writes.measure(place / "writes", levels, status.update)
            crowded = [level for level in levels if level[0] > 1]
            found = fhir_reads.measure(place / "reads", resources, crowded, repeats, status.update, database)
            report["reads"] = found
    finally:
        shutil.rmtree(place, ignore_errors=True)
    report["problems"] = report["writes"].pop("problems") + report["reads"].pop("problems")
    print(json_.dumps(report, indent=2)) if json else _print(console, report)
    return 1 if report["problems"] else 0


def _print(console: Console, report: dict[str, Any]) -> None:
    machine = report["machine"]
    said = f"{machine['system']}, {machine['cores']} cores, Python {machine['python']}"
    console.print(f"{said}; load of the machine before: {report['load']:.1f}")
    writes = _table("Writes, and orders by HL7", "connections", "what", "CPU us")
    for level in report["writes"]["levels"]:
        for name, row in level["rows"].items():
            writes.add_row(str(level["connections"]), name, f"{row['cpu_us']:,}", *_cells(row))
    found = report["reads"]
    title = f"Reads among {found['resources']:,} resources, {found['database']}; aim: p95 {found['aim_ms']:g} ms"
    reads = _table(title, "connections", "what", "aim")
    for name, row in found["reads"].items():
        reads.add_row("1", name, _WHEN[row["met"]], *_cells(row))
        for one in row["levels"]:
            reads.add_row(str(one["connections"]), name, "", *_cells(one))
    console.print(writes, reads)
    for problem in report["problems"]:
        console.print(f"[red]{problem}[/red]")
    if not report["problems"]:
        console.print("[green]everything was taken, sent and found[/green]")


def _table(title: str, *first: str) -> Table:
    table = Table(title=title)
    for name in first:
        table.add_column(name, no_wrap=True)
    for name in ("per s", "p50 ms", "p95 ms", "plain FastAPI per s", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    times = f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}"
    return f"{row['per_s']:,}", *times, f"{row['plain_per_s']:,}", f"{row['ratio']:.2f}"
