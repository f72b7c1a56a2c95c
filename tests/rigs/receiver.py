"""An HTTP server that takes notifications, and can be made to misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bridge.asgi import AsgiServer
from bridge.ports import HostPort


@dataclass(frozen=True)
class Taken:
    """A request that came, whether or not it was answered well."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def parameters(self) -> dict[str, Any]:
        """Of a notification: the values of its status, by name; the events as a list."""
        first = json.loads(self.body)["entry"][0]["resource"]["parameter"]
        said = {one["name"]: _value(one) for one in first if "part" not in one}
        events = [{part["name"]: _value(part) for part in one["part"]} for one in first if "part" in one]
        return {**said, "events": events}

    @property
    def numbers(self) -> list[int]:
        return [int(event["event-number"]) for event in self.parameters["events"]]


def _value(parameter: dict[str, Any]) -> Any:
    (value,) = (value for key, value in parameter.items() if key.startswith("value"))
    return value["reference"] if isinstance(value, dict) and "reference" in value else value


@dataclass
class Receiver:
    """Answers ``status`` with ``headers``; while ``hangs`` is set, not at all."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    hangs: bool = False
    before: Callable[[], None] | None = None
    """Called once, when the next request has come and is not answered."""
    requests: list[Taken] = field(default_factory=list)
    address: HostPort = HostPort("127.0.0.1", 0)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def taken(self, kind: str = "event-notification") -> list[Taken]:
        """The notifications of one kind that were answered well."""
        bundles = [one for one in self.requests if one.status < 300 and one.method == "POST" and one.body]
        return [one for one in bundles if one.parameters["type"] == kind]

    def numbers(self) -> list[int]:
        """Of all events that were taken."""
        return [number for one in self.taken() for number in one.numbers]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if self.hangs:
            await asyncio.sleep(3600)
        self.requests.append(Taken(scope["method"], scope["path"], headers, body, self.status))
        before, self.before = self.before, None
        if before:
            await asyncio.to_thread(before)
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def receiving(port: int = 0, **settings: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**settings)
    server = AsgiServer(receiver, HostPort("127.0.0.1", port), grace=0)
    await server.start()
    receiver.address = server.address
    try:
        yield receiver
    finally:
        await server.stop()
