"""``worklist``: what modalities are offered, and what they no longer are."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, desk, examples

app = typer.Typer()


@app.command(epilog=examples("radbridge worklist", "radbridge worklist --station CT1 --date 20240131 --json"))
def worklist(
    station: Annotated[str, typer.Option(metavar="AE", help="Only steps for this station's AE title.")] = "",
    date: Annotated[str, typer.Option(metavar="DAY", help="today, all, 20240131 or 20240101-20240131.")] = "today",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many at most, the earliest.")] = 1000,
    config: Config = None,
    machine: Json = False,
) -> None:
    """List the steps in the worklist.

        All of them, with their status: modalities see those that are scheduled or started. Seeing them is recorded
    in the audit trail.
    """
    with desk(config) as here:
        wanted = datetime.now(here.zone).strftime("%Y%m%d") if date == "today" else "" if date == "all" else date
        if re.fullmatch(r"\d{4}-\d\d-\d\d", wanted):
            wanted = wanted.replace("-", "")
        items = here.operations.worklist(actor=here.actor, station=station, date=wanted, limit=limit)
        rows = [{"status": item.status.value, **summary(item.attributes)} for item in items]
        if machine:
            output.emit([{**row, "attributes": item.attributes} for row, item in zip(rows, items, strict=True)])
        elif not rows:
            output.say(
                f"No step{f' for {station}' if station else ''} {'at any time' if date == 'all' else f'on {date}'}."
            )
        else:
            output.table(tuple(rows[0]), (tuple(row.values()) for row in rows))


def summary(attributes: dict[str, Any]) -> dict[str, str]:
    """The few attributes by which people know a step."""
    step = attributes["ScheduledProcedureStepSequence"][0]

    def text(value: Any) -> str:
        return ", ".join(value) if isinstance(value, list) else str(value or "")

    day, clock = text(step.get("ScheduledProcedureStepStartDate")), text(step.get("ScheduledProcedureStepStartTime"))
    return {
        "start": f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4] or '00'}",
        "station": text(step.get("ScheduledStationAETitle")),
        "modality": text(step.get("Modality")),
        "accession": text(attributes.get("AccessionNumber")),
        "patient id": text(attributes.get("PatientID")),
        "name": text(attributes.get("PatientName")),
        "procedure": text(
            step.get("ScheduledProcedureStepDescription") or attributes.get("RequestedProcedureDescription")
        ),
    }
