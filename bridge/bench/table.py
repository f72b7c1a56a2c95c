"""The bench's figures as a table for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(console: Console, report: dict[str, Any]) -> None:
    machine = report["machine"]
    console.print(f"{machine['system']}, {machine['cores']} cores, Python {machine['python']}")
    table = Table(title=f"MLLP in, durable, 3 fields edited, MLLP out in sequence; {report['message_bytes']} B orders")
    for name in ("connections", "messages", "ack/s", "delivered/s", "ACK ms p50", "p95", "p99", "CPU %", "RSS MiB"):
        table.add_column(name, justify="right")
    bare = Table(title="Beside it, in the same run")
    for name in ("connections", "only acknowledging/s", "p99 ms", "ack / only ack", "ack / commits", "delivered / ack"):
        bare.add_column(name, justify="right")
    for level in report["levels"]:
        mine, other, ratios = level["acknowledged"], level["only_acknowledging"], level["ratios"]
        rates = f"{mine['per_s']:,}", f"{level['delivered_per_s']:,}"
        times = (f"{mine[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
        used = f"{level['cpu_percent']}", f"{level['rss_mib']}"
        table.add_row(str(level["connections"]), f"{level['messages']:,}", *rates, *times, *used)
        parts = (f"{ratio:.2f}" for ratio in ratios.values())
        bare.add_row(str(level["connections"]), f"{other['per_s']:,}", f"{other['p99_ms']:.1f}", *parts)
    console.print(table, bare)
    console.print(f"bare store: {report['bare_commits_per_s']:,} commits/s (SQLite WAL, synchronous=FULL, 800 B each)")
    console.print(f"start to first acknowledgement: {report['start_to_first_ack_s']:.2f} s")
    for problem in report["problems"]:
        console.print(f"[red]{problem}[/red]")
    if not report["problems"]:
        console.print("[green]everything arrived once, edited and in sequence[/green]")
