"""``docs``: reference pages that are made of what is installed and configured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, site_file
from bridge.errors import BridgeError

app = typer.Typer()


@app.command("docs", epilog=examples("radbridge docs fhir", "radbridge docs fhir --out docs/fhir-elements.md"))
def docs_(
    page: Annotated[Literal["fhir"], typer.Argument(metavar="PAGE", help="fhir: every element's source, every table.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of showing it.")] = None,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Write a reference page of the site's mappings.

    It is Markdown, and says of every FHIR mapping where each element comes from, by which function and code table.
    """
    from bridge.mapping.reference import fhir_reference
    from bridge.settings import load

    text = fhir_reference(load(site_file(config)).mapping_files)
    if out is not None:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BridgeError(f"cannot be written: {error.strerror}", at=str(out), kind="settings") from None
    if machine:
        output.emit({"page": page, "file": str(out) if out else "", "text": "" if out else text})
    else:
        typer.echo(f"written: {out}" if out else text)
