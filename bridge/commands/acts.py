"""``replay`` and ``skip``: what a person does about deliveries; each act is recorded."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Desk, Json, desk, examples, needs

if TYPE_CHECKING:
    from bridge.engine.operations import Preview, ReplayRequest

app = typer.Typer()

CHUNK = 100
"""Deliveries looked at or sent again at once, so that a progress bar moves and contents are not all in memory."""
SHOWN = 20
"""Previews listed one by one; of more only what stands against them is."""


@app.command(
    epilog=examples(
        "radbridge replay 4v0k2q",
        "radbridge replay --destination pacs-out --all --yes",
        "radbridge replay --message 4v0k2p --to his-fhir --show",
    )
)
def replay(
    identifiers: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Deliveries; the end of an id is enough.")
    ] = None,
    destination: Annotated[
        str, typer.Option(metavar="NAME", help="With --all: the dead ones of this destination.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every dead delivery of the destination.")] = False,
    message: Annotated[
        list[str] | None, typer.Option("--message", metavar="ID", help="A message, to where its routes lead now.")
    ] = None,
    to: Annotated[list[str] | None, typer.Option("--to", metavar="NAME", help="With --message: to there only.")] = None,
    new_control_id: Annotated[
        bool, typer.Option("--new-control-id", help="Give it a new MSH-10, so that the receiver takes it for another.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Show the bytes that would leave; this is audited.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what would happen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Send deliveries again.

        Shows what would leave and what stands against it, and asks. A dead delivery goes back to its own place in
    its lane, translated anew by today's mapping; anything else joins
    the end. The control id stays the same, so that the receiver knows a repeat.
    """
    needs(everything == bool(destination), "--destination and --all belong together", "name both, or ids")
    needs(bool(message) or not to, "--to belongs to --message", "add --message ID")
    asks = not (yes or preview)
    needs(not asks or (sys.stdin.isatty() and not machine), "nobody is there to be asked", "add --yes, or --preview")
    with desk(config) as here:
        for name in (destination, *(to or ())):
            here.known_destination(name)
        requests = _requests(here, identifiers, destination, message, to, new_control_id)
        if not requests:
            output.emit({"previews": [], "replayed": []}) if machine else output.say(
                f"Nothing is dead at {destination}."
            )
            return
        shown = _look(here, requests, show, machine)
        if asks:
            typer.confirm("Send?", abort=True)
        made = [] if preview else _send(here, requests, machine)
        if machine:
            output.emit({"previews": shown, "replayed": made})
        elif made:
            output.say(f"Sent again: {len(made)}. They leave as soon as the engine runs and the destination answers.")
            for identifier in made[:SHOWN]:
                output.say(f"  {identifier}")


def _requests(
    here: Desk,
    identifiers: Sequence[str] | None,
    destination: str,
    messages: Sequence[str] | None,
    to: Sequence[str] | None,
    new_control_id: bool,
) -> list[ReplayRequest]:
    """The whole wish, in chunks."""
    from bridge.engine.operations import ReplayRequest

    deliveries = [here.delivery_id(text) for text in identifiers or ()]
    if destination:
        deliveries += [row["id"] for row in here.operations.dead(destination)]
    else:
        needs(
            deliveries or messages, "nothing is named", "name deliveries, or --destination NAME --all, or --message ID"
        )
    chunks = [
        ReplayRequest(deliveries=tuple(deliveries[start : start + CHUNK]), new_control_id=new_control_id)
        for start in range(0, len(deliveries), CHUNK)
    ]
    if messages:
        chosen = tuple(here.message_id(text) for text in messages)
        chunks.append(ReplayRequest(messages=chosen, destinations=tuple(to or ()), new_control_id=new_control_id))
    return chunks


def _look(here: Desk, requests: list[ReplayRequest], show: bool, machine: bool) -> list[dict[str, Any]]:
    """Preview everything; what is listed for people, and all of it as facts."""
    facts: list[dict[str, Any]] = []
    with output.progress(machine or len(requests) < 2) as bar:
        for one in _previews(here, bar.track(requests, description="looking")):
            facts.append(_facts(one, show))
            if not machine and (len(facts) <= SHOWN or one.error or one.later):
                _describe(one, show)
    if not machine and len(facts) > SHOWN:
        output.say(f"  {len(facts)} deliveries in all")
    return facts


def _previews(here: Desk, requests: Any) -> Iterator[Preview]:
    for request in requests:
        yield from here.operations.preview(request, actor=here.actor)


def _describe(one: Preview, show: bool) -> None:
    way = f"{one.destination} with {one.mapping}" if one.mapping else one.destination
    place = f"takes the place of {one.replaces}" if one.replaces else "joins the end of its lane"
    output.say(output.printable(f"  {one.type} of message {one.message} to {way}: {len(one.data)} bytes, {place}"))
    if one.error:
        output.say(output.printable(f"    would die again: {output.sentence(one.error)}"), style="red")
        if one.error.get("fix"):
            output.say(output.printable(f"    fix: {one.error['fix']}"))
    for newer in one.later:
        output.say(
            f"    a newer {newer['type']} about this order was delivered: message {newer['message']}", style="yellow"
        )
    if show:
        output.say(output.content(one.data))


def _facts(one: Preview, show: bool) -> dict[str, Any]:
    facts = {
        "message": one.message,
        "type": one.type,
        "destination": one.destination,
        "mapping": one.mapping,
        "replaces": one.replaces,
        "size": len(one.data),
        "error": one.error,
        "later": list(one.later),
    }
    return {**facts, "content_base64": b64encode(one.data).decode()} if show else facts


def _send(here: Desk, requests: list[ReplayRequest], machine: bool) -> list[str]:
    made: list[str] = []
    with output.progress(machine or len(requests) < 2) as bar:
        for request in bar.track(requests, description="sending again"):
            made += here.operations.replay(request, actor=here.actor)
    return made


@app.command(epilog=examples("radbridge skip 4v0k2q --reason 'the order was cancelled by phone'"))
def skip(
    identifiers: Annotated[
        list[str], typer.Argument(metavar="ID", help="Dead deliveries; the end of an id is enough.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why they need not arrive; kept in the audit trail.")],
    config: Config = None,
    machine: Json = False,
) -> None:
    """Give up dead deliveries for good.

    What waits behind them in their lanes goes on.
    """
    with desk(config) as here:
        chosen = [here.delivery_id(text) for text in identifiers]
        count = here.operations.skip(chosen, actor=here.actor, reason=reason)
        if machine:
            output.emit({"skipped": count, "deliveries": chosen})
        else:
            output.say(f"Skipped for good: {count}.")
