"""The demo as people and programs see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bridge.demo.check import Seen, problems
from bridge.demo.day import CLOSES, OPENS, make_day
from bridge.demo.pacs import Pacs
from bridge.demo.stage import PATIENCE, Stage, Story, clock_text
from bridge.errors import BridgeError

SECONDS, FAST_SECONDS = 50.0, 12.0
"""Real seconds from opening to closing time."""
SHORT_PATIENCE = 5.0
"""Where something is bound to be missing."""


def show(*, machine: bool, fast: bool, seed: int, exams: int, keep: Path | None, pacs_forgets: frozenset[int]) -> int:
    """See :func:`bridge.demo.run_demo`."""
    day = make_day(seed, exams)
    console = Console(stderr=machine, highlight=False, markup=False)
    with _folder(keep) as folder:
        patience = SHORT_PATIENCE if pacs_forgets else PATIENCE
        stage = Stage(day, folder, Pacs(pacs_forgets), FAST_SECONDS if fast else SECONDS, patience)
        found = asyncio.run(_play(stage, console, quiet=machine))
        wrong = [*stage.failures, *problems(day, found)]
        told = _facts(stage, found, wrong)
        if machine:
            json.dump(told, sys.stdout, ensure_ascii=False, indent=2)
            sys.stdout.write("\n")
        else:
            _sum_up(console, told)
            if keep:
                console.print(f"\nThe engine's data stay in {keep}: radbridge messages --config {keep / 'bridge.yaml'}")
    return 1 if wrong else 0


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="radbridge-demo-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise BridgeError("the folder is not empty", at=str(keep), fix="name a new one", kind="settings")
    yield keep.resolve()


async def _play(stage: Stage, console: Console, *, quiet: bool) -> Seen:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("the engine starts", total=CLOSES - OPENS, note="")

        async def watch() -> None:
            while True:
                minute = stage.minute
                progress.update(task, completed=minute - OPENS, description=clock_text(minute), note=stage.note)
                await asyncio.sleep(0.1)

        def told(story: Story) -> None:
            if not quiet:
                progress.console.print(str(story), soft_wrap=True)

        watching = asyncio.create_task(watch())
        try:
            async with stage.set_up():
                await stage.play(told)
                return await stage.seen()
        finally:
            watching.cancel()


def _facts(stage: Stage, seen: Seen, wrong: list[str]) -> dict[str, Any]:
    arrivals = [arrival.control_id for arrival in seen.arrivals]
    return {
        "seed": stage.day.seed,
        "exams": [
            {"accession": story.exam.request.accession, "plot": story.exam.plot, "story": story.parts}
            for story in stage.stories.values()
        ],
        "on_call": stage.on_call.acts,
        "ends": {
            "sent": len(seen.told),
            "pacs": len(set(arrivals)),
            "pacs_again": len(arrivals) - len(set(arrivals)),
            "waited_for_the_pacs": stage.most_waiting,
            "his_reports": len(seen.reports),
            "on_lists": {station: len(lines) for station, lines in seen.lists.items()},
        },
        "problems": wrong,
    }


def _sum_up(console: Console, told: dict[str, Any]) -> None:
    ends = told["ends"]
    for act in told["on_call"]:
        console.print(f"On call: {act}", soft_wrap=True)
    lists = ", ".join(f"{count} on {station}" for station, count in ends["on_lists"].items())
    console.print(
        f"\n{len(told['exams'])} exams, {ends['sent']} messages. The PACS got {ends['pacs']} "
        f"({ends['pacs_again']} of them again; {ends['waited_for_the_pacs']} waited while it was down), "
        f"the HIS shows {ends['his_reports']} reports, lists hold {lists}.",
        soft_wrap=True,
    )
    for problem in told["problems"]:
        console.print(f"WRONG: {problem}", style="red", soft_wrap=True)
    if not told["problems"]:
        console.print("Nothing lost, nothing out of sequence, every list and report as it should be.", style="green")
