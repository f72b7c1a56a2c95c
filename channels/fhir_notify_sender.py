"""One subscription's life on the node that sends: handshake, notifications by rest-hook, failures, its end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx
import structlog

from bridge.errors import BridgeError, NotFound, StoreUnavailable, Temporary
from bridge.fhir import notification
from bridge.fhir.notification import Event
from bridge.fhir.subscription import Subscription
from channels import http_client
from channels.fhir_subscribing import Subscribing

log = structlog.get_logger(__name__)

_HOUR = 3600.0
_ANSWER = 65_536
"""Bytes of an answer that are read, so that the connection can be used again."""


class Sender:
    """Works until its subscription is off or gone. Others do not wait for it."""

    def __init__(
        self, identifier: str, subscriptions: Any, client: httpx.AsyncClient, subscribing: Subscribing
    ) -> None:
        self._id, self._subscriptions, self._client = identifier, subscriptions, client
        self._subscribing, self._settings = subscribing, subscribing.settings
        self._bell = asyncio.Event()
        self._asked = 0
        self._not_before = 0.0
        """On the monotonic clock; until then nothing is tried."""
        self._spoken = time.monotonic()
        self._task = asyncio.create_task(self._run(), name=f"subscription {identifier}")

    @property
    def ended(self) -> bool:
        return self._task.done()

    def ring(self) -> None:
        """Something about it has changed."""
        self._bell.set()

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        wait = 0.0
        while wait >= 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._bell.wait()
            self._bell.clear()
            try:
                wait = await self._step()
            except NotFound:
                return
            except StoreUnavailable:
                wait = 1.0
            except Exception:
                log.exception("notification_failed", subscription=self._id)
                wait = self._settings.longest

    async def _step(self) -> float:
        """Do what is due; seconds until something may be again, below 0: never."""
        one = await asyncio.to_thread(self._subscriptions.find, self._id)
        now = time.time() * 1000
        if one.asked != self._asked:
            self._asked, self._not_before = one.asked, 0.0
        if one.status == "off":
            return -1.0
        if one.wants is None:
            return await self._cannot(one, one.error)
        if one.wants.end is not None and now >= one.wants.end:
            return await self._turn_off(one, "its end has come")
        if one.status == "error" and now - one.since >= self._settings.give_up * 1000:
            return await self._turn_off(one, one.error)
        wait = self._not_before - time.monotonic()
        if wait <= 0:
            wait = await self._proceed(one, one.wants)
        return wait if one.wants.end is None else max(0.0, min(wait, (one.wants.end - now) / 1000))

    async def _proceed(self, one: Any, wants: Subscription) -> float:
        try:
            self._subscribing.allow(wants)
        except BridgeError as error:
            return await self._cannot(one, error.what)
        if wants.channel == "websocket":
            if one.status != "active":
                await self._settle(one, "active")
            return _HOUR
        try:
            return await self._hook(one, wants)
        except Temporary as error:
            return await self._failed(one, error)

    async def _hook(self, one: Any, wants: Subscription) -> float:
        if one.status == "requested" or (one.status == "error" and wants.topic):
            if wants.topic:
                await self._post(one, wants, notice(one, "handshake"))
            await self._settle(one, "active")
            return 0.0
        if one.pending:
            events = await asyncio.to_thread(self._events, one, wants)
            if not events:
                await asyncio.to_thread(self._subscriptions.told, one, one.events)
                return 0.0
            await self._notify(one, wants, events)
            await asyncio.to_thread(self._subscriptions.told, one, events[-1].number)
            log.info("notification_sent", subscription=one.id, number=events[-1].number, count=len(events))
            if one.status == "error":
                await self._settle(one, "active")
            return 0.0
        if one.status == "error":
            await self._settle(one, "active")
            return 0.0
        if not wants.heartbeat or not wants.topic:
            return _HOUR
        due = self._spoken + wants.heartbeat - time.monotonic()
        if due <= 0:
            await self._post(one, wants, notice(one, "heartbeat"))
            due = wants.heartbeat
        return min(due, _HOUR)

    def _events(self, one: Any, wants: Subscription) -> list[Event]:
        most = wants.max_count if wants.topic else 1
        whole = wants.content == "full-resource" and bool(wants.mime)
        found: list[Event] = self._subscriptions.events(one.id, one.delivered, most, whole=whole)
        return found

    async def _notify(self, one: Any, wants: Subscription, events: list[Event]) -> None:
        if wants.topic:
            await self._post(one, wants, notice(one, "event-notification", events))
        elif not wants.mime:
            await self._post(one, wants, b"")
        else:
            (event,) = events
            url = f"{wants.endpoint.rstrip('/')}/{event.type}/{event.id}"
            await self._post(one, wants, event.body, method="PUT", url=url)

    async def _post(
        self, one: Any, wants: Subscription, content: bytes, *, method: str = "POST", url: str = ""
    ) -> None:
        """Raises Temporary, which tells nothing of the address: it may hold a secret."""
        headers = dict(one.headers)
        if wants.mime and content:
            headers["Content-Type"] = wants.mime
        seconds = min(wants.timeout or self._settings.timeout, self._settings.timeout)
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(method, url or wants.endpoint, content=content, headers=headers) as answer,
            ):
                await _read(answer)
        except TimeoutError:
            raise Temporary(f"no answer within {seconds:g} s") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Temporary(f"no connection or no answer ({type(error).__name__})") from None
        if not answer.is_success:
            raise Temporary(f"HTTP {answer.status_code}", retry_after=http_client.retry_after(answer))
        self._spoken = time.monotonic()

    async def _failed(self, one: Any, error: Temporary) -> float:
        await asyncio.to_thread(self._subscriptions.failed, one, error.what)
        failures, settings = one.failures + 1, self._settings
        log.warning("notification_not_taken", subscription=one.id, failures=failures, what=error.what)
        if one.status != "error" and (one.status == "requested" or failures >= settings.attempts):
            await self._settle(one, "error", error.what)
        pause: float = min(settings.first * 2.0 ** min(failures - 1, 30), settings.longest)
        if error.retry_after:
            pause = max(pause, min(error.retry_after, _HOUR))
        pause *= random.uniform(0.9, 1.1)
        self._not_before = time.monotonic() + pause
        return pause

    async def _cannot(self, one: Any, why: str) -> float:
        if one.status != "error":
            await self._settle(one, "error", why)
        return _HOUR

    async def _turn_off(self, one: Any, why: str) -> float:
        await self._settle(one, "off", why)
        return -1.0

    async def _settle(self, one: Any, status: str, error: str = "") -> None:
        await asyncio.to_thread(self._subscriptions.settle, one, status, _now(), error)
        log.info("subscription_changed", subscription=one.id, status=status, what=error)


def notice(one: Any, kind: notification.Kind, events: Sequence[Event] = ()) -> bytes:
    """A notification for a subscription by topic; of the same events always the same."""
    at = events[-1].at if events else _now()
    return notification.bundle(state_of(one, events), kind, one.wants.content, at, events)


def state_of(one: Any, events: Sequence[Event] = ()) -> notification.State:
    """How a subscription stands when ``events`` are told."""
    topic = one.wants.topic.url if one.wants and one.wants.topic else ""
    count = events[-1].number if events else one.events
    return notification.State(one.base, one.id, topic, one.status, count, one.error if one.status == "error" else "")


async def _read(answer: httpx.Response) -> None:
    read = 0
    async for part in answer.aiter_raw():
        read += len(part)
        if read > _ANSWER:
            return


def _now() -> int:
    return int(time.time() * 1000)
