"""What a command says: tables and sentences for people, JSON for programs, one face for every error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError, Finding, SettingsError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

WIDE = 200
"""Columns of a table that goes to a file or another program."""


@cache
def console(stderr: bool = False) -> Console:
    """Standard output (or error) for people. What is data is shown as it is: no markup, no guessing at colours."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if terminal else WIDE)


def say(text: str = "", style: str | None = None) -> None:
    """One paragraph on standard output."""
    console().print(text, style=style, soft_wrap=True)


def note(text: str) -> None:
    """One remark on standard error: not part of the result."""
    console(True).print(text, style="dim", soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A plain table; empty cells stay empty, and columns without a name make one without a head."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for name in columns:
        shown.add_column(name, overflow="fold", no_wrap=name == "id")
    for row in rows:
        shown.add_row(*(printable(str(cell)) for cell in row))
    console().print(shown)


def progress(quiet: bool) -> Progress:
    """A progress bar on standard error; silent for programs and where nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console(True), transient=True, disable=quiet or not sys.stderr.isatty())


def emit(data: Any, *, line: bool = False) -> None:
    """The result for a program: one JSON document on standard output, on one line if it is one of several."""
    json.dump(data, sys.stdout, ensure_ascii=False, indent=None if line else 2, default=str)
    sys.stdout.write("\n")


def printable(text: str) -> str:
    """Text that cannot command a terminal: control characters other than line ends as ``\\xNN``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def content(data: bytes, charset: str = "") -> str:
    """Message content as text: segment ends as line ends, what is no character of ``charset`` as ``\\xNN``. Of DICOM,
    the step that it tells of, as JSON."""
    from bridge.codecs.formats import is_dicom, read_any

    if is_dicom(data):
        with suppress(BridgeError):
            return printable(json.dumps(read_any(data).values, ensure_ascii=False, indent=2))
    try:
        text = data.decode(charset or "utf-8", "backslashreplace")
    except LookupError:
        text = data.decode("utf-8", "backslashreplace")
    return printable(text.replace("\r\n", "\n").replace("\r", "\n")).rstrip("\n")


def at(millis: int | None, zone: tzinfo) -> str:
    """A time in the site's zone, ``2024-01-31 14:02:09``; empty for none."""
    return datetime.fromtimestamp(millis / 1000, zone).strftime("%Y-%m-%d %H:%M:%S") if millis else ""


def since(millis: int, zone: tzinfo) -> str:
    """The same, short: ``14:02`` if it was today."""
    then, today = datetime.fromtimestamp(millis / 1000, zone), datetime.now(zone)
    return then.strftime("%H:%M" if then.date() == today.date() else "%Y-%m-%d %H:%M")


def sentence(error: dict[str, str] | None) -> str:
    """What is wrong, and where, in one line."""
    if not error:
        return ""
    return f"{error['what']} at {error['at']}" if error.get("at") else error["what"]


def findings_as_dicts(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "file": finding.file,
            "line": finding.line,
            "column": finding.column,
            "severity": finding.severity,
            "what": finding.what,
            "fix": finding.fix,
        }
        for finding in findings
    ]


def fail(error: BridgeError, *, machine: bool) -> int:
    """Tell an error and return the command's exit code (``bridge.errors.FACES``)."""
    findings = error.findings if isinstance(error, SettingsError) else []
    if machine:
        found = {"findings": findings_as_dicts(findings)} if findings else {}
        emit({"error": {**error.as_dict(), **found}})
        return error.face.exit
    for line in [str(finding) for finding in findings] or [f"error: {error.what}"]:
        console(True).print(printable(line), style="red", soft_wrap=True)
    if not findings:
        for name, value in (("at", error.at), ("fix", error.fix)):
            if value:
                console(True).print(f"{name:>5}: {printable(value)}", soft_wrap=True)
    return error.face.exit
