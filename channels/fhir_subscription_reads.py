"""What a ``fhir-server`` answers about subscriptions: their topics, how they stand, former events, binding tokens
(Subscriptions R5 Backport 1.1)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.responses import Response

from bridge.codecs.fhir import encode
from bridge.errors import BridgeError, NotFound
from bridge.fhir import notification
from bridge.fhir.reading import read
from bridge.fhir.topics import TOPICS, described
from channels.fhir_exchange import Asked, bundle, entry, moment, told
from channels.fhir_notify_sender import state_of
from channels.fhir_notify_socket import Sockets
from channels.fhir_routes import Table

_PAGE = 100
_STATUSES = ("requested", "active", "error", "off")
WEBSOCKET = "/websocket"
"""Path of the websocket, below the service's."""


class SubscriptionReads:
    def __init__(self, channel: str, subscriptions: Any, sockets: Sockets) -> None:
        self._channel, self._subscriptions, self._sockets = channel, subscriptions, sockets

    def table(self) -> Table:
        status, token = ({"GET": one, "POST": one} for one in (self.status, self.token))
        return {
            "/SubscriptionTopic": {"GET": self.topics},
            "/SubscriptionTopic/{id}": {"GET": self.topic},
            "/Subscription/$status": status,
            "/Subscription/{id}/$status": status,
            "/Subscription/{id}/$events": {"GET": self.events, "POST": self.events},
            "/Subscription/$get-ws-binding-token": token,
            "/Subscription/{id}/$get-ws-binding-token": token,
        }

    async def topics(self, asked: Asked) -> Response:
        """What can be subscribed to, as R5 describes it."""
        asked.caller.check("read", "Subscription")
        url = dict(asked.query).get("url", "")
        found = [topic for topic in TOPICS.values() if url in ("", topic.url)]
        entries = [
            entry(
                {"fullUrl": asked.url("SubscriptionTopic", topic.name), "search": {"mode": "match"}},
                encode(described(topic)),
            )
            for topic in found
        ]
        return bundle(asked, "searchset", entries, {"self": asked.link(asked.query)}, len(found))

    async def topic(self, asked: Asked) -> Response:
        asked.caller.check("read", "Subscription")
        found = next((topic for topic in TOPICS.values() if topic.name == asked.id), None)
        if found is None:
            raise NotFound("no such topic", at="SubscriptionTopic", fix="GET SubscriptionTopic lists them")
        return told(described(found), pretty=asked.pretty)

    async def status(self, asked: Asked) -> Response:
        """$status: of one, or of the caller's."""
        found = await self._asked_for(asked)
        statuses = _said(asked, "status")
        if statuses and not asked.id:
            found = [one for one in found if one.status in statuses]
        entries = []
        for one in found:
            made = notification.status_entry(state_of(one), "query-status")
            entries.append(entry({"fullUrl": made["fullUrl"], "search": {"mode": "match"}}, encode(made["resource"])))
        return bundle(asked, "searchset", entries, {"self": asked.link(asked.query)}, len(found))

    async def events(self, asked: Asked) -> Response:
        """$events: what was, or is still to be, told; at most a hundred, and fewer large ones."""
        (one,) = await self._asked_for(asked)
        since, until = _number(asked, "eventsSinceNumber", 1), _number(asked, "eventsUntilNumber", one.events)
        topic = one.wants and one.wants.topic
        wanted = next(iter(_said(asked, "content")), one.wants.content if topic else "id-only")
        if wanted not in ("empty", "id-only", "full-resource"):
            raise BridgeError("no such content", at="content", fix="empty, id-only or full-resource", kind="search")
        whole = wanted == "full-resource"
        events = await asyncio.to_thread(self._subscriptions.events, one.id, since - 1, _PAGE, until, whole=whole)
        now = int(time.time() * 1000)
        made = notification.bundle(state_of(one), "query-event", wanted, now, events)  # type: ignore[arg-type]
        return told(made, pretty=asked.pretty)

    async def token(self, asked: Asked) -> Response:
        """$get-ws-binding-token: for one, those that are named, or all of the caller's."""
        found = [one for one in await self._asked_for(asked) if one.wants and one.wants.channel == "websocket"]
        if not found:
            raise NotFound("no subscription with a websocket", at="Subscription", fix="make one first")
        token, until = await self._sockets.token([one.id for one in found], asked.caller)
        parameters = [
            {"name": "token", "valueString": token},
            {"name": "expiration", "valueDateTime": moment(until)},
            *({"name": "subscription", "valueString": one.id} for one in found),
            {"name": "websocket-url", "valueUrl": websocket_url(asked.base)},
        ]
        return told({"resourceType": "Parameters", "parameter": parameters}, pretty=asked.pretty)

    async def _asked_for(self, asked: Asked) -> list[Any]:
        """The caller's own subscriptions that a request is about. Raises NotFound for one that is not."""
        asked.caller.check("read", "Subscription")
        found = await asyncio.to_thread(self._subscriptions.of, self._channel, _STATUSES)
        own = {one.id: one for one in found if one.owner == asked.caller.name}
        wanted = [asked.id] if asked.id else _said(asked, "id")
        if any(identifier not in own for identifier in wanted):
            raise NotFound("no such subscription of yours", at="Subscription", fix="name one that you made here")
        return [own[identifier] for identifier in wanted] if wanted else list(own.values())


def websocket_url(base: str) -> str:
    """Where the service at ``base`` has its websocket."""
    return f"ws{base.removeprefix('http')}{WEBSOCKET}"


def _said(asked: Asked, name: str) -> list[str]:
    """The values of a parameter, of the URL or of Parameters in the body."""
    values = [part for key, value in asked.query if key == name for part in value.split(",") if part]
    if asked.method == "POST" and asked.body:
        parameters = read(asked.body)
        listed = parameters.get("parameter", []) if isinstance(parameters, dict) else []
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and one.get("name") == name:
                values += [str(value) for key, value in one.items() if key.startswith("value")]
    return values


def _number(asked: Asked, name: str, default: int) -> int:
    said = _said(asked, name)
    if not said:
        return default
    if not (said[0].isascii() and said[0].isdigit() and len(said[0]) < 16):
        raise BridgeError("not an event number", at=name, fix="write a number", kind="search")
    return int(said[0])
