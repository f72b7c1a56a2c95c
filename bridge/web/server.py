"""The web end as part of a node: started after the channels, so that it never delays the first message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.web.node import Node

if TYPE_CHECKING:
    from bridge.asgi import AsgiServer


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

        return AsgiServer(make_api(self._node), self._node.loaded.config.web.listen, grace=3)
