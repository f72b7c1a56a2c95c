"""Turns: a burst of arrivals leaves the event loop to deliveries in between."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets in one message in each turn of the event loop, in the sequence in which they came.

    A lane that keeps its sequence takes a step per turn: were all that many senders sent read in one, what is owed
    would grow while they send. The first to come need not wait.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False
        """Somebody was let in, in this turn or the one before."""

    async def mine(self) -> None:
        """Returns when it is the caller's turn."""
        loop = asyncio.get_running_loop()
        if self._taken:
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.append(future)
            await future
        else:
            self._taken = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._taken = False
