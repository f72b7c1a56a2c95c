"""``map`` and ``test``: mappings tried on messages, before they are trusted with a patient's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, site_file
from bridge.commands.sending import as_segments
from bridge.commands.tracing import show_trace, trace_facts
from bridge.errors import BridgeError, NotFound, SettingsError

if TYPE_CHECKING:
    from bridge.mapping.cases import CaseResult
    from bridge.mapping.compile import CompiledMapping
    from bridge.mapping.coverage import Coverage
    from bridge.mapping.watch import Watch
    from bridge.settings import Loaded

app = typer.Typer()


@app.command(
    "test",
    epilog=examples(
        "radbridge test",
        "radbridge test order-to-worklist --coverage",
        "radbridge test --update --config /etc/radbridge/bridge.yaml",
    ),
)
def test_(
    mapping: Annotated[str, typer.Argument(metavar="MAPPING", help="Only the cases of this mapping.")] = "",
    coverage: Annotated[bool, typer.Option("--coverage", help="List every line that no case reaches.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Keep what is made now as the snapshots.")] = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Run the cases beside the mappings.

    Each tells what a mapping makes of a sample message. Exit code 1 if one does not hold.
    """
    from bridge.mapping.cases import run_cases
    from bridge.mapping.coverage import coverage as covered
    from bridge.mapping.watch import Watch
    from bridge.settings import load, samples

    loaded, watch = load(site_file(config)), Watch()
    files, folder = _with_cases_of(loaded.mapping_files, mapping), loaded.config.mappings
    results = run_cases(files, samples(folder), watch)
    if update:
        changed = _keep_snapshots(folder, results)
        results = run_cases(files, samples(folder), watch)
        for name in changed:
            output.note(name)
    found = covered(watch, everything=not mapping)
    failed = [result for result in results if not result.ok]
    if machine:
        output.emit({"ok": not failed, "cases": _as_facts(results), "coverage": _coverage_facts(found)})
    else:
        for result in failed:
            output.say(f"mappings/{result.file}:{result.line}: {result.mapping}: {result.name}", style="red")
            for difference in "\n".join(result.differences).splitlines():
                output.say(output.printable(f"    {difference}"), style=_DIFF.get(difference[:1]))
        for gap in found.gaps if coverage else ():
            output.say(output.printable(f"mappings/{gap}"))
        output.say(f"{len(results) - len(failed)} of {len(results)} cases hold.")
        output.say(_reached(found) + ("" if coverage or not found.gaps else "; --coverage lists the others") + ".")
    if failed:
        raise typer.Exit(1)


_DIFF = {"+": "green", "-": "red", "@": "dim"}


def _reached(found: Coverage) -> str:
    lines, rows = found.lines, found.rows
    said = f"They reach {lines.reached} of {lines.all} lines, alternatives and conditions"
    return said + (f", and {rows.reached} of {rows.all} table rows" if rows.all else "")


def _as_facts(results: list[CaseResult]) -> list[dict[str, Any]]:
    return [
        {
            "file": f"mappings/{result.file}",
            "line": result.line,
            "name": result.name,
            "mapping": result.mapping,
            "ok": result.ok,
            "differences": list(result.differences),
        }
        for result in results
    ]


def _coverage_facts(found: Coverage) -> dict[str, Any]:
    counts = {
        name: {"all": one.all, "reached": one.reached} for name, one in (("lines", found.lines), ("rows", found.rows))
    }
    gaps = [
        {"file": f"mappings/{gap.file}", "line": gap.line, "last": gap.last, "what": gap.what} for gap in found.gaps
    ]
    return {**counts, "gaps": gaps}


def _keep_snapshots(folder: Path, results: list[CaseResult]) -> list[str]:
    """Keep each snapshot as it is made now, and take out those that no case has; what was done, for people.

    Where a case could not be mapped, nothing is taken out beside it: its snapshot waits for it.
    """
    from bridge.mapping.compile import CASES
    from bridge.mapping.snapshots import FOLDER

    waiting = {one.file for one in results if not one.ok and one.snapshot is None}
    wanted = {folder / one.snapshot.name: one.snapshot.text for one in results if one.snapshot}
    done = []
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            done.append(f"written: {path}")
    for file in sorted({one.file for one in results} - waiting):
        for path in sorted((folder / (file.removesuffix(CASES) + FOLDER)).glob("*")):
            if path not in wanted:
                path.unlink()
                done.append(f"removed: {path}")
    return done


