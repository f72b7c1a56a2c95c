"""``fhir-in``: asks a FHIR R4 server that cannot tell by itself what is new (docs/fhir-client.md).

Each new version of a resource is one message. What was taken is known by a cursor that is kept in the store: the newest
``meta.lastUpdated``, and the versions that were seen shortly before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

import httpx
import structlog
from pydantic import AfterValidator, AwareDatetime, Field

from bridge.codecs.fhir_page import Found, Page, collection, read_page
from bridge.errors import BridgeError, Temporary
from bridge.ports import ChannelType, Duration, Inbound, Names, Receive, Services, SourceSettings
from channels.fhir_client import FhirClient, FhirClientSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")

_NOT_STORED = ("overload", "unavailable")
_LONGEST = 300.0
"""Longest pause, in seconds, while the server is away."""
_TURN = 9.0
"""Seconds for which a node has the turn to poll; it renews it three times as often."""


def _search(text: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Za-z]+(\?[!-~]{1,200})?", text):
        raise ValueError("write a resource type, or a search such as ServiceRequest?status=active")
    if taken := set(re.findall(r"[?&](_lastUpdated|_sort|_count|_include)\b", text)):
        raise ValueError(f"{', '.join(sorted(taken))} is set by the channel")
    return text


class FhirInSettings(FhirClientSettings, SourceSettings):
    """A FHIR R4 server that is asked for what is new."""

    format: Literal["fhir"] = "fhir"
    """What arrives: FHIR resources."""
    search: Annotated[Names, Field(min_length=1), AfterValidator(lambda names: tuple(map(_search, names)))]
    """What to ask for: resource types, or searches such as ServiceRequest?category=363679005."""
    include: Names = ()
    """What comes along, as `_include` has it: ServiceRequest:subject. Then each message is a Bundle of the resource and
    of what it refers to."""
    since: AwareDatetime | None = None
    """Where the first poll begins, such as 2026-01-01T00:00:00Z; empty: with what changes from then on."""
    interval: Duration = Field(30.0, gt=0)
    """Pause between two polls."""
    overlap: Duration = Field(120.0, ge=0)
    """How far back each poll looks: for clocks of several server nodes that differ, and searches that find what is new
    only later."""
    count: int = Field(100, ge=1, le=1000)
    """Resources in a page."""


@dataclass(slots=True)
class _Cursor:
    """How far one search has come."""

    start: datetime
    newest: datetime
    seen: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    """The versions that were taken, and when they were made; those too old to be found again are left out."""

    @classmethod
    def of(cls, kept: Any) -> _Cursor:
        seen = {name: (version, datetime.fromisoformat(at)) for name, (version, at) in kept["seen"].items()}
        return cls(datetime.fromisoformat(kept["start"]), datetime.fromisoformat(kept["newest"]), seen)

    def kept(self) -> dict[str, Any]:
        seen = {name: [version, at.isoformat()] for name, (version, at) in self.seen.items()}
        return {"start": self.start.isoformat(), "newest": self.newest.isoformat(), "seen": seen}

    def since(self, overlap: float) -> datetime:
        """Where the next poll begins."""
        return max(self.start, self.newest - timedelta(seconds=overlap))

    def knows(self, one: Found) -> bool:
        return one.name in self.seen and self.seen[one.name][0] == one.version

    def take(self, one: Found, now: datetime) -> None:
        self.seen[one.name] = (one.version, one.updated or now)

    def advance(self, newest: datetime, now: datetime, overlap: float) -> bool:
        """Nothing is left of before ``newest``; whether that is news. A time in the future is not believed: what comes
        after it would be made before it."""
        former, self.newest = self.newest, max(self.newest, min(newest, now))
        since = self.since(overlap)
        self.seen = {name: one for name, one in self.seen.items() if one[1] >= since}
        return self.newest > former


class _Stopped(Exception):
    """The channel stops: what is under way is left."""


class FhirIn:
    """Polls one server, one request and one message at a time.

    The cursor is written after the messages of a page are committed: a crash in between makes them come again, and
    their receipts (``Type/id/_history/version``) answer the same (law 5).
    """

    def __init__(self, settings: FhirInSettings, services: Services) -> None:
        self._settings, self._channel, self._state = settings, services.name, services.state
        self._client = FhirClient(settings)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._mine = False
        """It is this node's turn to poll."""

    @property
    def endpoint(self) -> str:
        return self._client.endpoint

    async def start(self, receive: Receive) -> None:
        self._stopping.clear()
        self._task = asyncio.create_task(self._serve(receive), name=f"fhir-in {self._channel}")

    async def stop(self) -> None:
        """Returns when the message under way, if any, is answered."""
        if self._task:
            self._stopping.set()
            await self._task
            self._task = None

    async def close(self) -> None:
        await self._client.close()

    async def _serve(self, receive: Receive) -> None:
        """Poll whenever it is this node's turn, until the channel stops."""
        await self._take_turn(_TURN)
        renewing = asyncio.create_task(self._renew())
        await self._watch(receive)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await self._take_turn(0)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_TURN / 3)
            await self._take_turn(_TURN)

    async def _take_turn(self, seconds: float) -> None:
        try:
            self._mine = await self._state.turn(seconds)
        except BridgeError as error:
            self._mine = False
            log.warning("turn_not_taken", channel=self._channel, what=error.what)

    async def _watch(self, receive: Receive) -> None:
        failures = 0
        while not self._stopping.is_set():
            errors: list[BridgeError] = []
            try:
                for search in self._settings.search:
                    try:
                        await self._poll(search, receive)
                    except BridgeError as error:
                        errors.append(error)
            except _Stopped:
                break
            except Exception:
                log.exception("channel_failed", channel=self._channel)
            failures = failures + 1 if errors else 0
            wait = self._pause(errors, failures)
            for failed in errors:
                log.warning("poll_failed", channel=self._channel, retry_in=round(wait, 3), **failed.as_dict())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    def _pause(self, errors: list[BridgeError], failures: int) -> float:
        """Seconds until the next poll: the interval, more and more after failures, or what the server asked for."""
        interval = self._settings.interval
        asked = max((getattr(error, "retry_after", None) or 0.0 for error in errors), default=0.0)
        longer = min(interval * 2.0 ** min(failures, 16), _LONGEST) if errors and not asked else 0.0
        return max(interval, asked, longer)

    async def _poll(self, search: str, receive: Receive) -> None:
        """Take what is new of one search, if this node is to do it.

        A page is asked for from the newest of the page before on, not by its number: a resource that changes meanwhile
        moves to the end, and others move up in its stead. Only where a whole page is of one instant the links to the
        next are followed; then they are followed again until nothing new is there.
        """
        if not self._mine:
            return
        cursor, overlap = await self._begin(search), self._settings.overlap
        since = cursor.since(overlap)
        while self._mine:
            pages, fresh, newest = 0, False, since
            met: set[tuple[str, str]] = set()
            url: httpx.URL | None = self._address(search, since)
            while url and newest == since and self._mine:
                page, now = await self._page(url, search)
                newest = max([since, *_checked(page, since)])
                self._check_end(page, newest > since)
                _check_turn(page, met)
                fresh = await self._take(page, now, cursor, receive, search) or fresh
                url, pages = self._next(page.following), pages + 1
            if newest > since and (pages == 1 or not fresh):
                since = newest
                if cursor.advance(since, now, overlap):
                    await self._keep(search, cursor)
            elif not fresh:
                return

    async def _keep(self, search: str, cursor: _Cursor) -> None:
        await self._state.put({_key(search): cursor.kept()})

    async def _begin(self, search: str) -> _Cursor:
        """The cursor as it is kept; at the first time one at ``since``, or at the server's time."""
        if kept := (await self._state.get([_key(search)])).get(_key(search)):
            return _Cursor.of(kept)
        start = self._settings.since
        if start is None:
            start = (await self._page(self._url(f"{_kind(search)}?_count=1"), search))[1]
        cursor = _Cursor(start.astimezone(UTC), start.astimezone(UTC))
        await self._keep(search, cursor)
        return cursor

    async def _page(self, url: httpx.URL, search: str) -> tuple[Page, datetime]:
        """A page, and the server's time."""
        response = await self._unless_stopping(self._client.get(url))
        return read_page(response.content, _kind(search)), _date(response.headers.get("date", ""))

    async def _take(self, page: Page, now: datetime, cursor: _Cursor, receive: Receive, search: str) -> bool:
        """Hand over what is new, in its sequence, and keep how far that is; whether there was any."""
        new = [one for one in page.matches if not cursor.knows(one)]
        try:
            for one in new:
                if self._stopping.is_set():
                    raise _Stopped
                data = collection(one, page.included) if self._settings.include else one.raw
                reply = await receive(Inbound(data, self.endpoint))
                if reply.error and reply.error.kind in _NOT_STORED:
                    raise Temporary("the engine can take nothing now", fix="see the engine's log")
                cursor.take(one, now)
                log.info("resource_taken", channel=self._channel, message=reply.message, duplicate=reply.duplicate)
        finally:
            if new:
                await self._keep(search, cursor)
        return bool(new)

    def _check_end(self, page: Page, further: bool) -> None:
        """Raises Temporary if what is left of one instant cannot be asked for."""
        full = len(page.matches) >= self._settings.count and page.total != len(page.matches)
        if full and not further and not page.following:
            what = "the server has more of one instant than a page, and no link to the next"
            raise Temporary(what, at="count", fix="raise `count`")

    def _address(self, search: str, since: datetime) -> httpx.URL:
        own = [
            ("_lastUpdated", f"ge{_whole(since).isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"),
            ("_sort", "_lastUpdated"),
            ("_count", str(self._settings.count)),
            *(("_include", one) for one in self._settings.include),
        ]
        return self._url(f"{search}{'&' if '?' in search else '?'}{urlencode(own)}")

    def _url(self, search: str) -> httpx.URL:
        return httpx.URL(f"{self._client.url}/{search}")

    def _next(self, link: str) -> httpx.URL | None:
        """Where the next page is. Raises Temporary for another server's address: it would be shown our token."""
        if not link:
            return None
        here = self._client.url
        try:
            there = httpx.URL(f"{here}/").join(link)
        except httpx.InvalidURL:
            raise Temporary("the link to the next page is no address", at="Bundle.link", fix="see its log") from None
        if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
            raise Temporary("the next page is on another server", at="Bundle.link", fix="let it give its own address")
        return there

    async def _unless_stopping(self, asking: Awaitable[T]) -> T:
        """What ``asking`` gives. Raises _Stopped, without waiting for it, when the channel stops."""
        asked, stopping = asyncio.ensure_future(asking), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([asked, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise _Stopped
            return asked.result()
        finally:
            stopping.cancel()
            asked.cancel()


def _checked(page: Page, since: datetime) -> list[datetime]:
    """When the matches of a page were made. Raises Temporary if the server did not search as it was asked to: what it
    left out would be lost, and what it has added would come with each poll."""
    if not all(one.updated and one.version and one.resource.get("id") for one in page.matches):
        raise Temporary("a resource has no version or no time", at="meta", fix="poll a server that keeps versions")
    times = [one.updated for one in page.matches if one.updated]
    if (whole := [_whole(one) for one in times]) != sorted(whole):
        raise Temporary("the server does not sort by time", at="_sort=_lastUpdated", fix="index it there")
    if times and times[0] < since - timedelta(seconds=1):
        raise Temporary("the server gives older ones, too", at="_lastUpdated", fix="index it there")
    return times


def _check_turn(page: Page, met: set[tuple[str, str]]) -> None:
    """Add what is on this page to what its predecessors had. Raises Temporary if that is nothing, and yet there is to
    be a next one: the links might have no end."""
    here = {(one.name, one.version) for one in page.matches}
    if met and here <= met and page.following:
        raise Temporary("the server's pages repeat", at="Bundle.link", fix="see the server's log, or raise `count`")
    met |= here


def _kind(search: str) -> str:
    return search.partition("?")[0]


def _key(search: str) -> str:
    return f"cursor:{search}"


def _whole(moment: datetime) -> datetime:
    """The moment to the millisecond, the former one: what servers tell apart in a search."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _date(header: str) -> datetime:
    """The server's time, by its Date header; else ours."""
    try:
        told = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return datetime.now(UTC)
    return told if told.tzinfo else datetime.now(UTC)


FHIR_IN = ChannelType("fhir-in", "in", FhirInSettings, FhirIn)
