"""``bench`` and ``demo``: the engine measured, and the engine shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.desk import Json, examples, needs

app = typer.Typer()


@app.command(
    epilog=examples(
        "radbridge bench",
        "radbridge bench --connections 1,32 --messages 2000,12000 --json",
        "radbridge bench codec",
        "radbridge bench fhir --resources 1000000",
    )
)
def bench(
    subject: Annotated[
        str, typer.Argument(metavar="[SUBJECT]", help="flow, codec, mapping, worklist or fhir.")
    ] = "flow",
    connections: Annotated[
        str, typer.Option(metavar="LIST", help="How many senders at once, one run each.")
    ] = "1,8,32",
    messages: Annotated[
        str, typer.Option(metavar="LIST", help="How many messages each run sends; flow: 2000,6000,12000.")
    ] = "",
    resources: Annotated[int, typer.Option(min=100, help="fhir: how many are read from.")] = 20_000,
    repeats: Annotated[int, typer.Option(min=2, help="fhir: how often each kind of read is asked.")] = 200,
    database: Annotated[
        str, typer.Option(metavar="URL", help="fhir: an empty PostgreSQL database for them, instead of SQLite.")
    ] = "",
    machine: Json = False,
) -> None:
    """Measure this machine.

        flow: a whole engine with its own data, HL7 in and out over MLLP, beside what the machine can do at best. Exit
    code 1 if anything was lost or came out of sequence.

        codec: the CPU time of reading, routing and editing one message, beside other HL7 libraries. Exit code 1 if they
    do not agree on the result.

        mapping: the CPU time of mappings that ship, and of the same translation by JSONata and Jinja2 where they are
    installed. Exit code 1 if they do not agree on the result.

        worklist: whole queries of a scanner (DCMTK findscu), beside DCMTK's own worklist server on the same items. Exit
    code 1 if an answer is not complete.

        fhir: the FHIR facade: transactions in and out, orders by HL7, reads and searches, beside FastAPI that returns
    the same bytes. Exit code 1 if anything was refused, lost or not found.

        No figure makes it fail.
    """
    from bridge.bench import MESSAGES, run_bench

    levels = _numbers("--connections", connections)
    counts = _numbers("--messages", messages) if messages else list(MESSAGES.get(subject, MESSAGES["flow"]))
    needs(len(levels) == len(counts), "--connections and --messages differ in length", "as many numbers in both")
    code = run_bench(
        json=machine,
        subject=subject,
        connections=levels,
        messages=counts,
        resources=resources,
        repeats=repeats,
        database=database,
    )
    raise typer.Exit(code)


def _numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    needs(all(part.isdecimal() and int(part) for part in parts), f"{option} {text} is no list", "write it as 1,8,32")
    return [int(part) for part in parts]


@app.command(epilog=examples("radbridge demo", "radbridge demo --fast --seed 7 --json"))
def demo(
    fast: Annotated[bool, typer.Option("--fast", help="In a quarter of a minute instead of a whole one.")] = False,
    seed: Annotated[int, typer.Option(help="Which day: the same number plays the same one.")] = 1,
    exams: Annotated[int, typer.Option(min=13, max=200, help="How many exams the day has.")] = 24,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder in which the engine's data stay.")
    ] = None,
    machine: Json = False,
) -> None:
    """Show a day of a radiology group.

    Simulated RIS, modalities, PACS and HIS around a real engine with its own data, an outage of the PACS included. It
    tells each exam's story and checks its own end; exit code 1 if anything is off.
    """
    from bridge.demo import run_demo

    raise typer.Exit(run_demo(json=machine, fast=fast, seed=seed, exams=exams, keep=keep))
