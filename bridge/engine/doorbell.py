"""Doorbells: they wake the owner of a destination after a commit.

They carry names only; losing one only delays (law 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Ring = Callable[[str], None]
"""Called in the event loop with a destination's name."""


class LocalDoorbell:
    """Rings the deliverers of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Ring) -> None:
        self._loop, self._ring = loop, ring

    def announce(self, destinations: set[str]) -> None:
        """Ring for ``destinations``. Thread-safe; called in the writer thread after each commit."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring_all, destinations)

    def tell_others(self, destinations: set[str]) -> None:
        """Ring at the other nodes only: there are none."""

    def _ring_all(self, destinations: set[str]) -> None:
        for destination in destinations:
            self._ring(destination)

    def listen(self, destinations: frozenset[str]) -> None:
        """Everything rings here anyway."""

    def close(self) -> None:
        """Nothing to end."""


def make_doorbell(loop: asyncio.AbstractEventLoop, ring: Ring, broker_url: str) -> LocalDoorbell:
    """A broker's doorbell when one is configured, else the local one."""
    if not broker_url:
        return LocalDoorbell(loop, ring)
    from bridge.engine.broker_bell import BrokerDoorbell

    return BrokerDoorbell(loop, ring, broker_url)
