"""The status page as text: a table of lanes, one of channels. No script, no content, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from string import Template
from zoneinfo import ZoneInfo

from bridge.web.schemas import Channel, Lane, Problem, Ready, Status

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>$title</title><style>
:root { color-scheme: light dark; --line: #8884; --bad: #b3261e; --wait: #8a5a00; --good: #2e6b3a }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --wait: #ffca6b; --good: #8fd19e } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; font-weight: 600 } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } caption { text-align: left }
th, td { text-align: left; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
.bad { color: var(--bad) } .wait { color: var(--wait) } .good { color: var(--good) }
footer { margin-top: 2rem; opacity: .7 }
</style></head><body><main>$body</main><footer>$foot</footer></body></html>
""")


def render(status: Status, ready: Ready, timezone: str) -> str:
    """The whole page."""
    zone = ZoneInfo(timezone)
    parts = [f"<h1>{escape(status.site)}</h1>", _verdict(status, ready)]
    parts += ["<h2>What waits</h2>", _lanes(status.lanes, zone)]
    parts += ["<h2>Channels</h2>", _channels(status.channels)]
    odd = status.messages
    if odd.refused or odd.unrouted:
        parts.append(
            f"<p>{odd.refused} message(s) refused, {odd.unrouted} wanted by no route: "
            "<code>radbridge messages --status refused</code></p>"
        )
    now = datetime.now(zone).strftime("%H:%M:%S")
    foot = f"Radbridge {escape(status.version)}, revision {escape(status.revision)}, {escape(status.node)}, as of {now}"
    return _PAGE.substitute(title=f"Radbridge: {escape(status.site)}", body="\n".join(parts), foot=foot)


def unavailable(problem: Problem) -> str:
    """The page when the store cannot be read."""
    body = f'<h1>Radbridge</h1><p class="bad">{_sentence(problem)}</p>'
    return _PAGE.substitute(title="Radbridge: store unavailable", body=body, foot="This page tries again by itself.")


def _verdict(status: Status, ready: Ready) -> str:
    if not ready.ready:
        return "".join(f'<p class="bad">Not ready: {_sentence(reason)}</p>' for reason in ready.reasons)
    dead, waiting = sum(lane.dead for lane in status.lanes), [lane for lane in status.lanes if lane.waits_for]
    if dead:
        return f'<p class="bad">{dead} dead: they wait for a person. <code>radbridge dead</code></p>'
    if waiting:
        names = escape(", ".join(lane.destination for lane in waiting))
        return f'<p class="wait">Waiting for {names}. Nothing is lost; it is tried again.</p>'
    return '<p class="good">All is well.</p>'


def _lanes(lanes: Sequence[Lane], zone: ZoneInfo) -> str:
    rows = []
    for lane in lanes:
        why = ""
        if lane.waits_for:
            since, again = _clock(lane.waits_since, zone), _clock(lane.next_try, zone)
            why = f'<span class="wait">since {since}: {_sentence(lane.waits_for)}; next try {again}</span>'
        dead = f'<span class="bad">{lane.dead}</span>' if lane.dead else "0"
        rows.append((escape(lane.destination), str(lane.pending), dead, str(lane.parked_keys), why))
    return _table(("Destination", "Pending", "Dead", "Parked keys", "Why"), rows) if rows else "<p>Nothing.</p>"


def _channels(channels: Iterable[Channel]) -> str:
    style = {"listens": "good", "sends": "good", "away": "wait", "elsewhere": ""}
    return _table(
        ("Channel", "Type", "Where", "State"),
        [
            (
                escape(one.name),
                escape(one.type),
                escape(one.endpoint),
                f'<span class="{style[one.state]}">{one.state}</span>',
            )
            for one in channels
        ],
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """``rows`` are HTML already."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sentence(problem: Problem) -> str:
    text = f"{problem.what} at {problem.at}" if problem.at else problem.what
    return escape(f"{text}; {problem.fix}" if problem.fix else text)


def _clock(millis: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(millis / 1000, zone).strftime("%Y-%m-%d %H:%M:%S") if millis else ""
