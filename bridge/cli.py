"""The command: ``radbridge``. Each kind of work is a file in :mod:`bridge.commands`; errors get their one face here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bridge.commands import (
    acts,
    audit,
    functions,
    identity,
    imports,
    journal,
    listening,
    mappings,
    new,
    output,
    ping,
    quality,
    reference,
    revisions,
    schema,
    sending,
    serving,
    subscriptions,
    tables,
    trials,
    worklist,
)
from bridge.errors import BridgeError

app = typer.Typer(
    name="radbridge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Radbridge takes orders, appointments and reports from one system to every other that needs them, and never "
    "loses what it acknowledged.",
    epilog="Exit codes: 0 done, 1 a defect, 2 a setting or option, 3 a message's content, 4 not found or not possible "
    "now, 5 away or full, 6 not allowed.",
)
for part in (
    serving,
    mappings,
    functions,
    sending,
    listening,
    journal,
    quality,
    revisions,
    acts,
    audit,
    worklist,
    subscriptions,
    ping,
    identity,
    schema,
    reference,
    tables,
    new,
    imports,
    trials,
):
    app.registered_commands += part.app.registered_commands
    app.registered_groups += part.app.registered_groups


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if version:
        from bridge import __version__

        typer.echo(f"radbridge {__version__}")
        raise typer.Exit()


def main() -> None:
    """Run the command named on the command line; exits with its code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app(prog_name="radbridge")
    except BridgeError as error:
        sys.exit(output.fail(error, machine="--json" in sys.argv[1:]))


if __name__ == "__main__":
    main()
