"""``deploy``, ``rollback``, ``revisions``, ``diff``, ``shadow``: what runs, since when, and what would change it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Desk, Json, desk, examples, needs, site_file
from bridge.commands.journal import millis_since
from bridge.errors import NotFound, SettingsError

if TYPE_CHECKING:
    from bridge.engine.deployments import Change
    from bridge.engine.shadow import Report, Sample
    from bridge.store.revisions import Deployment

app = typer.Typer()

SHOWN = 120
"""Lines of a difference that are shown before a question; `radbridge diff` shows all."""

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason; kept with it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command(epilog=examples("radbridge deploy --why 'CT2 joins the worklist'", "radbridge deploy --yes --json"))
def deploy(
    why: Why = "",
    yes: Yes = False,
    require_sign_off: Annotated[
        bool, typer.Option("--require-sign-off", help="Only what `radbridge shadow --sign-off` was said of.")
    ] = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Let the files on disk run.

    Refuses files with errors, and mappings with a case that does not hold. Shows what changes, and asks. A running
    engine takes it over within seconds, without a restart: what it receives from then on is translated anew. Exit code
    2 if the files are refused, 4 if a channel cannot start: then the former revision runs on.
    """
    from bridge.lint import findings_of
    from bridge.settings import load

    ask_somebody(yes, machine)
    on_disk = load(site_file(config))
    if any(finding.severity == "error" for finding in on_disk.findings):
        raise SettingsError([finding for finding in findings_of(on_disk) if finding.severity == "error"])
    with desk(config) as here:
        change = here.operations.deployments.prepare(here.loaded)
        if _nothing_to_do(here, change, machine):
            return
        _show(change, machine)
        if not yes:
            typer.confirm("Deploy?", abort=True)
        made = here.operations.deployments.deploy(change, actor=here.actor, why=why, signed_off=require_sign_off)
        _tell(here, made, machine)


