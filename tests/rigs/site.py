"""The real engine in the test's own event loop, under a site file written for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.app import Node, build
from bridge.settings import Overrides, load
from tests.rigs.engine import write_site


@asynccontextmanager
async def running(
    folder: Path, channels: Mapping[str, Any], routes: Mapping[str, Any], *also: str, **more: Any
) -> AsyncIterator[Node]:
    """A node that receives and delivers, and does what ``also`` names; its addresses: ``node.runtime.endpoints()``."""
    path = write_site(folder, channels, routes, **more)
    node = build(
        load(path, overrides=Overrides.model_construct(), environ={}), roles=frozenset({"receive", "deliver", *also})
    )
    try:
        await node.runtime.start()
        yield node
        await node.runtime.stop()
    finally:
        node.store.close()


def port(node: Node, channel: str) -> int:
    return int(node.runtime.endpoints()[channel].rpartition(":")[2])


async def eventually(ready: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return when ``ready()`` is true; it may read the database."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(ready):
            await asyncio.sleep(0.01)
