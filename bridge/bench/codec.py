"""The bench of the codec: CPU time of parse, header, route, three edits and encode, beside two known HL7 libraries."""

from __future__ import annotations

import json as json_
import platform
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.bench.cpu import microseconds
from bridge.bench.orders import order
from bridge.codecs.hl7v2 import parse
from bridge.demo.site import shipped
from bridge.engine.plan import Plan
from bridge.settings import load

EDITS = {"MSH-5": "BENCH-PACS", "MSH-6": "BENCH-ARCHIVE", "OBR-21": "RB-BENCH"}
Targets = list[tuple[str, str, str]]
Work = Callable[[bytes], tuple[Targets, bytes]]
"""A message to where it goes and the edited message."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A message to work on, and the CPU time that Radbridge aims at."""

    name: str
    data: bytes
    aim_us: float


def samples(document: int) -> tuple[Sample, ...]:
    """An order of 1 kB, and a report with ``document`` bytes in base64."""
    return Sample("order", _order(), 60), Sample("report", _report(document), 30_000)


def _order() -> bytes:
    more = b"AL1|1|DA|IODE^Produit de contraste^BENCH|MO|URTICAIRE\rNTE|1||" + "Patient inventé, à jeun. ".encode() * 7
    return order(1, 1) + more + b"\r"


def _report(document: int) -> bytes:
    head = order(1, 2).replace(b"ORM^O01^ORM_O01", b"ORU^R01^ORU_R01")
    coded = b64encode(bytes(range(256)) * (document * 3 // 4 // 256 + 1))[:document]
    return head + b"OBX|1|ED|PDF^Compte rendu^BENCH||^application^pdf^Base64^" + coded + b"||||||F\r"


def run(*, json: bool, rounds: int = 15, document: int = 5_000_000) -> int:
    """Measure and print; 1 when the codecs do not agree on what they made of a message."""
    console = Console(stderr=json)
    report = measure(rounds, document)
    if json:
        print(json_.dumps(report, indent=2))
    else:
        print_codec(console, report)
    return 1 if report["problems"] else 0


def measure(rounds: int, document: int) -> dict[str, Any]:
    """Figures of each message and codec: CPU in microseconds, best and median round, and its ratio to Radbridge's."""
    plan = Plan(load(shipped("config") / "bridge.yaml"))
    codecs = {"radbridge": _ours(plan), "hl7": _hl7(plan), "hl7apy": _hl7apy(plan)}
    found, problems = [], []
    for sample in samples(document):
        figures = [_figures(name, work, sample.data, rounds) for name, work in codecs.items()]
        ours = figures[0]
        for one in figures:
            one["ratio"] = round(one["best_us"] / ours["best_us"], 1) if one["installed"] else None
        problems += disagreements(sample, codecs)
        facts = {"message": sample.name, "bytes": len(sample.data), "aim_us": sample.aim_us}
        found.append({**facts, "met": ours["best_us"] <= sample.aim_us, "codecs": figures})
    machine = {"system": platform.platform(), "python": platform.python_version()}
    return {"subject": "codec", "machine": machine, "messages": found, "problems": problems}


def _figures(name: str, work: Work | None, data: bytes, rounds: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"codec": name, "installed": work is not None}
    if work is None:
        return {**facts, "version": "", "best_us": None, "median_us": None}
    return {**facts, "version": version(name), **microseconds(lambda: work(data), rounds)}


def disagreements(sample: Sample, codecs: dict[str, Work | None]) -> list[str]:
    """Where a codec leads a message elsewhere, or made other fields of it, than Radbridge."""
    made = {name: work(sample.data) for name, work in codecs.items() if work}
    targets, ours = made.pop("radbridge")
    fields = [parse(ours).get(path) for path in EDITS]
    found = (
        [] if targets and fields == list(EDITS.values()) else [f"{sample.name}: radbridge edited or routed it wrong"]
    )
    for name, (theirs, edited) in made.items():
        if theirs != targets or [parse(edited).get(path) for path in EDITS] != fields:
            found.append(f"{sample.name}: {name} edited or routed it otherwise")
    return found


def _ours(plan: Plan) -> Work:
    def work(data: bytes) -> tuple[Targets, bytes]:
        message = parse(data)
        assert message.header.control_id
        targets = plan.targets("ris-in", message)
        editor = message.edit()
        for path, value in EDITS.items():
            editor.set(path, value)
        return targets, editor.encode()

    return work


def _routes(plan: Plan) -> dict[str, Targets]:
    """The same routes for the others, as one look into a table by type."""
    messages = [parse(sample.data) for sample in samples(4)]
    return {message.header.type: plan.targets("ris-in", message) for message in messages}


def _hl7(plan: Plan) -> Work | None:
    try:
        import hl7
    except ImportError:
        return None
    routes = _routes(plan)

    def work(data: bytes) -> tuple[Targets, bytes]:
        message = hl7.parse(data.decode())
        kind = f"{message['MSH.F9.R1.C1']}^{message['MSH.F9.R1.C2']}"
        for place in ("MSH.F10", "MSH.F3", "MSH.F4", "PID.F3.R1.C1", "ORC.F2.R1.C1", "ORC.F3.R1.C1", "OBR.F18"):
            assert message[place]
        for path, value in EDITS.items():
            message[path.replace("-", ".F")] = value
        return routes[kind], str(message).encode()

    return work


def _hl7apy(plan: Plan) -> Work | None:
    try:
        from hl7apy.parser import parse_message
    except ImportError:
        return None
    routes = _routes(plan)

    def work(data: bytes) -> tuple[Targets, bytes]:
        message = parse_message(data.decode(), find_groups=False)
        msh, orc, obr = message.msh, message.orc, message.obr
        kind = f"{msh.msh_9.msh_9_1.value}^{msh.msh_9.msh_9_2.value}"
        for value in (
            msh.msh_10,
            msh.msh_3,
            msh.msh_4,
            message.pid.pid_3.pid_3_1,
            orc.orc_2.orc_2_1,
            orc.orc_3.orc_3_1,
        ):
            assert value.value
        assert obr.obr_18.value
        msh.msh_5, msh.msh_6, obr.obr_21 = EDITS.values()
        return routes[kind], message.to_er7().encode()

    return work


def print_codec(console: Console, report: dict[str, Any]) -> None:
    """The figures as a table for people."""
    versions = [f"{one['codec']} {one['version'] or '-'}" for one in report["messages"][0]["codecs"]]
    machine = report["machine"]
    console.print(", ".join([machine["system"], f"Python {machine['python']}", *versions]))
    table = Table(title="CPU of parse, header, route, 3 edits and encode")
    for name in ("message", "codec"):
        table.add_column(name, no_wrap=True)
    for name in ("best us", "median us", "ratio", "aim us"):
        table.add_column(name, justify="right", no_wrap=True)
    for message in report["messages"]:
        name = f"{message['message']}, {message['bytes'] / 1000:,.0f} kB"
        for one in message["codecs"]:
            mine = one["codec"] == "radbridge"
            if not one["installed"]:
                table.add_row(name, one["codec"], "not installed", "", "", "")
                continue
            aim = f"{message['aim_us']:,.0f}: {'met' if message['met'] else 'missed'}" if mine else ""
            times = f"{one['best_us']:,.0f}", f"{one['median_us']:,.0f}", f"{one['ratio']:,.1f}"
            table.add_row(name, one["codec"], *times, aim)
    console.print(table)
    for problem in report["problems"]:
        console.print(f"[red]{problem}[/red]")
    if not report["problems"]:
        console.print("[green]all of them edited and routed alike[/green]")
