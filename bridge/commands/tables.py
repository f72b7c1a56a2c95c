"""``table``: the code tables of a site looked at, exchanged as CSV and ConceptMap, and what they lack."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, desk, examples, needs, site_file
from bridge.commands.journal import millis_since
from bridge.commands.revisions import Why, Yes, ask_somebody, coloured, deploy
from bridge.errors import BridgeError, NotFound, SettingsError

if TYPE_CHECKING:
    from bridge.mapping.tables import Table, Tables
    from bridge.settings import Loaded
    from bridge.store.unmapped import UnmappedCode

group = typer.Typer(
    help="Look at code tables, change and exchange them, see what they lack.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("radbridge table unmapped --since 30d", "radbridge table set modality MRT modality=MR"),
)
app = typer.Typer()
app.add_typer(group, name="table")
Name = Annotated[str, typer.Argument(metavar="TABLE", help="A table, by its name without folder and ending.")]
Form = Literal["csv", "conceptmap"]
LetRun = Annotated[bool, typer.Option("--deploy", help="Then let the files on disk run, as `radbridge deploy` does.")]


def _read(config: Path | None) -> tuple[Loaded, Tables, dict[str, int]]:
    """The site, its tables, and how many key columns the mappings use of each. Raises SettingsError for bad tables."""
    from bridge.mapping import compile_all
    from bridge.mapping.watch import Watch
    from bridge.settings import load

    loaded, watch = load(site_file(config)), Watch()
    compiled = compile_all(loaded.mapping_files, watch)
    return loaded, compiled.tables, watch.keys


def _table(name: str, tables: Tables) -> Table:
    from bridge.yamlfile import suggest

    if name not in tables:
        raise NotFound(f"no table {name}", fix=suggest(name, tables) or "`radbridge table list` names them")
    return tables[name]


@group.command("list", epilog=examples("radbridge table list", "radbridge table list --json"))
def list_(config: Config = None, machine: Json = False) -> None:
    """List the tables of the mappings.

    With version, key columns, values, rows, and what happens to a code without a row.
    """
    _, tables, keys = _read(config)
    facts = [_facts(table, keys.get(table.name, 0)) for _, table in sorted(tables.items())]
    if machine:
        output.emit(facts)
        return
    columns = ("table", "version", "keys", "values", "rows", "unknown", "file")
    output.table(
        columns,
        (
            (one["table"], one["version"], ",".join(one["keys"]), ",".join(one["values"]), one["rows"], one["unknown"],
             one["file"])
            for one in facts
        ),
    )  # fmt: skip


def _facts(table: Table, used: int) -> dict[str, Any]:
    """``used``: how many of its columns mappings take as keys; 0 if none uses it."""
    keys = used or 1
    return {
        "table": table.name,
        "file": f"mappings/{table.file}",
        "version": table.version,
        "keys": list(table.columns[:keys]),
        "values": list(table.columns[keys:]),
        "rows": len(table.rows),
        "unknown": table.unknown,
        "used": bool(used),
    }


@group.command(epilog=examples("radbridge table show modality", "radbridge table show modality --json"))
def show(name: Name, config: Config = None, machine: Json = False) -> None:
    """Show a table's rows, each with its line in the file."""
    _, tables, keys = _read(config)
    table = _table(name, tables)
    facts = _facts(table, keys.get(name, 0))
    if machine:
        rows = [{"line": line, **dict(zip(table.columns, cells, strict=True))} for line, cells in table.rows]
        output.emit({**facts, "source": table.source, "target": table.target, "content": rows})
        return
    version = f", version {table.version}" if table.version else ""
    output.say(f"mappings/{table.file}{version}", style="bold")
    if table.description:
        output.say(output.printable(table.description), style="dim")
    output.table(("line", *table.columns), ((line, *cells) for line, cells in table.rows))


