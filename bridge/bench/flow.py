"""The bench of the main path: MLLP in, durable, routed, three fields edited, MLLP out in sequence."""

from __future__ import annotations

import json as json_
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bridge.bench.baseline import commits_per_second
from bridge.bench.ends import Sink, generate
from bridge.bench.figures import Level
from bridge.bench.orders import order
from bridge.bench.table import print_report
from bridge.bench.usage import Usage
from bridge.demo.engine import Engine, free_port
from bridge.errors import BridgeError

WARM_UP = (8, 400)
"""Connections and messages before anything is measured."""
COMMITS = 3000
PATIENCE = 60.0
"""Seconds after the last acknowledgement in which the last message must arrive."""
ON_DISK = Path("/var/tmp")
"""Where temporary files lie on a disk, even where /tmp is memory."""

_CONFIG = """\
site: {{name: bench, timezone: Europe/Paris}}
channels:
  load-in:  {{type: mllp-in, listen: "127.0.0.1:{port}"}}
  sink-out: {{type: mllp-out, connect: "127.0.0.1:{sink}", lane: destination}}
routes:
  orders: {{from: load-in, when: {{message: [ORM^O01]}}, to: [{{sink-out: edit}}]}}
web: {{listen: "127.0.0.1:{web}"}}
data: var
mappings: mappings
adapters: adapters
log: {{level: warning}}
"""
_EDIT = """\
target: hl7v2
messages: [ORM^O01]
edits:
  - set: {MSH-5: {value: BENCH-PACS}, MSH-6: {value: BENCH-ARCHIVE}, OBR-21: {value: RB-BENCH}}
"""

Step = Callable[[str], None]


def run(*, json: bool, levels: Sequence[tuple[int, int]], folder: Path | None = None) -> int:
    """Measure each (connections, messages) of ``levels``, print the figures, and say whether all arrived as it must."""
    console = Console(stderr=json)
    place = Path(tempfile.mkdtemp(prefix="radbridge-bench-", dir=folder or (ON_DISK if ON_DISK.is_dir() else None)))
    try:
        with _progress(console, 4 + 2 * len(levels)) as step:
            report = _measure(place, levels, step)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if json:
        print(json_.dumps(report, indent=2))
    else:
        print_report(console, report)
    return 1 if report["problems"] else 0


@contextmanager
def _progress(console: Console, steps: int) -> Iterator[Step]:
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console, transient=True) as progress:
        task = progress.add_task("the engine starts", total=steps)
        yield lambda text: progress.update(task, description=text, advance=1)


def _measure(place: Path, levels: Sequence[tuple[int, int]], step: Step) -> dict[str, Any]:
    runs = count(1)
    with Sink() as sink, Sink() as bare, _engine(place, sink.port) as (engine, port):
        step("start to first acknowledgement")
        start = _first_acknowledgement(engine, port, order(next(runs), 0))
        sink.report(1, PATIENCE)
        step("warming up")
        for end, through in ((sink, port), (bare, bare.port)):
            generate(through, *WARM_UP, next(runs))
            end.report(WARM_UP[1], PATIENCE)
        step(f"{COMMITS:,} commits of the bare store")
        commits = commits_per_second(place, COMMITS)
        found = [_level(engine, port, sink, bare, level, next(runs), step) for level in levels]
    return {
        "subject": "flow",
        "machine": {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        "message_bytes": len(order(1, 0)),
        "start_to_first_ack_s": round(start, 3),
        "bare_commits_per_s": round(commits),
        "levels": [level.figures(commits) for level in found],
        "problems": [problem for level in found for problem in level.problems()],
    }


def _level(engine: Engine, port: int, sink: Sink, bare: Sink, level: tuple[int, int], run: int, step: Step) -> Level:
    connections, messages = level
    step(f"{messages:,} orders over {connections} connection(s)")
    usage = Usage(engine.pid)
    load = generate(port, connections, messages, run)
    arrived = sink.report(messages, PATIENCE)
    cpu = usage.stop()
    step(f"the same {messages:,}, only acknowledged")
    alone = generate(bare.port, connections, messages, run)
    bare.report(messages, PATIENCE)
    return Level(connections, run, load, arrived, cpu, usage.rss_mib, alone)


@contextmanager
def _engine(place: Path, sink: int) -> Iterator[tuple[Engine, int]]:
    """An engine with its site file and data in ``place``, and the port that it receives on."""
    for name in ("mappings", "adapters"):
        (place / name).mkdir()
    (place / "mappings" / "edit.yaml").write_text(_EDIT, encoding="utf-8")
    port, config = free_port(), place / "bridge.yaml"
    config.write_text(_CONFIG.format(port=port, sink=sink, web=free_port()), encoding="utf-8")
    engine = Engine(config, place / "engine.log")
    engine.start()
    try:
        yield engine, port
    finally:
        engine.stop()


def _first_acknowledgement(engine: Engine, port: int, message: bytes) -> float:
    """Seconds from the start of the process to its first acknowledgement."""
    engine.wait_for(port)
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"\x0b" + message + b"\x1c\r")
        while (answer := connection.recv(4096)) and not answer.endswith(b"\x1c\r"):
            pass
        if not answer:
            raise BridgeError(f"the engine closed the connection:\n{engine.output()[-2000:]}")
    return time.monotonic() - engine.started