@app.command(epilog=examples("radbridge rollback --why 'reports lack the accession'", "radbridge rollback 3f9c --yes"))
def rollback(
    revision: Annotated[
        str, typer.Argument(metavar="[REVISION]", help="The beginning of its id; without it the one that ran before.")
    ] = "",
    why: Why = "",
    yes: Yes = False,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Let an older revision run again.

    The files on disk stay as they are; mend them, then `radbridge deploy`.
    """
    ask_somebody(yes, machine)
    with desk(config) as here:
        deployments = here.operations.deployments
        change = deployments.compare(deployments.older(revision, here.loaded.folder))
        if _nothing_to_do(here, change, machine):
            return
        _show(change, machine)
        if not yes:
            typer.confirm("Roll back?", abort=True)
        _tell(here, deployments.rollback(change, actor=here.actor, why=why), machine)


@app.command(epilog=examples("radbridge revisions", "radbridge revisions --json"))
def revisions(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Tell which revision runs, and which ran before.

    Each with who deployed it, when and why, and whether the files on disk are others.
    """
    with desk(config) as here:
        active, found = here.operations.deployments.active(), here.operations.deployments.history(limit)
        disk = here.loaded.revision
        if machine:
            running = active.revision if active else ""
            output.emit({"running": running, "on_disk": disk, "deployments": [asdict(one) for one in found]})
            return
        if active is None:
            output.say("Nothing was deployed yet: the engine was never started here.")
            return
        output.say(f"Revision {active.revision} runs.", style="bold")
        _remark(active.revision, disk)
        rows = [
            (one.revision, output.at(one.at, here.zone), one.kind, one.actor, one.why, _state(one, active))
            for one in found
        ]
        output.table(("revision", "since", "by", "who", "why", ""), rows)


@app.command(epilog=examples("radbridge diff 3f9c", "radbridge diff 3f9c 81aa"))
def diff(
    before: Annotated[str, typer.Argument(metavar="[A]", help="A revision; without it the one that runs.")] = "",
    after: Annotated[str, typer.Argument(metavar="[B]", help="Another; without it the files on disk.")] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Show the differences of two revisions, or of one and the files on disk."""
    from bridge.engine.deployments import unified

    with desk(config) as here:
        deployments = here.operations.deployments
        active = deployments.active()
        name = before or (active.revision if active else "")
        needs(name, "nothing was deployed yet", "start the engine, or deploy")
        text = unified(deployments.files(name), deployments.files(after) if after else here.loaded.files)
        if machine:
            output.emit({"diff": text})
        elif text:
            coloured(text.splitlines())
        else:
            output.say("No differences.")


@app.command(
    epilog=examples("radbridge shadow", "radbridge shadow --since 2h --show 3", "radbridge shadow --sign-off 'seen'")
)
def shadow(
    last: Annotated[int, typer.Option(min=1, help="The newest so many messages.")] = 2000,
    since: Annotated[str, typer.Option(help="In place of --last: all since 2h, 7d, 14:00 or 2024-01-31.")] = "",
    candidate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another site file in place of the files on disk.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Show so many examples, before and after; this is audited.")] = 0,
    sign_off: Annotated[
        str, typer.Option("--sign-off", metavar="TEXT", help="Record that what changes is what was wanted.")
    ] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Show what the files on disk would change.

        Translates messages that were really received, by the revision that runs and by the files on disk, and compares
    byte for byte what would leave. Nothing is sent. It tells fields and numbers, and no patient's data without --show.
    """
    from bridge.engine.plan import Plan
    from bridge.engine.shadow import received
    from bridge.engine.shadow import shadow as run
    from bridge.settings import from_files, load

    with desk(config) as here:
        deployments = here.operations.deployments
        active = deployments.active()
        if active is None:
            raise NotFound("nothing was deployed yet", fix="start the engine, or `radbridge deploy`")
        running = Plan(from_files(deployments.files(active.revision), here.loaded.folder))
        wanted = Plan(load(candidate) if candidate else here.loaded)
        start = millis_since(since, here.zone) if since else 0
        report = run(running, wanted, received(here.store, since=start, last=0 if since else last))
        shown = [one.example for one in report.differences][:show]
        for sample in shown:
            here.store.record(here.actor, "view", sample.message, {"what": "shadow", "destination": sample.destination})
        if sign_off:
            here.store.keep_revision(wanted.revision, wanted.files)
            deployments.sign_off(wanted.revision, report, against=running.revision, actor=here.actor, why=sign_off)
        if machine:
            _emit_shadow(report, running.revision, wanted.revision, shown)
        else:
            _tell_shadow(report, running.revision, wanted.revision, shown, sign_off)


def _emit_shadow(report: Report, running: str, candidate: str, shown: list[Sample]) -> None:
    output.emit(
        {
            "running": running,
            "candidate": candidate,
            "messages": report.messages,
            "changed": report.changed,
            "unread": report.unread,
            "differences": [
                {
                    "destination": one.destination,
                    "what": one.what,
                    "messages": one.messages,
                    "example": one.example.message,
                }
                for one in report.differences
            ],
            "examples": [
                {
                    "message": one.message,
                    "destination": one.destination,
                    "before": output.content(one.before),
                    "after": output.content(one.after),
                }
                for one in shown
            ],
        }
    )


def _tell_shadow(report: Report, running: str, candidate: str, shown: list[Sample], signed: str) -> None:
    output.say(f"{running} -> {candidate}, tried on {report.messages:,} messages; nothing was sent.", style="bold")
    if report.unread:
        output.say(f"{report.unread:,} of them cannot be read any more.", style="yellow")
    if not report.differences:
        output.say("Every byte would be the same.")
    for name, found in groupby(report.differences, key=lambda one: one.destination):
        output.say(f"\n{name}", style="bold")
        for one in found:
            count = f"{one.messages:,} of {report.messages:,} messages"
            output.say(output.printable(f"  {one.what}: {count}; for example {one.example.message}"))
    for sample in shown:
        output.say(f"\nmessage {sample.message} to {sample.destination}", style="bold")
        before, after = (output.content(data).splitlines() for data in (sample.before, sample.after))
        coloured(list(unified_diff(before, after, "before", "after", lineterm="", n=1)))
    if signed:
        output.say(f"\nSigned off: revision {candidate}. Recorded with your name.", style="green")


def ask_somebody(yes: bool, machine: bool) -> None:
    """Raises BridgeError where a question would have nobody to answer it."""
    needs(yes or (sys.stdin.isatty() and not machine), "nobody is there to be asked", "add --yes")


def _nothing_to_do(here: Desk, change: Change, machine: bool) -> bool:
    if change.revision != change.former:
        return False
    if machine:
        output.emit({"revision": change.revision, "changed": False})
    else:
        output.say(f"Revision {change.revision} runs already.")
        _remark(change.revision, here.loaded.revision)
    return True


def _show(change: Change, machine: bool) -> None:
    if machine:
        return
    output.say(f"{change.former or 'nothing'} -> {change.revision}", style="bold")
    lines = change.diff.splitlines() if change.former else []
    coloured(lines[:SHOWN])
    if len(lines) > SHOWN:
        output.say(f"... {len(lines) - SHOWN} more lines: `radbridge diff`")
    for what, names in (
        ("start", change.starts if change.former else ()),
        ("restart, their connections end", change.restarts),
        ("stop, once what is on its way there has arrived", change.stops),
    ):
        if names:
            output.say(f"Channels that {what}: {', '.join(names)}")
    if change.at_start:
        output.say(f"Takes effect at the next start of the engine: {', '.join(change.at_start)}", style="yellow")


def _tell(here: Desk, made: Deployment, machine: bool) -> None:
    """How the running nodes took it."""
    outcome = here.operations.deployments.outcome(made)
    disk = here.loaded.revision
    if machine:
        facts: dict[str, Any] = {"changed": True, "number": made.number, "former": made.former, "on_disk": disk}
        output.emit({"revision": made.revision, **facts, "nodes": outcome.nodes, "silent": outcome.silent})
        return
    if outcome.nodes:
        output.say(f"Revision {made.revision} runs on {len(outcome.nodes)} node(s).", style="green")
    elif not outcome.silent:
        output.say(f"No engine runs now: revision {made.revision} takes effect when one is started.")
    for name in outcome.silent:
        output.say(f"{name} has not taken it over yet; look at its log.", style="yellow")
    _remark(made.revision, disk)


def _remark(running: str, disk: str) -> None:
    if running != disk:
        output.say(
            f"THE FILES ON DISK ARE ANOTHER REVISION, {disk}: `radbridge diff` shows the difference, "
            "`radbridge deploy` lets them run.",
            style="bold yellow",
        )


def _state(one: Deployment, active: Deployment) -> str:
    if one.refused:
        return f"refused: {one.refused.splitlines()[0]}"
    return "runs" if one.number == active.number else ""


def coloured(lines: list[str]) -> None:
    """Lines of a difference for people."""
    for line in lines:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1]) if line[:3] not in ("+++", "---") else "bold"
        output.say(output.printable(line), style=style)
