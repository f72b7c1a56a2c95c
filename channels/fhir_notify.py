"""Notifications of a ``fhir-server``: its subscriptions' events are found, and each has its own sender.

One node at a time finds events and posts; each node serves the websockets that are open at it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import httpx
import structlog

from bridge.errors import BridgeError, StoreUnavailable
from bridge.state import State
from channels.fhir_notify_sender import Sender
from channels.fhir_notify_socket import Sockets
from channels.fhir_subscribing import Subscribing

log = structlog.get_logger(__name__)

_POLL = 0.5
"""Seconds between two looks at what was written, unless the bell rings."""
_REST = 0.05
"""At least so many, however much is written."""
_TURN = 5.0
"""Seconds for which a node keeps the sending without asking again, so long does it rest after the node's death."""
_RENEW = 1.0


class Notifier:
    """Finds events and sends notifications while it runs."""

    def __init__(self, channel: str, subscriptions: Any, state: State, subscribing: Subscribing) -> None:
        self._channel, self._subscriptions, self._state, self._subscribing = channel, subscriptions, state, subscribing
        self.sockets = Sockets(channel, subscriptions, state, subscribing.settings)
        self._senders: dict[str, Sender] = {}
        self._seen: dict[str, Any] = {}
        self._client: httpx.AsyncClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._mine, self._renewed = False, 0.0

    def start(self) -> None:
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None, limits=unlimited)
        self._task = asyncio.create_task(self._run(), name=f"subscriptions {self._channel}")

    async def stop(self) -> None:
        """Returns when nothing is sent any more, and another node may go on."""
        if self._task is None or self._client is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        await self._rest()
        await self.sockets.close()
        await self._client.aclose()
        if self._mine:
            with suppress(BridgeError):
                await self._state.turn(0)

    async def _run(self) -> None:
        while True:
            self._subscribing.bell.clear()
            try:
                await self._look()
            except StoreUnavailable as error:
                log.warning("subscriptions_waited", channel=self._channel, what=error.what)
            except Exception:
                log.exception("channel_failed", channel=self._channel)
            await asyncio.sleep(_REST)
            with suppress(TimeoutError):  # not wait_for(): in Python 3.11 that can swallow what cancels it
                async with asyncio.timeout(_POLL - _REST):
                    await self._subscribing.bell.wait()

    async def _look(self) -> None:
        watched = await asyncio.to_thread(self._subscriptions.of, self._channel)
        if watched and await self._turn():
            while await asyncio.to_thread(self._subscriptions.gather, self._channel):
                await self._turn()
            watched = await asyncio.to_thread(self._subscriptions.of, self._channel)
            self._fit({one.id: one for one in watched})
        elif self._senders:
            await self._rest()
        self.sockets.ring({one.id: one for one in watched})

    async def _turn(self) -> bool:
        """Whether this node sends now."""
        if not self._mine or time.monotonic() - self._renewed > _RENEW:
            self._renewed = time.monotonic()
            self._mine = await self._state.turn(_TURN)
        return self._mine

    def _fit(self, watched: dict[str, Any]) -> None:
        """A sender for each subscription, and those rung whose subscription has changed."""
        assert self._client is not None
        self._senders = {name: sender for name, sender in self._senders.items() if not sender.ended}
        for name in watched:
            if name not in self._senders:
                self._senders[name] = Sender(name, self._subscriptions, self._client, self._subscribing)
        for name, sender in self._senders.items():
            if self._seen.get(name) != watched.get(name):
                sender.ring()
        self._seen = watched

    async def _rest(self) -> None:
        senders, self._senders, self._seen = self._senders, {}, {}
        await asyncio.gather(*(sender.stop() for sender in senders.values()))
