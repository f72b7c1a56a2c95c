"""``new site`` and ``new system``: starting points that are checked and tested, and then a person's to change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, needs, site_file
from bridge.errors import BridgeError, CodecError, SettingsError

if TYPE_CHECKING:
    from bridge.mapping.cases import CaseResult
    from bridge.scaffold.system import Additions, NewSystem
    from bridge.settings import Loaded

new = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Begin a site, or connect a system to it.")
app = typer.Typer()
app.add_typer(new, name="new")


@new.command("site", epilog=examples("radbridge new site hospital --timezone Europe/Paris"))
def site(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.")],
    name: Annotated[str, typer.Option(help="Short name of the hospital or practice; without it, the folder's.")] = "",
    timezone: Annotated[str, typer.Option(help="Zone of its clocks, from the IANA list.")] = "Europe/Paris",
    machine: Json = False,
) -> None:
    """Begin a site in a new folder.

    Its site file has a worklist and nothing else; the shipped mappings, tables and adapters are beside it.
    """
    from bridge.lint import findings_of
    from bridge.scaffold.site import site_text
    from bridge.settings import load

    needs(not folder.exists(), f"{folder} is there already", "name a new folder")
    path = folder / "config" / "bridge.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(site_text(name or folder.name, timezone), encoding="utf-8")
    for kind in ("mappings", "adapters"):
        shutil.copytree(_shipped() / kind, folder / kind, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    errors = [finding for finding in findings_of(load(path)) if finding.severity == "error"]
    if errors:
        shutil.rmtree(folder)
        raise SettingsError(errors)
    if machine:
        output.emit({"site": str(path)})
        return
    output.say(f"Wrote {path}. Next: cd {folder}, and connect a system:\n\n    radbridge new system NAME --adapter ris")


def _shipped() -> Path:
    """The folder of the mappings and adapters that came with the package, or with its source."""
    package = Path(__file__).parents[1] / "share"
    return package if package.is_dir() else package.parents[1]


@new.command(
    "system",
    epilog=examples(
        "radbridge new system ris2",
        "radbridge new system ris2 --adapter ris --sends orders,reports --to worklist,pacs --sample samples/*.hl7",
        "radbridge new system portal --adapter portal --type fhir-out --address http://portal/fhir --wants reports "
        "--from ris",
    ),
)
def system(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the site calls it, such as ris or ct1.")],
    more_samples: Annotated[
        list[Path] | None, typer.Argument(metavar="[SAMPLE...]", help="Sample messages, as --sample.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="The profile of its kind: a file of adapters/.")] = None,
    direction: Annotated[str | None, typer.Option(help="in: it sends to us; out: we send to it.")] = None,
    type_: Annotated[str, typer.Option("--type", help="Channel type; without it mllp-in or mllp-out.")] = "",
    address: Annotated[
        str | None, typer.Option(help="Where we listen, or where it does: host:port, a URL or a folder.")
    ] = None,
    sends: Annotated[str | None, typer.Option(metavar="LIST", help="What it sends: orders, reports...")] = None,
    wants: Annotated[str | None, typer.Option(metavar="LIST", help="What it wants: orders, reports...")] = None,
    to: Annotated[str | None, typer.Option(metavar="LIST", help="Who gets what it sends: channels, systems.")] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="LIST", help="Who sends what it wants.")] = None,
    sample: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="Messages of its, each in a file.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: take what suits its adapter.")] = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Connect a system: channel, routes, mappings, cases.

    Asks for what the options do not say. Writes it into the site file, which otherwise stays as it is, and beside it
    mappings of its own that extend the shipped ones, with a case for each sample message. Then checks and tests.
    """
    from bridge.commands.questions import Given, answer
    from bridge.scaffold.system import plan
    from bridge.settings import load

    path = site_file(config)
    here = config is not None or path == Path("config/bridge.yaml")
    needs(here and path.exists(), "there is no site here", "begin one with `radbridge new site`, or use --config")
    loaded = load(path)
    given = Given(adapter, direction, type_, address, sends or wants, to or from_)
    samples = _read([*(sample or []), *(more_samples or [])])
    wanted = answer(name, given, samples, loaded, quiet=yes or machine)
    made = plan(wanted, loaded)
    after = _checked(made, loaded, path)
    _write(made, loaded, path)
    _report(wanted, made, path, after, machine)


