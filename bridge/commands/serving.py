"""``run`` and ``check``: the engine, and what would keep it from starting."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, site_file
from bridge.errors import BridgeError, Finding, SettingsError

if TYPE_CHECKING:
    from bridge.app import Node
    from bridge.settings import Loaded

app = typer.Typer()


@app.command(
    epilog=examples(
        "radbridge run",
        "radbridge run --config /etc/radbridge/bridge.yaml --roles receive,web",
    )
)
def run(
    config: Config = None,
    roles: Annotated[
        str, typer.Option(metavar="LIST", help="Which part of the work this node takes: receive,deliver,dicom,web.")
    ] = "",
    machine: Json = False,
) -> None:
    """Start the engine.

    It serves until Ctrl+C or SIGTERM. Exit code 2 if it cannot start as configured; every reason is told at once.
    """
    from bridge import app as composition
    from bridge.engine.runtime import ROLES
    from bridge.settings import load

    wanted = frozenset(part.strip() for part in roles.split(",") if part.strip()) or ROLES
    unknown = sorted(wanted - ROLES)
    if unknown:
        raise BridgeError(
            f"there is no role {unknown[0]}", at="--roles", fix="some of " + ",".join(sorted(ROLES)), kind="settings"
        )
    loaded = load(site_file(config))
    try:
        composition.run(loaded, roles=wanted, ready=lambda node: _announce(node, machine))
    except SettingsError as error:
        raise SettingsError(_all_findings(loaded, error)) from None


def _all_findings(loaded: Loaded, error: SettingsError) -> list[Finding]:
    """Every error of the site's files, and what the start itself stumbled over."""
    from bridge.lint import findings_of

    known = [finding for finding in findings_of(loaded) if finding.severity == "error"]
    return known or error.findings


def _announce(node: Node, machine: bool) -> None:
    import sys

    from bridge import __version__
    from bridge.app import store_url

    config = node.loaded.config
    ends = node.runtime.endpoints()
    listening = {name: end for name, end in ends.items() if name in node.runtime.sources}
    sending = {name: ends[name] for name in node.runtime.deliverers if name not in listening}
    place = "PostgreSQL" if config.store.url else str(config.data.resolve())
    if config.store.url.startswith("sqlite"):
        place = store_url(node.loaded)
    if machine:
        facts: dict[str, object] = {
            "event": "ready",
            "site": config.site.name,
            "revision": node.runtime.plan.revision,
            "data": place,
        }
        facts |= {"listens": listening, "sends": sending, "web": node.web, "put_aside": node.put_aside}
        output.emit(facts | ({"token": node.token} if node.new_token else {}), line=True)
        sys.stdout.flush()
        return
    rows = [(name, "listens", end) for name, end in listening.items()]
    rows += [(name, "sends to", end) for name, end in sending.items()]
    if node.web:
        rows += [
            ("console", "opens at", f"{node.web}/"),
            ("API", "is at", f"{node.web}/api"),
            ("metrics", "are at", f"{node.web}/metrics"),
        ]
    rows.append(("data", "is kept in", place))
    output.say(f"Radbridge {__version__} serves {config.site.name}.\n", style="bold")
    output.table(("", "", ""), rows)
    if node.web and node.new_token:
        output.say(f"\nAPI token, shown once, keep it now: {node.token}")
    if node.put_aside:
        output.say(
            f"\nTHE FILES ON DISK DO NOT RUN: {node.put_aside} was put aside, {node.runtime.plan.revision} runs. "
            "See `radbridge revisions`.",
            style="bold yellow",
        )
    output.say("\nStop with Ctrl+C.")
    sys.stdout.flush()


@app.command(epilog=examples("radbridge check", "radbridge check --config /etc/radbridge/bridge.yaml --json"))
def check(config: Config = None, machine: Json = False) -> None:
    """Tell every mistake in the files.

    Looks at the site file, mappings, tables and adapters; tells each mistake with its place and what to write instead.
    Exit code 2 if there are errors; warnings and hints alone pass.
    """
    from bridge.lint import findings_of
    from bridge.settings import load

    loaded = load(site_file(config))
    findings = findings_of(loaded)
    counts = Counter(finding.severity for finding in findings)
    errors, warnings, hints = counts["error"], counts["warning"], counts["hint"]
    if machine:
        found = output.findings_as_dicts(findings)
        output.emit({"ok": not errors, "errors": errors, "warnings": warnings, "hints": hints, "findings": found})
    else:
        styles = {"error": "red", "warning": "yellow", "hint": "dim"}
        for finding in findings:
            output.say(output.printable(str(finding)), style=styles[finding.severity])
        summary = f"{errors} error(s), {warnings} warning(s), {hints} hint(s)" if findings else "No problems"
        output.say(f"{summary} in {len(loaded.files)} files; revision {loaded.revision}.")
    if errors:
        raise typer.Exit(2)
