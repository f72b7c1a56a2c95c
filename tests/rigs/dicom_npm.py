"""DICOM peers that nobody of this project wrote: npm's dcmjs-dimse, as a modality and as a receiver (MPPS)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.rigs.npm import started, told

_HERE = Path(__file__).with_name("dicom_npm")
_OURS = b"{"
"""How lines begin that are not the library's own log."""
Told = tuple[str, str, Mapping[str, Any]]
"""``create`` or ``set``, SOP Instance UID, attributes by keyword."""


async def tell(port: int, *events: Told, **more: Any) -> list[dict[str, Any]]:
    """The answers to events of performed steps, all on one association: ``status`` and ``error`` (Error ID).

    ``more``: calling, called, and for TLS the files ca, certificate and key.
    """
    lines = await told(_HERE, "mpps.mjs", {"port": port, "events": events, **more})
    return [json.loads(line) for line in lines if line.startswith(_OURS)]


@asynccontextmanager
async def receiver(port: int, **more: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """A receiver of performed steps, which takes them all; what it was told so far. ``more`` as in :func:`tell`."""
    process = await started(_HERE, "mpps.mjs", {"listen": port, **more})
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    assert line.startswith(b"listening "), line
    heard: list[dict[str, Any]] = []

    async def listen() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if line.startswith(_OURS):
                heard.append(json.loads(line))

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        process.terminate()
        await process.wait()
        await task
