"""The web end as part of a node: started after the channels, so that it never delays the first message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bridge.ports import Mounted
from bridge.web.node import Node

if TYPE_CHECKING:
    from bridge.asgi import AsgiServer
    from bridge.engine.runtime import Runtime


class WebServer:
    """Serves :func:`bridge.web.api.make_api` on ``web.listen`` in the running loop; signals are the node's affair."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._server: AsgiServer | None = None

    async def start(self) -> str:
        """Bind and serve; returns the address, ``http://127.0.0.1:8080``. Raises BridgeError if it cannot be had."""
        server = await asyncio.to_thread(self._build)
        await server.start()
        self._server = server
        return f"http://{server.address}"

    async def stop(self) -> None:
        """Returns when the requests under way are answered."""
        if self._server:
            await self._server.stop()
            self._server = None

    def _build(self) -> AsgiServer:
        """In a thread: importing the web framework takes longer than a sender should wait for its answer."""
        from bridge.asgi import AsgiServer
        from bridge.web.api import make_api

        application = Mounting(make_api(self._node), self._node.runtime)
        return AsgiServer(application, self._node.loaded.config.web.listen, grace=3, websockets=True)


class Mounting:
    """Serves ``application``, and under their own paths the channels that have no address of their own: always those
    that a deploy made last; one that stops answers for itself until the next has started."""

    def __init__(self, application: Any, runtime: Runtime) -> None:
        self._application, self._runtime = application, runtime

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        for end in self._runtime.ends.made.values():
            mount = end.mount if isinstance(end, Mounted) else ""
            if mount and (path == mount or path.startswith(f"{mount}/")):
                await end.application({**scope, "root_path": mount}, receive, send)
                return
        await self._application(scope, receive, send)
