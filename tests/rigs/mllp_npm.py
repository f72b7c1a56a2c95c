"""MLLP peers that nobody of this project wrote: npm's @medplum/hl7 (client, server) and node-hl7-client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.rigs.npm import installed

_HERE = Path(__file__).with_name("mllp_npm")


async def ask(client: str, port: int, messages: Sequence[bytes], **more: Any) -> list[str]:
    """What ``client`` (medplum, node-hl7) read as answers to the messages it sent; see peers.mjs for ``more``."""
    wish = {"client": client, "port": port, "messages": [one.decode() for one in messages], **more}
    process = await _start(wish)
    try:
        said, complained = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, complained.decode()
    return [json.loads(line) for line in said.splitlines()]


@asynccontextmanager
async def server(**wish: Any) -> AsyncIterator[tuple[int, list[str]]]:
    """Medplum's server: its port, and the messages that it was sent so far."""
    process = await _start({"server": "medplum", **wish})
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


async def _start(wish: dict[str, Any]) -> asyncio.subprocess.Process:
    command = await asyncio.to_thread(installed, _HERE, "peers.mjs")
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, json.dumps(wish), stdout=pipe, stderr=pipe, limit=1 << 26)
