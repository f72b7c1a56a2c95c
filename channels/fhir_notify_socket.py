"""Notifications over websockets: R4's ``bind`` and ``ping``; ``bind-with-token`` and Bundles of the backport guide."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import structlog
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.errors import BridgeError, NotFound, StoreUnavailable
from bridge.state import State
from channels.fhir_access import Authorise, Caller
from channels.fhir_notify_sender import notice
from channels.fhir_subscribing import SubscriptionSettings

log = structlog.get_logger(__name__)

TOKEN = 300.0
"""Seconds for which a token binds."""
_BIND = 30.0
"""Seconds within which a connection has to be bound."""
_REFUSED = 1008
"""Close code of what policy does not allow (RFC 6455, 7.4.1)."""
_FULL = 1013


class Sockets:
    """The open websockets of a channel on this node, and the tokens by which subscriptions are bound to them."""

    def __init__(self, channel: str, subscriptions: Any, state: State, settings: SubscriptionSettings) -> None:
        self._channel, self._subscriptions, self._state, self._settings = channel, subscriptions, state, settings
        self._open: set[_Socket] = set()

    async def token(self, identifiers: Sequence[str], caller: Caller) -> tuple[str, int]:
        """A token that binds these subscriptions, and until when it does (milliseconds). It is kept as its digest."""
        token = secrets.token_urlsafe(32)
        await self._state.put({_key(token): {"ids": list(identifiers), "owner": caller.name}}, keep=TOKEN)
        return token, int((time.time() + TOKEN) * 1000)

    async def serve(self, socket: WebSocket, authorise: Authorise | None) -> None:
        """One connection, until it ends; without ``authorise`` it is turned away. Who does not show who he is, and a
        page of another origin, needs a token to bind."""
        if authorise is None or len(self._open) >= self._settings.sockets:
            await socket.close(_FULL)
            return
        caller = await _caller(socket, authorise)
        await socket.accept()
        one = _Socket(socket, self._subscriptions, self._settings)
        self._open.add(one)
        try:
            while await self._obey(one, await _word(one), caller):
                pass
            await socket.close(_REFUSED)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._open.discard(one)
            await one.end()

    def ring(self, watched: Mapping[str, Any]) -> None:
        """How the channel's subscriptions stand now."""
        for one in self._open:
            one.ring(watched)

    async def close(self) -> None:
        for one in list(self._open):
            await one.end()
            with suppress(RuntimeError):
                await one.socket.close(1001)

    async def _obey(self, one: _Socket, text: str, caller: Caller | None) -> bool:
        """Do what a client says; whether it may go on."""
        word, _, said = text.strip().partition(" ")
        if word == "bind" and said and caller:
            identifiers, owner = [said.strip()], caller.name
        elif word == "bind-with-token" and said:
            known = (await self._state.get([_key(said.strip())])).get(_key(said.strip()))
            if known is None:
                return False
            identifiers, owner = known["ids"], known["owner"]
        else:
            return False
        for identifier in identifiers:
            try:
                found = await asyncio.to_thread(self._subscriptions.find, identifier)
            except NotFound:
                return False
            wants = found.wants
            if found.channel != self._channel or found.owner != owner or not wants or wants.channel != "websocket":
                return False
            await one.bind(found)
        return True


class _Socket:
    """A connection and what is bound to it."""

    def __init__(self, socket: WebSocket, subscriptions: Any, settings: SubscriptionSettings) -> None:
        self.socket, self._subscriptions, self._settings = socket, subscriptions, settings
        self._bound: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._seen: Mapping[str, Any] = {}

    @property
    def bound(self) -> bool:
        return bool(self._bound)

    async def bind(self, one: Any) -> None:
        if one.id in self._bound:
            return
        if one.wants.topic:
            await self._say(notice(one, "handshake"))
        else:
            await self._say(f"bound {one.id}")
        bell = asyncio.Event()
        task = asyncio.create_task(self._serve(one.id, one.delivered, bell), name=f"subscription {one.id}")
        self._bound[one.id] = (bell, task)
        log.info("websocket_bound", subscription=one.id)

    def ring(self, watched: Mapping[str, Any]) -> None:
        for identifier, (bell, _) in self._bound.items():
            if self._seen.get(identifier) != watched.get(identifier):
                bell.set()
        self._seen = watched

    async def end(self) -> None:
        for _, task in self._bound.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._bound.values()), return_exceptions=True)
        self._bound = {}

    async def _serve(self, identifier: str, position: int, bell: asyncio.Event) -> None:
        """Send what comes after event number ``position``, until the subscription or the connection ends."""
        spoken, wait = time.monotonic(), 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await bell.wait()
            bell.clear()
            try:
                one = await asyncio.to_thread(self._subscriptions.find, identifier)
                if one.status == "off" or one.wants is None:
                    return
                former, position = position, await self._further(one, position)
                beat = one.wants.heartbeat if one.wants.topic else 0
                if position > former:
                    spoken, wait = time.monotonic(), 0.0
                elif beat and time.monotonic() - spoken >= beat:
                    await self._say(notice(one, "heartbeat"))
                    spoken, wait = time.monotonic(), float(beat)
                else:
                    wait = max(0.0, spoken + beat - time.monotonic()) if beat else 3600.0
            except NotFound:
                return
            except StoreUnavailable:
                wait = 1.0
            except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
                with suppress(RuntimeError):
                    await self.socket.close(_FULL)
                return
            except Exception:
                log.exception("notification_failed", subscription=identifier)
                return

    async def _further(self, one: Any, position: int) -> int:
        """Send the next events, if it is active; the number of the last one."""
        if one.status != "active" or one.events <= position:
            return position
        most, whole = one.wants.max_count, one.wants.topic is not None and one.wants.content == "full-resource"
        events = await asyncio.to_thread(self._subscriptions.events, one.id, position, most, whole=whole)
        if not events:
            await asyncio.to_thread(self._subscriptions.told, one, one.events)
            return int(one.events)
        if one.wants.topic:
            await self._say(notice(one, "event-notification", events))
        else:
            for _ in events:
                await self._say(f"ping {one.id}")
        last: int = events[-1].number
        await asyncio.to_thread(self._subscriptions.told, one, last)
        return last

    async def _say(self, text: str | bytes) -> None:
        """Raises TimeoutError if the client does not read."""
        async with asyncio.timeout(self._settings.timeout):
            await self.socket.send_text(text if isinstance(text, str) else text.decode())


async def _word(one: _Socket) -> str:
    """What a client says; nothing if it says nothing in time while nothing is bound, or sends bytes."""
    try:
        async with asyncio.timeout(None if one.bound else _BIND):
            return await one.socket.receive_text()
    except (TimeoutError, KeyError):
        return ""


async def _caller(socket: WebSocket, authorise: Authorise) -> Caller | None:
    origin = socket.headers.get("origin", "")
    if origin and origin.partition("://")[2] != socket.headers.get("host", ""):
        return None
    try:
        return await authorise(Request({**socket.scope, "type": "http", "method": "GET"}))
    except BridgeError:
        return None


def _key(token: str) -> str:
    return f"websocket:{sha256(token.encode()).hexdigest()}"
