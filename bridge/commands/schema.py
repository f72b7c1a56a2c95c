"""``schema``: what editors need to complete and underline the YAML files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Json, examples
from bridge.errors import BridgeError, NotFound
from bridge.yamlfile import suggest

app = typer.Typer()


@app.command("schema", epilog=examples("radbridge schema --out .schemas", "radbridge schema mapping"))
def schema_(
    kind: Annotated[
        str, typer.Argument(metavar="[KIND]", help="site, adapter, mapping, profile or cases; without it all.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files into this folder instead of showing one.")
    ] = None,
    machine: Json = False,
) -> None:
    """JSON Schemas of the YAML files, for editors.

    They know the installed channel types, settings, functions and words. Say at the top of a file which one is its own:
    # yaml-language-server: $schema=../.schemas/mapping.schema.json
    """
    from bridge.schemas import KINDS, file_name, schema

    if kind and kind not in KINDS:
        raise NotFound(f"there is no kind of file `{kind}`", at="KIND", fix=suggest(kind, KINDS))
    if out is None:
        if not kind:
            raise BridgeError(
                "all schemas are several files", at="--out", fix="name a kind, or a folder", kind="settings"
            )
        output.emit(schema(kind))
        return
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in [kind] if kind else KINDS:
            path = out / file_name(name)
            path.write_text(json.dumps(schema(name), indent=1) + "\n", encoding="utf-8")
            written.append({"kind": name, "file": str(path), "of": KINDS[name][0]})
    except OSError as error:
        raise BridgeError(f"cannot be written: {error.strerror}", at=str(out), kind="settings") from None
    if machine:
        output.emit({"schemas": written})
    else:
        output.table(("schema", "of the files"), [(one["file"], one["of"]) for one in written])
