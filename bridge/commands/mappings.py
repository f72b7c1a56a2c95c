"""``map`` and ``test``: mappings tried on messages, before they are trusted with a patient's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, site_file
from bridge.commands.sending import as_segments
from bridge.errors import BridgeError, NotFound, SettingsError

if TYPE_CHECKING:
    from bridge.mapping.compile import CompiledMapping
    from bridge.settings import Loaded

app = typer.Typer()


@app.command(
    "test", epilog=examples("radbridge test", "radbridge test order-to-worklist --config /etc/radbridge/bridge.yaml")
)
def test_(
    mapping: Annotated[str, typer.Argument(metavar="MAPPING", help="Only the cases of this mapping.")] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Run the cases beside the mappings.

    Each tells what a mapping makes of a sample message. Exit code 1 if one does not hold.
    """
    from bridge.mapping.cases import run_cases
    from bridge.settings import load

    loaded = load(site_file(config))
    results = run_cases(_with_cases_of(loaded.mapping_files, mapping), _samples(loaded.config.mappings))
    failed = [result for result in results if not result.ok]
    if machine:
        facts = [
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
        output.emit({"ok": not failed, "cases": facts})
    else:
        for result in failed:
            output.say(f"mappings/{result.file}:{result.line}: {result.mapping}: {result.name}", style="red")
            for difference in result.differences:
                output.say(output.printable(f"    {difference}"))
        output.say(f"{len(results) - len(failed)} of {len(results)} cases hold.")
    if failed:
        raise typer.Exit(1)


def _with_cases_of(files: Mapping[str, str], mapping: str) -> dict[str, str]:
    """All files, but of the cases only those of ``mapping``. Raises NotFound if it has none."""
    from bridge.mapping.compile import CASES
    from bridge.yamlfile import suggest

    cases = {name.removesuffix(CASES): name for name in files if name.endswith(CASES)}
    if mapping and mapping not in cases:
        raise NotFound(f"no cases of a mapping {mapping}", fix=suggest(mapping, cases))
    others = {name for mine, name in cases.items() if mapping not in ("", mine)}
    return {name: text for name, text in files.items() if name not in others}


def _samples(folder: Path) -> dict[str, bytes]:
    """Every message in the mappings folder by its name there."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".yaml", ".csv"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@app.command(
    "map",
    epilog=examples(
        "radbridge map order.hl7 --mapping order-to-worklist",
        "radbridge map report.hl7 --mapping report-to-fhir --json",
    ),
)
def map_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An HL7 message; - is standard input.")],
    mapping: Annotated[str, typer.Option("--mapping", metavar="NAME", help="A mapping of the mappings folder.")],
    config: Config = None,
    machine: Json = False,
) -> None:
    """Translate one message, to look at.

    Nothing is stored or sent. Exit code 3 if the message cannot be mapped: the place and the fix are told.
    """
    from bridge.codecs.hl7v2 import parse
    from bridge.settings import load

    loaded = load(site_file(config))
    chosen = _mapping(loaded, mapping)
    data, notes = as_segments(_bytes_of(file))
    message = parse(data)
    rendered = chosen.render(message, {"site": loaded.config.site.model_dump(mode="json")})
    notes += [*message.warnings, *rendered.notes]
    result = rendered.data if rendered.format == "hl7v2" else json.loads(rendered.data)
    if machine:
        shown = output.content(result, message.charset) if isinstance(result, bytes) else result
        facts = {"mapping": chosen.name, "format": rendered.format, "control_id": rendered.control_id}
        output.emit({**facts, "notes": notes, "result": shown})
        return
    for remark in notes:
        output.note(remark)
    if isinstance(result, bytes):
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


def _mapping(loaded: Loaded, name: str) -> CompiledMapping:
    """The mapping, whatever is wrong with the others. Raises SettingsError with its findings, or NotFound."""
    from bridge.mapping import compile_all
    from bridge.yamlfile import suggest

    compiled = compile_all(loaded.mapping_files)
    if name in compiled.mappings:
        return compiled.mappings[name]
    errors = [replace(one, file=f"mappings/{one.file}") for one in compiled.findings if one.severity == "error"]
    mine = [one for one in errors if one.file == f"mappings/{name}.yaml"]
    if mine or (errors and f"{name}.yaml" in loaded.mapping_files):
        raise SettingsError(mine or errors)
    raise NotFound(f"no mapping {name}", at="--mapping", fix=suggest(name, compiled.mappings))
