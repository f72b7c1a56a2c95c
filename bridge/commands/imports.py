"""``import``: what another engine exported, as files of ours."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Json, examples, needs
from bridge.errors import BridgeError

imports = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Take over what another engine exported.")
app = typer.Typer()
app.add_typer(imports, name="import")


@imports.callback()
def _group() -> None:
    """Take over what another engine exported."""


@imports.command("mirth", epilog=examples("radbridge import mirth orders.xml --out orders"))
def mirth(
    file: Annotated[Path, typer.Argument(metavar="CHANNEL.xml", help="One channel, exported as XML.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The new folder to write.")],
    machine: Json = False,
) -> None:
    """Take over a channel of Mirth Connect.

    Of Open Integration Engine too. Writes a site with its channels, routes and mappings, and report.md, which tells of
    each connector, rule and step whether it was translated, and if not, why. No code of the export is run.
    """
    from bridge.importers.mirth import import_channel
    from bridge.lint import findings_of
    from bridge.settings import load

    needs(not out.exists(), f"{out} is there already", "name a new folder")
    try:
        data = file.read_bytes()
    except OSError as error:
        what, fix = f"cannot be read: {error.strerror}", "name an exported channel"
        raise BridgeError(what, at=str(file), fix=fix, kind="settings") from None
    made = import_channel(data)
    for name, text in made.files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    findings = findings_of(load(out / "config" / "bridge.yaml"))
    if machine:
        report = [asdict(one) for one in made.report]
        output.emit({"wrote": sorted(made.files), "report": report, "findings": output.findings_as_dicts(findings)})
        return
    for name in sorted(made.files):
        output.say(f"wrote {out / name}")
    for one in made.report:
        if one.result == "not translated":
            output.say(output.printable(f"not translated: {one.where}: {one.part}: {one.why}"), style="yellow")
    for finding in findings:
        output.say(output.printable(str(finding)), style="yellow")
    done = sum(one.result == "translated" for one in made.report)
    output.say(f"{done} of {len(made.report)} parts translated; {out / 'report.md'} tells of each.")
