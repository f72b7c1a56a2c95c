"""``messages`` and ``dead``: what was received, what became of it, and what waits."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Desk, Json, desk, examples, joined
from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.store.deliveries import LaneState

app = typer.Typer()

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command(
    epilog=examples(
        "radbridge messages --since 2h --status refused",
        "radbridge messages --accession A1001 --json",
        "radbridge messages 4v0k2q",
    )
)
def messages(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="One message, in full; the end of its id is enough.")
    ] = "",
    status: Annotated[str, typer.Option(help="routed, unrouted, refused or duplicate.")] = "",
    channel: Annotated[str, typer.Option(help="The channel it came from.")] = "",
    type: Annotated[str, typer.Option("--type", help="Message type, such as ORM^O01.")] = "",  # noqa: A002 - the option's name
    patient: Annotated[str, typer.Option(help="Patient identifier: 4711, or 4711^HOSPITAL.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    control_id: Annotated[str, typer.Option(help="The sender's own id (MSH-10).")] = "",
    since: Annotated[str, typer.Option(help="Not older than: 30m, 2h, 7d, 14:00 or 2024-01-31.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most, the newest.")] = 50,
    config: Config = None,
    machine: Json = False,
) -> None:
    """List what was received, or show one.

        The list has the newest first and shows no content. One message is shown with its content and all that
    became of it. Seeing content is recorded in the audit trail.
    """
    from bridge.store.search import MessageFilter

    with desk(config) as here:
        if identifier:
            _one(here, here.message_id(identifier), machine)
            return
        wanted = MessageFilter(
            status=status,
            channel=channel,
            type=type,
            control_id=control_id,
            patient=patient,
            accession=accession,
            since=millis_since(since, here.zone) if since else 0,
            limit=limit,
        )
        rows = here.operations.messages(wanted)
        if machine:
            output.emit(rows)
            return
        if not rows:
            output.say(f"No such message in {here.store.database.url.render_as_string()}.")
            return
        output.table(
            ("id", "received", "channel", "type", "control id", "status", "what"),
            (
                (
                    row["id"],
                    output.at(row["received_at"], here.zone),
                    row["channel"],
                    row["type"],
                    row["control_id"],
                    row["status"],
                    output.sentence(row["error"]) or "; ".join(row["warnings"] or ()),
                )
                for row in rows
            ),
        )


def millis_since(text: str, zone: ZoneInfo) -> int:
    """Milliseconds since the epoch for ``2h``, ``14:00`` or a date. Raises BridgeError for anything else."""
    now = time.time()
    span = re.fullmatch(r"(\d+)([smhd])", text)
    if span:
        return int((now - int(span[1]) * _UNITS[span[2]]) * 1000)
    try:
        if re.fullmatch(r"\d{1,2}:\d\d", text):
            hour, minute = (int(part) for part in text.split(":"))
            then = datetime.fromtimestamp(now, zone).replace(hour=hour, minute=minute, second=0, microsecond=0)
        else:
            then = datetime.fromisoformat(text)
    except ValueError:
        fix = "write 30m, 2h, 7d, 14:00, 2024-01-31 or 2024-01-31T14:00"
        raise BridgeError(f"{text} is no time", at="--since", fix=fix, kind="settings") from None
    return int((then if then.tzinfo else then.replace(tzinfo=zone)).timestamp() * 1000)


def _one(here: Desk, identifier: str, machine: bool) -> None:
    found = here.operations.message(identifier, actor=here.actor)
    raw: bytes = found.pop("raw")
    if machine:
        text = output.content(raw, found["charset"])
        output.emit({**found, "content": text, "content_base64": b64encode(raw).decode()})
        return
    facts = {
        "message": found["id"],
        "received": f"{output.at(found['received_at'], here.zone)} on {found['channel']} from {found['peer']}",
        "type": found["type"],
        "control id": found["control_id"],
        "sender": found["sender"],
        "patient": found["patient"],
        "order": found["order_number"],
        "accession": found["accession"],
        "status": found["status"] + (f": {output.sentence(found['error'])}" if found["error"] else ""),
        "fix": (found["error"] or {}).get("fix", ""),
        "warnings": "; ".join(found["warnings"] or ()),
    }
    output.table(("", ""), [(name, value) for name, value in facts.items() if value])
    output.say(f"\nContent ({found['size']} bytes, {found['charset'] or 'characters unknown'})", style="bold")
    output.say(output.content(raw, found["charset"]))
    output.say("\nDeliveries" if found["deliveries"] else "\nOwed to nobody.", style="bold")
    for delivery in found["deliveries"]:
        _delivery(delivery, here.zone)


def _delivery(delivery: dict[str, Any], zone: ZoneInfo) -> None:
    way = f"{delivery['destination']} with {delivery['mapping']}" if delivery["mapping"] else delivery["destination"]
    when = output.at(delivery["finished_at"] or delivery["changed_at"], zone)
    outcome = f"{delivery['status']} {when} {delivery['answer']}".rstrip()
    output.say(output.printable(f"{delivery['id']}  {way}: {outcome}"))
    if delivery["cause"]:
        output.say(f"    repeats {delivery['cause']}")
    if delivery["suspected"]:
        output.say("    an earlier attempt may have arrived")
    for attempt in delivery["tries"]:
        line = f"    {output.at(attempt['at'], zone)} {attempt['outcome']}: {output.sentence(attempt['error'])}"
        output.say(output.printable(line))
    if delivery["error"] and delivery["error"].get("fix"):
        output.say(output.printable(f"    fix: {delivery['error']['fix']}"))


@app.command(epilog=examples("radbridge dead", "radbridge dead --destination pacs-out --json"))
def dead(
    destination: Annotated[str, typer.Option(metavar="NAME", help="Only this destination.")] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Tell what gave up, and what waits.

        Which deliveries, where, since when, why, and how to mend it. A dead delivery holds its lane key (a patient,
    say) until a person replays or skips it.
    """
    with desk(config) as here:
        here.known_destination(destination)
        gone = here.operations.dead(destination)
        lanes = [lane for lane in here.store.lanes() if destination in ("", lane.destination)]
        if machine:
            from dataclasses import asdict

            output.emit({"dead": gone, "lanes": [asdict(lane) for lane in lanes]})
            return
        if not gone and not any(lane.waits_for for lane in lanes):
            pending = sum(lane.pending for lane in lanes)
            output.say("Nothing is dead, nothing is stuck" + (f"; {pending} on their way." if pending else "."))
            return
        for lane in lanes:
            mine = [row for row in gone if row["destination"] == lane.destination]
            if mine or lane.waits_for:
                _lane(lane, mine, here.zone)
        if gone:
            output.say(
                "\nradbridge replay ID sends again, radbridge skip ID --reason '...' gives up for good.", style="dim"
            )