@group.command(
    epilog=examples(
        "radbridge table export modality > modality.json",
        "radbridge table export gender --as csv",
        "radbridge table export stations --keys 4 --json",
    )
)
def export(
    name: Name,
    form: Annotated[Form, typer.Option("--as", help="What to write.")] = "conceptmap",
    keys: Annotated[int, typer.Option(min=0, help="How many columns are keys; 0: as many as the mappings use.")] = 0,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Write a table as ConceptMap (FHIR R4) or CSV.

    It goes to standard output, without the remarks between the rows of a CSV file. --json is for --as conceptmap.
    """
    from bridge.mapping.conceptmap import to_concept_map
    from bridge.mapping.tables import to_csv

    _, tables, used = _read(config)
    table = _table(name, tables)
    count = keys or used.get(name, 1)
    needs(count < len(table.columns), f"table {name} has {len(table.columns)} columns", "leave one for the value")
    needs(form == "conceptmap" or not machine, "CSV is no JSON", "leave --json or --as out")
    typer.echo(to_csv(table) if form == "csv" else to_concept_map(table, count), nl=False)


@group.command(
    "import",
    epilog=examples(
        "radbridge table import sex.json --name sex",
        "radbridge table import sex.csv --from v2-to-fhir --name sex-to-gender --json",
    ),
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A ConceptMap (R4), or a CSV file.")],
    kind: Annotated[
        Literal["conceptmap", "csv", "v2-to-fhir", "auto"],
        typer.Option("--from", help="What it is; v2-to-fhir: a code table of HL7's guide."),
    ] = "auto",
    name: Annotated[str, typer.Option("--name", metavar="TABLE", help="What to call it; without, as the file.")] = "",
    form: Annotated[Form, typer.Option("--as", help="How it is kept.")] = "csv",
    force: Annotated[bool, typer.Option("--force", help="Also in place of a table that is there.")] = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Take a table into mappings/tables, as CSV or as it comes.

    What of it a table cannot hold is told, not dropped in silence. Exit code 2 if it cannot be read.
    """
    from bridge.mapping.conceptmap import SUFFIX, to_concept_map
    from bridge.mapping.tables import to_csv

    loaded, tables, used = _read(config)
    called = name or file.name.split(".")[0]
    needs(called.replace("-", "").replace("_", "").isalnum(), f"`{called}` cannot be a name", "letters, digits and -")
    text = _text(file)
    table, remarks = _imported(text, kind, called)
    there = tables.get(called)
    needs(force or there is None, f"there is a table {called}", "give another --name, or --force")
    written = text
    if form == "csv":
        written = to_csv(table)
    elif not _is_json(text):
        written = to_concept_map(table, used.get(called, 1))
    folder = loaded.config.mappings
    home = (folder / there.file).parent if there else folder / "tables"
    path = home / f"{called}{'.csv' if form == 'csv' else SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written, encoding="utf-8")
    if there is not None and folder / there.file != path:
        (folder / there.file).unlink()
    if machine:
        output.emit({**_facts(table, 0), "file": str(path), "left_out": remarks})
        return
    for remark in remarks:
        output.note(output.printable(remark))
    output.say(f"{path}: {len(table.rows)} rows.")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BridgeError(
            f"{file} cannot be read: {error}", fix="name a CSV or JSON file in UTF-8", kind="settings"
        ) from None


def _is_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _imported(text: str, kind: str, name: str) -> tuple[Table, list[str]]:
    """The table, and what is not in it. Raises SettingsError or CodecError if it cannot be read."""
    from bridge.errors import Finding
    from bridge.mapping.conceptmap import SUFFIX, read_concept_map
    from bridge.mapping.tables import read_table
    from bridge.mapping.v2tofhir import is_v2_to_fhir, read_v2_to_fhir

    if kind == "auto":
        kind = "conceptmap" if _is_json(text) else "v2-to-fhir" if is_v2_to_fhir(text) else "csv"
    if kind == "v2-to-fhir":
        found = read_v2_to_fhir(text, name)
        return found.table, found.left_out
    findings: list[Finding] = []
    if kind == "conceptmap":
        table = read_concept_map(text, f"tables/{name}{SUFFIX}", findings)
    else:
        table = read_table(text, f"tables/{name}.csv", findings)
    errors = [finding for finding in findings if finding.severity == "error"]
    if table is None or errors:
        raise SettingsError(errors)
    return table, [str(finding) for finding in findings]


@group.command(
    "set",
    epilog=examples(
        "radbridge table set modality MRT modality=MR",
        "radbridge table set stations demo-hospital CT '*' '*' ae_titles=CT2 --deploy --why 'CT1 is gone'",
    ),
)
def set_(
    name: Name,
    words: Annotated[
        list[str], typer.Argument(metavar="KEY... COLUMN=VALUE...", help="A key for each key column, then values.")
    ],
    let_run: LetRun = False,
    why: Why = "",
    yes: Yes = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Set values in the row of a key, or add the row.

    In the table's CSV file, of which nothing else changes; and not at all if a file would have errors with it, or a
    case would not hold. --json: what changed, or with --deploy what that says.
    """
    from bridge.mapping.rows import with_row

    def change(text: str, table: Table, keys: int) -> str:
        values = dict(word.partition("=")[::2] for word in words[keys:])
        return with_row(text, table, words[:keys], values)

    _change(name, words, change, config, machine, (why, yes) if let_run else None)


@group.command(
    epilog=examples("radbridge table remove modality MRT", "radbridge table remove sex X --deploy --yes --json")
)
def remove(
    name: Name,
    words: Annotated[list[str], typer.Argument(metavar="KEY...", help="A key for each key column.")],
    let_run: LetRun = False,
    why: Why = "",
    yes: Yes = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Take the row of a key out.

    Not if a file would have errors without it, or a case would not hold.
    """
    from bridge.mapping.rows import without_row

    def change(text: str, table: Table, keys: int) -> str:
        needs(len(words) == keys, f"{len(words)} keys instead of {keys}", "give the keys alone")
        return without_row(text, table, words)

    _change(name, words, change, config, machine, (why, yes) if let_run else None)


def _change(
    name: str,
    words: list[str],
    change: Callable[[str, Table, int], str],
    config: Path | None,
    machine: bool,
    run: tuple[str, bool] | None,
) -> None:
    """Write what ``change`` makes of a table's file, if all files would hold; ``run``: reason, and not to ask."""
    from bridge.engine.deployments import check, unified
    from bridge.settings import from_files

    if run:
        ask_somebody(run[1], machine)
    loaded, tables, used = _read(config)
    table = _table(name, tables)
    keys, file = used.get(name, 1), f"mappings/{table.file}"
    needs(table.file.endswith(".csv"), f"{file} is a ConceptMap", "edit the file, or export and import it as CSV")
    needs(len(words) >= keys, f"{name} has the keys {', '.join(table.columns[:keys])}", "write one for each, in this "
          "sequence; '*' is any, '' is none")  # fmt: skip
    path = loaded.config.mappings / table.file
    before = path.read_bytes().decode()
    after = change(before, table, keys)
    faults = check(from_files({**loaded.files, file: after.removeprefix("\ufeff")}, loaded.folder))
    if faults:
        raise SettingsError(faults)
    path.write_bytes(after.encode())
    difference = unified({file: before}, {file: after})
    if not machine:
        coloured(difference.splitlines() or [f"{file} says so already."])
    elif run is None:
        output.emit({"file": file, "changed": before != after, "diff": difference})
    if run:
        deploy(why=run[0], yes=run[1], config=config, machine=machine)


@group.command(
    epilog=examples("radbridge table unmapped", "radbridge table unmapped --since 30d --table modality --json")
)
def unmapped(
    since: Annotated[str, typer.Option(help="Not older than: 2h, 7d or 2024-01-31; whole days (UTC).")] = "7d",
    table: Annotated[str, typer.Option(metavar="TABLE", help="Only of this table.")] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """List the codes that no table has.

    How often each came, what was done with it, and the command that adds a row. Codes of the patient's own segments,
    and what is too long for a code, are counted without being kept.
    """
    from bridge.mapping import compile_all
    from bridge.store.unmapped import unmapped_codes

    with desk(config) as here:
        start = millis_since(since, here.zone)
        found: list[UnmappedCode] = here.store.read(lambda connection: unmapped_codes(connection, start, table))
        tables = compile_all(here.loaded.mapping_files).tables
        mend = [_mend(one, tables) for one in found]
        if machine:
            output.emit([{**asdict(one), "mend": command} for one, command in zip(found, mend, strict=True)])
            return
        if not found:
            output.say(f"Every code had a row since {output.at(start, here.zone)}.")
            return
        output.table(
            ("table", "column", "code", "messages", "what was done", "last", "example"),
            (
                (one.table, one.columns, one.code or "(not kept)", one.messages, one.outcome,
                 output.since(one.last, here.zone), one.example)
                for one in found
            ),
        )  # fmt: skip
        output.say()
        for command in filter(None, mend):
            output.say(output.printable(command), style="dim")


def _mend(one: UnmappedCode, tables: Tables) -> str:
    """The command that gives a code its row, but for the value; empty where the code is not kept, or it takes more."""
    table, keys = tables.get(one.table), one.code.split("|")
    if table is None or not table.file.endswith(".csv") or not one.code or len(keys) != one.columns.count(",") + 1:
        return ""
    values = [f"{column}=..." for column in table.columns[len(keys) :]]
    return shlex.join(["radbridge", "table", "set", table.name, *keys, *values])
