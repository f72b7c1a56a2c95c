"""The sequence of one destination's deliveries, in memory: which may go next. No clock, no store."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from bridge.message import shared_keys
from bridge.store.deliveries import Owed


@dataclass(slots=True)
class Entry:
    """A claimed delivery and when it may go; ``due`` is on the caller's clock, seconds."""

    owed: Owed
    due: float = 0.0
    rendered: bytes | None = None
    control_id: str = ""
    format: str = "hl7v2"
    failure: BaseException | None = None
    """Rendering failed: it dies at its turn, not before."""

    shared: frozenset[str] = field(init=False)
    """Keys that it holds together with others."""
    alone: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.shared = shared_keys(self.keys)
        self.alone = frozenset(self.keys) - self.shared

    @property
    def keys(self) -> tuple[str, ...]:
        return self.owed.delivery.keys

    @property
    def position(self) -> int:
        return self.owed.delivery.position


@dataclass(slots=True)
class Lanes:
    """Claimed deliveries in sequence. One may go when no earlier one that has not ended shares a key with it, but for a
    key that both hold together with others."""

    waiting: list[Entry] = field(default_factory=list)
    busy: dict[str, Entry] = field(default_factory=dict)
    """Under way, by delivery id: their keys are held."""
    unmarked: set[str] = field(default_factory=set)
    """Sent, their end not yet committed: keys are free, but they must not be claimed again."""

    def add(self, entries: list[Entry]) -> None:
        """Append newly claimed ones, leaving out what is known."""
        known = self.known()
        for entry in entries:
            if entry.owed.delivery.id not in known:
                insort(self.waiting, entry, key=_position)

    def known(self) -> set[str]:
        return {entry.owed.delivery.id for entry in self.waiting} | self.busy.keys() | self.unmarked

    def take(self, now: float) -> Entry | None:
        """The lowest that may go now, moved to busy; None if there is none."""
        alone: set[str] = set()
        shared: set[str] = set()
        for entry in self.busy.values():
            alone |= entry.alone
            shared |= entry.shared
        for index, entry in enumerate(self.waiting):
            free = entry.alone.isdisjoint(alone) and entry.alone.isdisjoint(shared) and entry.shared.isdisjoint(alone)
            if free and entry.due <= now:
                del self.waiting[index]
                self.busy[entry.owed.delivery.id] = entry
                return entry
            alone |= entry.alone
            shared |= entry.shared
        return None

    def again(self, entry: Entry, due: float) -> None:
        """Back to its place, to be tried when ``due``; nothing on its keys overtakes it."""
        del self.busy[entry.owed.delivery.id]
        entry.due = due
        insort(self.waiting, entry, key=_position)

    def sent(self, entry: Entry) -> None:
        """Its keys are free; it stays known until :meth:`marked`."""
        del self.busy[entry.owed.delivery.id]
        self.unmarked.add(entry.owed.delivery.id)

    def marked(self, identifier: str) -> None:
        self.unmarked.discard(identifier)
        self.busy.pop(identifier, None)

    def forget_waiting(self) -> None:
        """Drop what is not under way; it is claimed again in its true sequence."""
        self.waiting.clear()

    def next_due(self, now: float) -> float | None:
        """When the next retry falls due; None if none is waited for."""
        return min((entry.due for entry in self.waiting if entry.due > now), default=None)

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is under way, everything is marked."""
        return not (self.waiting or self.busy or self.unmarked)


def _position(entry: Entry) -> int:
    return entry.position
