"""What a program asked of the kernel, in which sequence: strace's log, read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.need import missing, require

_READS = ("read", "readv", "recvfrom", "recvmsg")
_WRITES = ("write", "writev", "sendto", "sendmsg", "pwrite64", "pwritev", "pwritev2")
_SYNCS = ("fsync", "fdatasync")
_LINE = re.compile(r"(\d+)\s+(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True)
class Call:
    """One system call. ``begun`` and ``ended`` are places in the log: of two calls, what ended before the other had
    begun came before it."""

    name: str
    text: str
    """Arguments and result as logged: ``8</data/x.db-wal>) = 0``."""
    begun: int
    ended: int

    @property
    def file(self) -> str:
        """What the first argument is open on: a path, or ``TCP:[here->there]``."""
        return self.text.partition("<")[2].partition(">,")[0].partition(">)")[0]

    @property
    def done(self) -> bool:
        result = self.text.rpartition(" = ")[2]
        return result[:1].isdigit()


def command(log: Path) -> list[str | Path]:
    """What to put before a program's own command to have it traced into ``log``."""
    program = require("strace")
    # Some containers forbid it.
    probe = subprocess.run([program, "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        missing("strace", f"allow ptrace here ({probe.stderr.strip()[:100]})")
    calls = ",".join((*_READS, *_WRITES, *_SYNCS))
    return [program, "-f", "-yy", "-s", "5000", "-o", log, "-e", f"trace={calls}"]


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of a log, each when it has ended."""
    open_calls: dict[str, tuple[str, str, int]] = {}
    for place, line in enumerate(lines):
        match = _LINE.match(line.rstrip("\n"))
        if not match:
            continue
        thread, said = match[1], match[2]
        resumed = _RESUMED.match(said)
        if resumed and thread in open_calls:
            name, text, begun = open_calls.pop(thread)
            yield Call(name, text + resumed[2], begun, place)
            continue
        name, paren, text = said.partition("(")
        if paren and said.endswith(_UNFINISHED):
            open_calls[thread] = name, text.removesuffix(_UNFINISHED), place
        elif paren:
            yield Call(name, text, place, place)


def answered_unsynced(traced: Iterable[Call], database: str, port: int, ids: Iterable[str]) -> dict[str, str]:
    """Control ids of messages whose AA went out on ``port`` before their commit was synced, with what was wrong.

    Asked for each: its bytes were read; then they were written to the write-ahead log; then, after the last write to
    that log, it was synced; only then the answer's write began. For messages that are sent one by one.
    """
    done = [call for call in traced if call.done]
    wire = [call for call in done if f":{port}->" in call.file]
    log = [call for call in done if call.file == f"{database}-wal"]
    return {name: wrong for name in ids if (wrong := _wrong(wire, log, name))}


def _wrong(wire: list[Call], log: list[Call], name: str) -> str:
    answer = next((call for call in wire if call.name in _WRITES and f"MSA|AA|{name}" in call.text), None)
    if answer is None:
        return "not answered"
    got = [call.ended for call in wire if call.name in _READS and f"|{name}|" in call.text]
    if not got or got[0] > answer.begun:
        return "answered before it was read"
    written = [call for call in log if call.name in _WRITES and got[0] < call.begun < answer.begun]
    if not any(name in call.text for call in written):
        return "answered before it was written"
    last = max(call.ended for call in written)
    if not any(call.name in _SYNCS and last < call.begun <= call.ended < answer.begun for call in log):
        return "answered before it was synced"
    return ""
