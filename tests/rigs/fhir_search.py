"""A FHIR server that can only be searched, in the test's own event loop; it misbehaves as it is told.

What a third-party server does is shown with ``fhir_server.py``; this one is for what that one never does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

from tests.rigs.processes import free_port


def task(id: str, updated: str, version: str = "1") -> bytes:
    """A resource with spelling of its own, and text that is not ASCII. ``updated``: seconds after 08:00 of one day."""
    meta = f'{{"lastUpdated": "2026-03-01T08:00:{updated}Z", "versionId": "{version}"}}'
    return f'{{ "resourceType" : "Task", "id": "{id}", "meta": {meta}, "n": 1.50, "note": "\\u00e9é" }}'.encode()


class SearchServer:
    """Gives what it has by ``_lastUpdated``, in pages by number as many servers do."""

    def __init__(self) -> None:
        self.port = free_port()
        self.has: dict[str, bytes] = {}
        self.included: list[bytes] = []
        self.requests: list[str] = []
        self.now = datetime.fromisoformat("2026-03-01T09:00:00+00:00")
        self.junk: list[bytes] = []
        """Answers that go out first."""
        self.link = f"http://127.0.0.1:{self.port}/fhir"
        """Where the links to next pages lead; empty: there are none."""
        self.sorts = self.filters = True
        self.before: Callable[[str], None] = lambda _: None
        """Called with the URL of each request."""
        self._opening = asyncio.Lock()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    def put(self, *resources: bytes) -> None:
        """Each instead of its former version."""
        self.has |= {json.loads(one)["id"]: one for one in resources}

    async def open(self) -> None:
        async with self._opening:
            self._server = self._server or await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
        self.requests.append(url)
        self.before(url)
        body = self.junk.pop() if self.junk else self._page(url)
        head = f"HTTP/1.1 200 OK\r\ndate: {format_datetime(self.now, usegmt=True)}\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    def _page(self, url: str) -> bytes:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        since = datetime.fromisoformat(asked.get("_lastUpdated", "ge2000-01-01T00:00:00Z")[2:])
        found = sorted(self.has.values(), key=_updated)
        found = [one for one in found if _updated(one) >= since or not self.filters]
        found = found if self.sorts else found[::-1]
        begin, count = int(asked.get("page", 0)), int(asked["_count"])
        page, more = found[begin : begin + count], len(found) > begin + count
        rest = url.partition("?")[2].partition("&page=")[0]
        link = [{"relation": "next", "url": f"{self.link}/Task?{rest}&page={begin + count}"}]
        head = json.dumps({"resourceType": "Bundle", "type": "searchset", "link": link if more and self.link else []})
        entries = [b'{"resource": ' + one + b', "search": {"mode": "match"}}' for one in page]
        entries += [b'{"resource": ' + one + b', "search": {"mode": "include"}}' for one in self.included]
        return head[:-1].encode() + b', "entry": [' + b",".join(entries) + b"]}"


def _updated(resource: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(resource)["meta"]["lastUpdated"])
