"""Who was given which step, and when: noted while answers go out, written afterwards in one go.

The notes of the last seconds may be lost with the process: they tell people what happened, and decide nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog

from bridge.errors import BridgeError

log = structlog.get_logger(__name__)

_EVERY = 2.0
"""Seconds between two writes."""
_LOOK = 15
"""Writes between two looks for steps that nobody fetched."""
_MEMORY = timedelta(days=1)
"""A step that was due before that raises no alert any more: the site was just set up, or was down."""


class Served:
    """Takes notes from any thread; :meth:`keep` writes them for as long as it runs."""

    def __init__(self, worklist: Any, channel: str, after: float | None, now: Callable[[], datetime]) -> None:
        self._worklist, self._channel, self._after, self._now = worklist, channel, after, now
        self._notes: dict[tuple[int, str], tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    def note(self, caller: str, items: Iterable[int]) -> None:
        """These items went to this AE title, now."""
        at = int(self._now().timestamp() * 1000)
        with self._lock:
            for item in items:
                first, _, times = self._notes.get((item, caller), (at, at, 0))
                self._notes[item, caller] = (first, at, times + 1)

    async def keep(self) -> None:
        """Write every few seconds, and look for what nobody fetched, until cancelled."""
        rounds = 0
        while True:
            await asyncio.sleep(_EVERY)
            rounds += 1
            await asyncio.to_thread(self.write)
            if self._after is not None and rounds % _LOOK == 1:
                await asyncio.to_thread(self.alert)

    def write(self) -> None:
        """Write what was noted; what cannot be written now stays noted."""
        with self._lock:
            notes, self._notes = self._notes, {}
        if not notes:
            return
        try:
            self._worklist.note_served([(*key, *when) for key, when in notes.items()])
        except BridgeError as error:
            log.warning("served_notes_not_written", channel=self._channel, notes=len(notes), what=error.what)
            with self._lock:
                self._notes = notes | self._notes

    def alert(self) -> None:
        """One alert for each scheduled step that nobody fetched in time."""
        due = self._now() - timedelta(seconds=self._after or 0)
        try:
            found = self._worklist.unfetched(due - _MEMORY, due)
        except BridgeError as error:
            log.warning("unfetched_steps_not_looked_for", channel=self._channel, what=error.what)
            return
        for item, stations in found:
            log.warning("worklist_item_not_fetched", channel=self._channel, item=item, stations=stations)
