"""MLLP peers that nobody of this project wrote: npm's @medplum/hl7 (client, server) and node-hl7-client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.rigs.npm import started, told

_HERE = Path(__file__).with_name("mllp_npm")


async def ask(client: str, port: int, messages: Sequence[bytes], **more: Any) -> list[str]:
    """What ``client`` (medplum, node-hl7) read as answers to the messages it sent; see peers.mjs for ``more``."""
    wish = {"client": client, "port": port, "messages": [one.decode() for one in messages], **more}
    lines = await told(_HERE, "peers.mjs", wish)
    return [json.loads(line) for line in lines]


@asynccontextmanager
async def server(**wish: Any) -> AsyncIterator[tuple[int, list[str]]]:
    """Medplum's server: its port, and the messages that it was sent so far."""
    process = await started(_HERE, "peers.mjs", {"server": "medplum", **wish})
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    assert line.startswith("listening "), line
    arrived: list[str] = []

    async def listen() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            arrived.append(json.loads(line))

    task = asyncio.create_task(listen())
    try:
        yield int(line.split()[1]), arrived
    finally:
        process.terminate()
        await process.wait()
        await task
