"""``subscriptions``: who wants to be told by the FHIR facade, how far each was told, and trying one again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Desk, Json, desk, examples

if TYPE_CHECKING:
    from bridge.store.fhir_subscriptions import Watched

group = typer.Typer(
    invoke_without_command=True,
    help="List the subscriptions to the FHIR facade.",
    epilog=examples(
        "radbridge subscriptions",
        "radbridge subscriptions --json",
        "radbridge subscriptions retry 01jz6m3n8y4k2v7q5x9w0t1r2s",
    ),
)
app = typer.Typer()
app.add_typer(group, name="subscriptions")

_STATUSES = ("requested", "active", "error", "off")


@group.callback()
def subscriptions(context: typer.Context, config: Config = None, machine: Json = False) -> None:
    """List the subscriptions to the FHIR facade.

        What each watches and where it is sent (not what is looked for: that may name a patient), its status and since
    when, how many events it was told and how many wait, and why the last attempt failed.
    """
    if context.invoked_subcommand:
        return
    with desk(config) as here:
        rows = [_row(here, one) for one in here.store.subscriptions.of("", _STATUSES)]
        if machine:
            output.emit(rows)
        elif rows:
            output.table(tuple(rows[0]), (_shown(here, row) for row in rows))
        else:
            output.say("No subscription.")


@group.command(epilog=examples("radbridge subscriptions retry 01jz6m3n8y4k2v7q5x9w0t1r2s"))
def retry(
    subscription: Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list shows it.")],
    config: Config = None,
) -> None:
    """Try a subscription again at once that is in error.

    Nothing is lost meanwhile: what waits is told in its sequence. Recorded in the audit trail.
    """
    with desk(config) as here:
        here.store.subscriptions.retry(subscription, int(time.time() * 1000))
        here.store.record(here.actor, "retry", f"Subscription/{subscription}", {})
        output.say(f"Subscription {subscription} is tried again.")


def _row(here: Desk, one: Watched) -> dict[str, Any]:
    wants = one.wants
    by = f"{urlsplit(wants.endpoint).hostname} (rest-hook)" if wants and wants.endpoint else "websocket"
    oldest = here.store.subscriptions.oldest(one.id, one.delivered) if one.pending else 0
    return {
        "id": one.id,
        "channel": one.channel,
        "owner": one.owner,
        "watches": wants.watches if wants else "",
        "sent": by,
        "status": one.status,
        "since": one.since,
        "told": one.delivered,
        "waiting": one.pending,
        "oldest": oldest or None,
        "error": one.error,
    }


def _shown(here: Desk, row: dict[str, Any]) -> tuple[str, ...]:
    times = {key: output.at(row[key], here.zone) if row[key] else "" for key in ("since", "oldest")}
    return tuple(output.printable(str(value)) for value in (row | times).values())
