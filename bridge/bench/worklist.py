"""The bench of the worklist: whole ``findscu`` calls on our provider, beside DCMTK's ``wlmscpfs`` on the same items."""

from __future__ import annotations

import json as json_
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.bench.figures import percentile
from bridge.bench.flow import ON_DISK
from bridge.bench.worklist_items import CROWD, DAY, STATION, fill, item, write_files
from bridge.demo.engine import Engine, free_port
from bridge.errors import BridgeError

STEP = "0040,0100[0]."
RETURN = (
    "0008,0050",
    "0010,0010",
    "0010,0020",
    "0010,0030",
    "0010,0040",
    "0020,000d",
    "0032,1060",
    "0040,1001",
)
OF_STEP = ("0008,0060", "0040,0001", "0040,0002", "0040,0003", "0040,0007", "0040,0009")
QUERIES: dict[str, tuple[str, ...]] = {
    "station's day": (f"{STEP}0040,0001={STATION}", f"{STEP}0040,0002={DAY}"),
    "name": ("0010,0010=BENCHB*",),
    "accession": ("0008,0050=A3",),
    "everything": (),
}
"""What a scanner asks, each with all the attributes that are shown on a console."""
CLIENTS = 8
NOISE = 0.02
"""Seconds that two calls may differ by without meaning anything."""
_DCMTK = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"
_CONFIG = """\
site: {{name: bench, timezone: Europe/Paris}}
channels:
  worklist: {{type: dicom-worklist, listen: "127.0.0.1:{port}", max_associations: 64}}
routes: {{}}
web: {{listen: "127.0.0.1:{web}"}}
data: var
mappings: mappings
adapters: adapters
log: {{level: warning}}
"""
Peer = tuple[str, int]
"""A server's name and port."""


@dataclass(frozen=True, slots=True)
class Times:
    """Whole calls of one query, seconds."""

    calls: list[float]

    @property
    def figures(self) -> dict[str, float]:
        waits = sorted(1000 * call for call in self.calls)
        return {"p50_ms": round(percentile(waits, 0.5), 1), "p95_ms": round(percentile(waits, 0.95), 1)}


def run(*, json: bool, sizes: Sequence[int] = (100, 1_000, 10_000), repeats: int = 11, crowd: int = CROWD) -> int:
    """Measure and print; 1 when a server's answers are not as many as there are items.

    ``sizes`` are numbers of items; ``crowd`` that of the run that shows whether one station's day stays as fast.
    Raises BridgeError without DCMTK.
    """
    findscu, other = (shutil.which(name, path=_DCMTK) for name in ("findscu", "wlmscpfs"))
    if not findscu or not other:
        raise BridgeError("DCMTK is not installed", fix="apt-get install dcmtk")
    console = Console(stderr=json)
    report: dict[str, Any] = {"subject": "worklist", "machine": _machine(findscu), "sizes": [], "problems": []}
    for size in sizes:
        console.print(f"[dim]{size:,} items[/dim]")
        report["sizes"].append(_beside(size, repeats, findscu, other, report["problems"]))
    if crowd:
        console.print(f"[dim]{crowd:,} items, one station's day[/dim]")
        report["flat"] = _flat(min(sizes), crowd, repeats, findscu)
    print(json_.dumps(report, indent=2)) if json else print_worklist(console, report)
    return 1 if report["problems"] else 0


def _machine(findscu: str) -> dict[str, str]:
    said = subprocess.run([findscu, "--version"], capture_output=True, text=True, check=False).stdout
    version = said.split()[2] if len(said.split()) > 2 else ""
    return {"system": platform.platform(), "python": platform.python_version(), "dcmtk": version}