def _lane(lane: LaneState, gone: Sequence[dict[str, Any]], zone: ZoneInfo) -> None:
    counts = [f"{lane.dead} dead"] if lane.dead else []
    counts += [f"{lane.parked_keys} lane key(s) parked"] if lane.parked_keys else []
    counts += [f"{lane.pending} pending"] if lane.pending else []
    output.say(f"\n{lane.destination}: {', '.join(counts)}", style="bold")
    if lane.waits_for:
        since, again = output.since(lane.waits_since, zone), output.at(lane.next_try, zone)
        why = output.printable(output.sentence(lane.waits_for))
        output.say(f"  waits since {since}: {why}; next try {again}", style="yellow")
        _fix(lane.waits_for)
    for error, rows in _by_reason(gone):
        output.say(
            output.printable(
                f"  {len(rows)} dead since {output.since(rows[0]['changed_at'], zone)}: {output.sentence(error)}"
            ),
            style="red",
        )
        _fix(error)
        named = [f"{row['id']} ({row['type']})" for row in rows]
        output.say(f"    {joined(named)}")


def _fix(error: dict[str, str] | None) -> None:
    if error and error.get("fix"):
        output.say(output.printable(f"    fix: {error['fix']}"))


def _by_reason(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, str] | None, list[dict[str, Any]]]]:
    """Rows with the same error together, each group from its oldest on."""

    def reason(row: dict[str, Any]) -> tuple[str, str]:
        return output.sentence(row["error"]), (row["error"] or {}).get("fix", "")

    ordered = sorted(rows, key=lambda row: (*reason(row), row["changed_at"]))
    groups = [list(group) for _, group in groupby(ordered, reason)]
    return [(group[0]["error"], group) for group in groups]
