"""``audit``: who did what, and who saw or changed whose data over the FHIR facades."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, desk, examples

app = typer.Typer()


@app.command(
    epilog=examples(
        "radbridge audit",
        "radbridge audit --about Patient/01jz6m3n8y4k2v7q5x9w0t1r2s --days 30",
        "radbridge audit --by portal --json",
    )
)
def audit(
    by: Annotated[str, typer.Option(metavar="WHO", help="Only what this client or person did.")] = "",
    about: Annotated[
        str, typer.Option(metavar="WHAT", help="Only about this: a message, a delivery, Patient/ID, ServiceRequest/ID.")
    ] = "",
    days: Annotated[float, typer.Option(min=0, help="Only of the last so many days; 0: all.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 50,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Show who did what, and who saw whose data.

        The audit trail holds replays, skips, decisions, and every access to the FHIR facades. Accesses to a patient's
    data are found by Patient/ID, whichever resource was shown.
    """
    with desk(config) as here:
        since = int((time.time() - days * 86_400) * 1000) if days else 0
        found = here.store.trail.find(actor=by, subject=about, since=since, limit=limit)
        if machine:
            output.emit([{key: value for key, value in one.items() if key != "cursor"} for one in found])
        elif found:
            rows = (
                (output.at(one["at"], here.zone), one["actor"], one["action"], one["subject"], _more(one["detail"]))
                for one in found
            )
            output.table(("when", "who", "did", "about", "more"), rows)
        else:
            output.say("Nothing.")


def _more(detail: dict[str, object]) -> str:
    """What fits on a line: ids and numbers, no lists."""
    short = {key: value for key, value in detail.items() if isinstance(value, str | int) and key != "query"}
    return " ".join(f"{key}={value}" for key, value in short.items())