def _read(files: list[Path]) -> dict[str, bytes]:
    """The messages by file name. Raises BridgeError for a file that holds none, or has the name of another."""
    from bridge.codecs.hl7v2 import parse

    found: dict[str, bytes] = {}
    for file in files:
        needs(file.name not in found, f"two samples are called {file.name}", "give each a name of its own")
        try:
            found[file.name] = file.read_bytes()
            parse(found[file.name])
        except OSError as error:
            what, fix = f"cannot be read: {error.strerror}", "name a file with one HL7 message"
            raise BridgeError(what, at=str(file), fix=fix, kind="settings") from None
        except CodecError as error:
            raise CodecError(error.what, at=f"{file}, {error.at}", fix="name a file with one HL7 message") from None
    return found


def _checked(made: Additions, loaded: Loaded, path: Path) -> Loaded:
    """The site as it will be. Raises SettingsError, before anything is written, if it would have more errors."""
    from bridge.lint import findings_of
    from bridge.settings import from_files

    after = from_files({**loaded.files, **made.files}, path.parent)
    errors = [finding for finding in findings_of(after) if finding.severity == "error"]
    if errors:
        known = findings_of(loaded)
        errors = [finding for finding in errors if finding not in known]
    if errors:
        raise SettingsError(errors)
    return after


def _write(made: Additions, loaded: Loaded, path: Path) -> None:
    contents = {**{name: text.encode() for name, text in made.files.items()}, **made.samples}
    for name, data in contents.items():
        if not name.startswith("mappings/"):
            path.write_bytes(_as_before(path.read_bytes(), data))
            continue
        target = loaded.config.mappings / name.removeprefix("mappings/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _as_before(former: bytes, data: bytes) -> bytes:
    """``data`` with the line ends and the byte order mark that the file had."""
    mark = b"\xef\xbb\xbf" if former.startswith(b"\xef\xbb\xbf") else b""
    return mark + (data.replace(b"\n", b"\r\n") if b"\r\n" in former else data)


def _cases(made: Additions, after: Loaded) -> list[CaseResult]:
    """How the new cases went: the message's own words against what the mappings make of them."""
    from bridge.mapping.cases import run_cases

    files = {
        name: text
        for name, text in after.mapping_files.items()
        if not name.endswith(".cases.yaml") or f"mappings/{name}" in made.files
    }
    return run_cases(files, {name.removeprefix("mappings/"): data for name, data in made.samples.items()})


def _report(wanted: NewSystem, made: Additions, path: Path, after: Loaded, machine: bool) -> None:
    from bridge.lint import findings_of

    results = _cases(made, after)
    warnings = [finding for finding in findings_of(after) if finding.file in made.files]
    red = [result for result in results if not result.ok]
    if machine:
        facts = [{"name": one.name, "ok": one.ok, "differences": list(one.differences)} for one in results]
        files = sorted([*made.files, *made.samples])
        findings = output.findings_as_dicts(warnings)
        output.emit({"wrote": files, "remarks": made.remarks, "findings": findings, "cases": facts})
        return
    for name in sorted([*made.files, *made.samples]):
        output.say(f"wrote {path if name.startswith('config/') else name}")
    for remark in [*made.remarks, *map(str, warnings)]:
        output.say(remark, style="yellow")
    for result in red:
        output.say(f"mappings/{result.file}:{result.line}: {result.name}", style="red")
        for difference in result.differences:
            output.say(output.printable(f"    {difference}"))
    output.say(f"No errors; {len(results) - len(red)} of {len(results)} cases hold.")
    output.say(_next(wanted, made, red))


def _next(wanted: NewSystem, made: Additions, red: list[CaseResult]) -> str:
    mapping = next((name for name in sorted(made.files) if name.startswith("mappings/")), "")
    own = mapping.removeprefix("mappings/").removesuffix(".yaml").removesuffix(".cases")
    lines = ["\nNext:"]
    if made.samples and own:
        lines.append(f"  radbridge map {min(made.samples)} --mapping {own}    see what becomes of a message")
    if red:
        lines.append(f"  mend what the cases tell, in mappings/{wanted.name}/ or mappings/tables/; then radbridge test")
    lines.append("  radbridge run, or radbridge deploy where it runs already")
    if made.samples:
        lines.append("The samples are kept in mappings/: let no real patient stand in them.")
    return "\n".join(lines)
