"""An ASGI application on a TCP address, in the running loop: bound when ``start`` returns, gone after ``stop``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from ssl import SSLContext
from typing import Any

import uvicorn

from bridge.listening import listen_on
from bridge.ports import HostPort


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process that this server is one part of."""
        yield


class AsgiServer:
    """Serves ``app`` on ``listen``, over TLS if there is a context for it; at most ``connections`` at a time, further
    ones are answered 503."""

    def __init__(
        self,
        app: Any,
        listen: HostPort,
        *,
        connections: int = 256,
        grace: int = 10,
        tls: SSLContext | None = None,
        websockets: bool = False,
    ) -> None:
        self._listen, self._tls = listen, tls
        self._settings: dict[str, Any] = {
            "app": app,
            "interface": "asgi3",
            "limit_concurrency": connections,
            "timeout_graceful_shutdown": grace,
            "lifespan": "off",
            "http": "h11",
            "ws": "wsproto" if websockets else "none",
            "ws_max_size": 65_536,
            "proxy_headers": False,
            "log_config": None,
            "access_log": False,
        }
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> HostPort:
        """Where it listens; the real port once started, where any free one was asked for."""
        return self._listen

    async def start(self) -> None:
        """Raises BridgeError if the address cannot be had."""
        bound = listen_on(self._listen)
        self._listen = HostPort(self._listen.host, bound.getsockname()[1])
        config = uvicorn.Config(**self._settings)
        config.load()
        config.ssl = self._tls
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[bound]), name=f"http {self._listen}")
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0)
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Returns when the requests under way are answered, or after the grace period."""
        if self._server and self._task:
            self._server.should_exit = True
            await self._task
            self._server = self._task = None