class _Site:
    """Servers on the same items, in a folder of their own; a context manager."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._stack = ExitStack()
        self._place = Path(tempfile.mkdtemp(prefix="radbridge-bench-", dir=ON_DISK if ON_DISK.is_dir() else None))
        self._stack.callback(shutil.rmtree, self._place, ignore_errors=True)

    def __enter__(self) -> _Site:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def ours(self) -> Peer:
        for name in ("mappings", "adapters", "var"):
            (self._place / name).mkdir()
        port = free_port()
        config = self._place / "bridge.yaml"
        config.write_text(_CONFIG.format(port=port, web=free_port()))
        fill(self._place / "var" / "radbridge.db", self._size)
        engine = Engine(config, self._place / "engine.log")
        engine.start()
        self._stack.callback(engine.stop)
        engine.wait_for(port, 60)
        return "radbridge", port

    def theirs(self, program: str) -> Peer:
        folder = self._place / "wl" / "RADBRIDGE"
        folder.mkdir(parents=True)
        write_files(folder, self._size)
        port = free_port()
        command = [program, "-q", "-dfp", str(folder.parent), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(_end, process)
        time.sleep(0.5)
        return "wlmscpfs", port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _ask(findscu: str, port: int, keys: Sequence[str], *, verbose: bool = False) -> tuple[float, str]:
    """One whole call: its seconds, and what it printed."""
    command = [findscu, "-v" if verbose else "-q", "-W", "-aet", STATION, "-aec", "RADBRIDGE"]
    told = {key.partition("=")[0] for key in keys}
    asked = [*keys, *(key for key in RETURN if key not in told)]
    asked += [STEP + tag for tag in OF_STEP if STEP + tag not in told]
    for key in asked:
        command += ["-k", key]
    began = time.perf_counter()
    done = subprocess.run([*command, "127.0.0.1", str(port)], capture_output=True, check=True, timeout=300)
    return time.perf_counter() - began, (done.stdout + done.stderr).decode("utf-8", "replace")


def _beside(size: int, repeats: int, findscu: str, other: str, problems: list[str]) -> dict[str, Any]:
    """The figures of one number of items; the servers take turns."""
    with _Site(size) as site:
        peers = [site.ours(), site.theirs(other)]
        first = {server: round(1000 * _ask(findscu, port, ())[0], 1) for server, port in peers}
        expected = {name: _expected(name, size) for name in QUERIES}
        for name, keys in QUERIES.items():
            for server, port in peers:
                answers = _ask(findscu, port, keys, verbose=True)[1].count("(Pending)")
                if answers != expected[name]:
                    problems.append(f"{size} items, {name}: {server} gave {answers} of {expected[name]}")
        times: dict[str, dict[str, Times]] = {name: {server: Times([]) for server, _ in peers} for name in QUERIES}
        for _ in range(repeats):
            for name, keys in QUERIES.items():
                for server, port in peers:
                    times[name][server].calls.append(_ask(findscu, port, keys)[0])
        crowd = {server: _together(findscu, port, repeats) for server, port in peers}
    return {**_figures(size, times, crowd), "everything_first_ms": first}


def _figures(size: int, times: dict[str, dict[str, Times]], crowd: dict[str, float]) -> dict[str, Any]:
    mine = "radbridge"
    queries = {}
    for name, by_server in times.items():
        figures = {server: found.figures for server, found in by_server.items()}
        theirs = next(found for server, found in figures.items() if server != mine)
        queries[name] = {**figures, "ratio": round(theirs["p50_ms"] / figures[mine]["p50_ms"], 2)}
    more = {server: _median(times["everything"][server]) - _median(times["accession"][server]) for server in crowd}
    rates = {server: round(size / seconds) if seconds > NOISE else None for server, seconds in more.items()}
    ratio = round(crowd[mine] / next(rate for server, rate in crowd.items() if server != mine), 1)
    together = {**{server: round(rate, 1) for server, rate in crowd.items()}, "ratio": ratio}
    return {"items": size, "queries": queries, "clients_per_s": together, "responses_per_s": rates}


def _median(times: Times) -> float:
    return statistics.median(times.calls)


def _expected(name: str, size: int) -> int:
    made = [item(number) for number in range(size)]
    tests: dict[str, Callable[[Any], bool]] = {
        "station's day": lambda one: one.station == STATION and one.day == DAY,
        "name": lambda one: one.name.startswith("BENCHB"),
        "accession": lambda one: one.number == 3,
        "everything": lambda one: True,
    }
    return sum(map(tests[name], made))


def _together(findscu: str, port: int, repeats: int) -> float:
    """Queries per second of several clients that ask for one station's day at the same time."""
    calls = CLIENTS * max(2, repeats // 2)
    with ThreadPoolExecutor(CLIENTS) as clients:
        began = time.perf_counter()
        list(clients.map(lambda _: _ask(findscu, port, QUERIES["station's day"]), range(calls)))
        return calls / (time.perf_counter() - began)


def _flat(few: int, many: int, repeats: int, findscu: str) -> dict[str, Any]:
    """One station's day among few items and among many, by turns."""
    with _Site(few) as small, _Site(many) as large:
        ports = {str(few): small.ours()[1], str(many): large.ours()[1]}
        times = {name: Times([]) for name in ports}
        for _ in range(2 * repeats):
            for name, port in ports.items():
                times[name].calls.append(_ask(findscu, port, QUERIES["station's day"])[0])
    ratio = _median(times[str(many)]) / _median(times[str(few)])
    return {**{name: found.figures for name, found in times.items()}, "ratio": round(ratio, 2)}


def print_worklist(console: Console, report: dict[str, Any]) -> None:
    """The figures as tables for people."""
    console.print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    table = Table(title="whole findscu calls, ms")
    for name in ("items", "query"):
        table.add_column(name, no_wrap=True)
    for name in ("radbridge p50", "p95", "wlmscpfs p50", "p95", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for size in report["sizes"]:
        for name, found in size["queries"].items():
            cells = [str(found[server][part]) for server in ("radbridge", "wlmscpfs") for part in ("p50_ms", "p95_ms")]
            table.add_row(f"{size['items']:,}", name, *cells, str(found["ratio"]))
        rates = size["clients_per_s"]
        cells = [f"{rates['radbridge']} /s", "", f"{rates['wlmscpfs']} /s", "", str(rates["ratio"])]
        table.add_row(f"{size['items']:,}", f"{CLIENTS} clients, station's day", *cells)
        for name, unit in (("everything_first_ms", ""), ("responses_per_s", " /s")):
            mine, theirs = (f"{value}{unit}" if value else "-" for value in size[name].values())
            table.add_row(f"{size['items']:,}", name.replace("_", " "), mine, "", theirs)
    console.print(table)
    if "flat" in report:
        flat = report["flat"]
        (few, a), (many, b) = list(flat.items())[:2]
        said = f"{a['p50_ms']} ms among {int(few):,} items, {b['p50_ms']} among {int(many):,}"
        console.print(f"one station's day: {said}: {flat['ratio']} times")
    for problem in report["problems"]:
        console.print(f"[red]{problem}[/red]")
