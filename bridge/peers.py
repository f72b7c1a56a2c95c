"""What a channel keeps of those who connect to it: bytes that belonged to no message, connections it did not let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(slots=True)
class PeerRecord:
    """What a channel keeps of one peer. ``sample`` may hold patient content: seeing it is a right."""

    discarded: int = 0
    """Bytes that belonged to no message."""
    sample: str = ""
    """The first of those on the last such connection, in hex."""
    refused: int = 0
    """Connections that were not let in."""
    why: str = ""
    """Why the last one was not."""


class PeerBook:
    """A channel's records by the peer's host (the latest 256), and the totals of all."""

    _KEPT = 256

    def __init__(self) -> None:
        self.records: dict[str, PeerRecord] = {}
        self.discarded_bytes = 0
        self.refused_connections = 0

    def note_discarded(self, host: str, count: int, sample: bytes) -> None:
        record = self._record(host)
        record.discarded += count
        record.sample = sample.hex()
        self.discarded_bytes += count

    def note_refused(self, host: str, why: str) -> None:
        record = self._record(host)
        record.refused += 1
        record.why = why
        self.refused_connections += 1

    def _record(self, host: str) -> PeerRecord:
        record = self.records.pop(host, None) or PeerRecord()
        self.records[host] = record
        while len(self.records) > self._KEPT:
            del self.records[next(iter(self.records))]
        return record


@runtime_checkable
class Watching(Protocol):
    """A channel that keeps a book of its peers."""

    peers: PeerBook
