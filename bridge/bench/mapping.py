"""The bench of mappings: CPU time of the shipped ones, and of an order to the worklist beside JSONata and Jinja2."""

from __future__ import annotations

import json as json_
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.bench import translators
from bridge.bench.cpu import microseconds, side_by_side
from bridge.codecs import fhir_check
from bridge.codecs.hl7v2 import parse
from bridge.demo.site import shipped
from bridge.mapping import CompiledMapping, MappingSet, compile_all

CONTEXT = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}


@dataclass(frozen=True, slots=True)
class Subject:
    """A shipped mapping, a sample message for it, and the CPU time that Radbridge aims at (0: none)."""

    mapping: str
    sample: str
    aim_us: float = 0


WORKLIST = Subject("order-to-worklist", "orm_new_ct.hl7", 100)
SUBJECTS = (
    WORKLIST,
    Subject("pacs-order", "orm_new_ct.hl7"),
    Subject("orm-to-omi", "orm_new_ct.hl7"),
    Subject("report-to-fhir", "oru_final.hl7", 2000),
)
VALIDATION = "its validation"
"""The part of a FHIR mapping that checks the finished resources, measured by itself."""
OURS = "radbridge"
Make = Callable[[], bytes]


def run(*, json: bool, rounds: int = 100) -> int:
    """Measure and print; 1 when the others make another worklist of the order."""
    report = measure(rounds)
    if json:
        print(json_.dumps(report, indent=2))
    else:
        print_mapping(Console(), report)
    return 1 if report["problems"] else 0


def measure(rounds: int) -> dict[str, Any]:
    """Figures of each mapping, from bytes to bytes, and of the others beside the first: CPU in microseconds."""
    folder = shipped("mappings")
    compiled = compile_all(sources(folder))
    mappings = [_figures(one, compiled.mappings[one.mapping], folder, rounds) for one in SUBJECTS]
    makers = _worklist_makers(compiled, folder)
    figures = side_by_side({name: make for name, make in makers.items() if make}, rounds)
    others = [beside(name, figures) for name in makers if name != OURS]
    machine = {"system": platform.platform(), "python": platform.python_version()}
    problems = disagreements(makers)
    return {"subject": "mapping", "machine": machine, "mappings": mappings, "beside": others, "problems": problems}


def sources(folder: Path) -> dict[str, str]:
    """The mappings and tables below ``folder``, as ``compile_all`` takes them."""
    found = (one for kind in ("yaml", "csv") for one in folder.rglob(f"*.{kind}"))
    return {one.relative_to(folder).as_posix(): one.read_text() for one in found}


def _figures(subject: Subject, mapping: CompiledMapping, folder: Path, rounds: int) -> dict[str, Any]:
    data = (folder / "samples" / subject.sample).read_bytes()
    found: dict[str, Any] = {"mapping": subject.mapping, "sample": subject.sample, "bytes": len(data)}
    found |= microseconds(lambda: mapping.render(parse(data), CONTEXT).data, rounds)
    if subject.aim_us:
        found |= {"aim_us": subject.aim_us, "met": found["best_us"] <= subject.aim_us}
    if mapping.target == "fhir":
        made = json_.loads(mapping.render(parse(data), CONTEXT).data)
        resources = [entry["resource"] for entry in made["entry"]]
        checked = microseconds(lambda: _validate(resources), rounds)
        found["validation"] = {"resources": len(resources), **checked}
    return found


def _validate(resources: list[dict[str, Any]]) -> None:
    for one in resources:
        fhir_check.validate(one)


def _worklist_makers(compiled: MappingSet, folder: Path) -> dict[str, Make | None]:
    """The sample order to the worklist: by Radbridge from its bytes, by the others from what they are given."""
    data, mapping = (folder / "samples" / WORKLIST.sample).read_bytes(), compiled.mappings[WORKLIST.mapping]
    tables = translators.dictionaries(compiled.tables)
    given = {"message": translators.taken_apart(parse(data)), "tables": tables, **CONTEXT}
    others = {"jsonata-python": translators.jsonata(), "Jinja2": translators.jinja2()}
    makers: dict[str, Make | None] = {OURS: lambda: mapping.render(parse(data), CONTEXT).data}
    makers |= {name: partial(translate, given) if translate else None for name, translate in others.items()}
    return makers


def beside(name: str, figures: Mapping[str, dict[str, float]]) -> dict[str, Any]:
    """Figures of another translator, and their ratio to ours; none if it is not installed."""
    mine = figures.get(name)
    found: dict[str, Any] = {"translator": name, "installed": mine is not None}
    if mine is None:
        return {**found, "version": "", "best_us": None, "median_us": None, "ratio": None}
    return {**found, "version": version(name), **mine, "ratio": round(mine["best_us"] / figures[OURS]["best_us"], 1)}


def disagreements(makers: dict[str, Make | None]) -> list[str]:
    """Who makes another document of the order than Radbridge does."""
    made = {name: json_.loads(make()) for name, make in makers.items() if make}
    ours = made.pop(OURS)
    return [f"{name} makes another worklist of the order" for name, theirs in made.items() if theirs != ours]


def print_mapping(console: Console, report: dict[str, Any]) -> None:
    """The figures as tables for people."""
    machine = report["machine"]
    console.print(f"{machine['system']}, Python {machine['python']}")
    table = Table(title="CPU of a mapping, parse included")
    table.add_column("mapping", no_wrap=True)
    table.add_column("message")
    for name in ("best us", "median us", "aim us"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report["mappings"]:
        aim = f"{one['aim_us']:,.0f}: {'met' if one['met'] else 'missed'}" if "aim_us" in one else ""
        table.add_row(one["mapping"], f"{one['sample']}, {one['bytes']:,} B", *_times(one), aim)
        if checked := one.get("validation"):
            table.add_row(f"  {VALIDATION}", f"{checked['resources']} resources", *_times(checked), "")
    beside = Table(title=f"{WORKLIST.mapping} by others: the message given to them parsed, and nothing checked")
    beside.add_column("translator", no_wrap=True)
    for name in ("best us", "median us", "ratio"):
        beside.add_column(name, justify="right", no_wrap=True)
    for one in report["beside"]:
        figures = (*_times(one), f"{one['ratio']:,.1f}") if one["installed"] else ("not installed", "", "")
        beside.add_row(f"{one['translator']} {one['version']}", *figures)
    console.print(table, beside)
    for problem in report["problems"]:
        console.print(f"[red]{problem}[/red]")
    if not report["problems"]:
        console.print("[green]all of them make the same worklist of the order[/green]")


def _times(figures: dict[str, Any]) -> tuple[str, str]:
    return f"{figures['best_us']:,.0f}", f"{figures['median_us']:,.0f}"
