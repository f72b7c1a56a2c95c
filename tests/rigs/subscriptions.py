"""Subscriptions as clients write them: plain R4, and by topic; and a client that waits for what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

Json = dict[str, Any]
HEADERS = {"content-type": "application/fhir+json"}
_EXTENSION = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"


def extension(name: str, **value: Any) -> Json:
    return {"url": f"{_EXTENSION}{name}", **value}


def plain(criteria: str, endpoint: str = "", mime: str = "", **more: Any) -> Json:
    """R4's own; without an endpoint by websocket."""
    channel: Json = {"type": "rest-hook", "endpoint": endpoint} if endpoint else {"type": "websocket"}
    if mime:
        channel["payload"] = mime
    return _made(criteria, channel, **more)


def topical(topic: str, endpoint: str = "", content: str = "id-only", *filters: str, **more: Any) -> Json:
    """By a topic; ``heartbeat``, ``max_count`` and ``timeout`` are numbers, without an endpoint by websocket."""
    numbers = {"heartbeat": "heartbeat-period", "timeout": "timeout", "max_count": "max-count"}
    channel: Json = {"type": "rest-hook", "endpoint": endpoint} if endpoint else {"type": "websocket"}
    channel["payload"] = "application/fhir+json"
    channel["_payload"] = {"extension": [extension("payload-content", valueCode=content)]}
    said = [
        extension(name, **{"valuePositiveInt" if key == "max_count" else "valueUnsignedInt": more.pop(key)})
        for key, name in numbers.items()
        if key in more
    ]
    if said:
        channel["extension"] = said
    if filters:
        more["_criteria"] = {"extension": [extension("filter-criteria", valueString=one) for one in filters]}
    return _made(f"urn:radbridge:topic:{topic}", channel, **more)


def _made(criteria: str, channel: Json, **more: Any) -> Json:
    if header := more.pop("header", None):
        channel["header"] = header
    said = {"status": "requested", "reason": "a test", "criteria": criteria, "channel": channel}
    return {"resourceType": "Subscription", **said, **more}


class Client(httpx.AsyncClient):
    """Writes to the facade, and waits for what becomes of it. Its subscriptions end with it."""

    def __init__(self, base: str) -> None:
        super().__init__(base_url=base, timeout=30, trust_env=False)
        self._subscriptions: list[str] = []

    async def __aexit__(self, *error: Any) -> None:
        for identifier in self._subscriptions:
            with suppress(httpx.TransportError):
                await self.delete(f"/Subscription/{identifier}")
        await super().__aexit__(*error)

    async def made(self, resource: dict[str, Any]) -> dict[str, Any]:
        response = await self.post(f"/{resource['resourceType']}", json=resource, headers=HEADERS)
        assert response.status_code == 201, response.text
        found: dict[str, Any] = response.json()
        if found["resourceType"] == "Subscription":
            self._subscriptions.append(found["id"])
        return found

    async def changed(self, resource: dict[str, Any], **more: Any) -> dict[str, Any]:
        url = f"/{resource['resourceType']}/{resource['id']}"
        response = await self.put(url, json={**resource, **more}, headers=HEADERS)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def refused(self, resource: dict[str, Any]) -> tuple[int, str]:
        """Status, and the element that is at fault."""
        response = await self.post(f"/{resource['resourceType']}", json=resource, headers=HEADERS)
        return response.status_code, response.json()["issue"][0]["expression"][0]

    async def becomes(self, subscription: dict[str, Any], status: str) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while (now := await self.one(subscription))["status"] != status:
                await asyncio.sleep(0.05)
        return now

    async def one(self, subscription: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(f"/Subscription/{subscription['id']}")).json()
        return found

    async def active(self, subscription: dict[str, Any]) -> dict[str, Any]:
        return await self.becomes(await self.made(subscription), "active")


async def comes(ready: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.02)
