"""``quality``: what is wrong with the messages of each sender, as text for the people who configure it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, desk, examples
from bridge.commands.journal import millis_since

if TYPE_CHECKING:
    from bridge.store.quality import QualityFinding, QualitySource

app = typer.Typer()

_OUTCOMES = {"refused": "refused", "undeliverable": "accepted but not delivered", "remarked": "accepted with a remark"}


@app.command(epilog=examples("radbridge quality", "radbridge quality --since 30d --channel ris-in --json"))
def quality(
    since: Annotated[str, typer.Option(help="Not older than: 30m, 2h, 7d, 14:00 or 2024-01-31.")] = "7d",
    channel: Annotated[str, typer.Option(help="Only what came over this channel.")] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Tell each sender's support what its messages lack.

        By channel and sender: which field, what is wrong with it, in how many of how many messages, since when, and
    one example by its control id. It holds no patient data, and can be mailed as it is.
    """
    from bridge.store.quality import quality as read

    with desk(config) as here:
        start = millis_since(since, here.zone)
        sources: list[QualitySource] = here.store.read(lambda connection: read(connection, start, channel))
        if machine:
            output.emit({"since": start, "sources": [asdict(source) for source in sources]})
            return
        output.say(f"Messages since {output.at(start, here.zone)}")
        if not sources:
            output.say("None were received.")
        for source in sources:
            _source(source, here.zone)


def _source(source: QualitySource, zone: ZoneInfo) -> None:
    name = " / ".join(part or "-" for part in source.sender.split("|", 1)) if source.sender else "A sender without name"
    output.say(
        output.printable(f"\n{name} over {source.channel}: {source.messages:,} messages, {source.refused:,} refused"),
        style="bold",
    )
    if not source.findings:
        output.say("  Nothing to remark.")
    for found in source.findings:
        _finding(found, source.messages, zone)


def _finding(found: QualityFinding, total: int, zone: ZoneInfo) -> None:
    place = f"{found.place}: " if found.place and found.place not in found.what else ""
    output.say(output.printable(f"  {place}{found.what}"))
    first, last = output.at(found.first, zone), output.at(found.last, zone)
    when = f"{first} to {last}" if first != last else first
    output.say(f"    {found.messages:,} of {total:,} messages, {_OUTCOMES[found.outcome]}; {when}")
    if found.fix:
        output.say(output.printable(f"    fix: {found.fix}"))
    output.say(
        output.printable(f"    example: control id {found.control_id or '-'}, message {found.example}"), style="dim"
    )