def _with_cases_of(files: Mapping[str, str], mapping: str) -> dict[str, str]:
    """All files, but of the cases only those of ``mapping``. Raises NotFound if it has none."""
    from bridge.mapping.compile import CASES
    from bridge.yamlfile import suggest

    cases = {name.removesuffix(CASES): name for name in files if name.endswith(CASES)}
    if mapping and mapping not in cases:
        raise NotFound(f"no cases of a mapping {mapping}", fix=suggest(mapping, cases))
    others = {name for mine, name in cases.items() if mapping not in ("", mine)}
    return {name: text for name, text in files.items() if name not in others}


@app.command(
    "map",
    epilog=examples(
        "radbridge map order.hl7 --mapping order-to-worklist",
        "radbridge map report.hl7 --mapping report-to-fhir --json",
        "radbridge map order.hl7 --mapping order-to-worklist --trace",
    ),
)
def map_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An HL7 message; - is standard input.")],
    mapping: Annotated[str, typer.Option("--mapping", metavar="NAME", help="A mapping of the mappings folder.")],
    trace: Annotated[bool, typer.Option("--trace", help="Show where each value comes from, line by line.")] = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Translate one message, to look at.

    Nothing is stored or sent. Exit code 3 if the message cannot be mapped: the place and the fix are told.
    """
    from bridge.codecs.formats import read_any
    from bridge.mapping.watch import Watch
    from bridge.settings import load

    loaded, watch = load(site_file(config)), Watch() if trace else None
    chosen = _mapping(loaded, mapping, watch)
    data, notes = as_segments(_bytes_of(file))
    message = read_any(data)
    try:
        rendered = chosen.render(message, {"site": loaded.config.site.model_dump(mode="json")})
    except BridgeError as error:
        if watch is not None and machine:
            output.emit({"error": error.as_dict(), "trace": trace_facts(watch.values)})
            raise typer.Exit(error.face.exit) from None
        if watch is not None:
            show_trace(watch.values)
        raise
    notes += [*message.warnings, *rendered.notes]
    result = rendered.data if rendered.format == "hl7v2" else json.loads(rendered.data)
    if machine:
        shown = output.content(result, message.charset) if isinstance(result, bytes) else result
        facts = {"mapping": chosen.name, "format": rendered.format, "control_id": rendered.control_id}
        traced = {"trace": trace_facts(watch.values)} if watch is not None else {}
        output.emit({**facts, "notes": notes, "result": shown, **traced})
        return
    for remark in notes:
        output.note(remark)
    if watch is not None:
        show_trace(watch.values)
    elif isinstance(result, bytes):
        output.say(output.content(result, message.charset))
    else:
        output.say(json.dumps(result, ensure_ascii=False, indent=2))


def _bytes_of(file: Path) -> bytes:
    import sys

    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise BridgeError(
            f"cannot be read: {error.strerror}", at=str(file), fix="name an HL7 file", kind="settings"
        ) from None


def _mapping(loaded: Loaded, name: str, watch: Watch | None) -> CompiledMapping:
    """The mapping, whatever is wrong with the others. Raises SettingsError with its findings, or NotFound."""
    from bridge.mapping import compile_all
    from bridge.yamlfile import suggest

    compiled = compile_all(loaded.mapping_files, watch)
    if name in compiled.mappings:
        return compiled.mappings[name]
    errors = [replace(one, file=f"mappings/{one.file}") for one in compiled.findings if one.severity == "error"]
    mine = [one for one in errors if one.file == f"mappings/{name}.yaml"]
    if mine or (errors and f"{name}.yaml" in loaded.mapping_files):
        raise SettingsError(mine or errors)
    raise NotFound(f"no mapping {name}", at="--mapping", fix=suggest(name, compiled.mappings))
