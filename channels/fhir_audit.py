"""Every access to a ``fhir-server`` leaves a record: kept in batches, so that nobody waits for a commit to read."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from hashlib import sha256
from typing import Any

import structlog

from bridge.errors import BridgeError
from bridge.fhir.audit import Access
from channels.fhir_exchange import Asked

log = structlog.get_logger(__name__)

_EVERY = 0.25
"""Seconds after which records are in the store at the latest, unless the store is away."""
_MOST = 20_000
"""Records that may wait; then nothing is answered any more."""
_BATCH = 500


class Recorder:
    """Takes records from the event loop; ``trail`` (``bridge.store.audit.Trail``) keeps them; None keeps nothing."""

    def __init__(self, channel: str, trail: Any) -> None:
        self._channel, self._trail = channel, trail
        self._waiting: list[Access] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._trail is not None:
            self._task = asyncio.create_task(self._run(), name=f"audit {self._channel}")

    async def stop(self) -> None:
        """Returns when all is kept, or what could not be is told in the log."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        await self._flush()
        if self._waiting:
            log.error("accesses_not_recorded", channel=self._channel, count=len(self._waiting))

    def check_room(self) -> None:
        """Raises BridgeError while so much waits that what is done now might leave no record."""
        if len(self._waiting) >= _MOST:
            raise BridgeError("accesses cannot be recorded", fix="see to the engine's database", kind="unavailable")

    def note(self, asked: Asked, status: int) -> None:
        """A request that was answered. Of what was searched a digest is kept."""
        act, caller = act_of(asked.method, asked.path), asked.caller
        text = "&".join(sorted(f"{name}={value}" for name, value in asked.searched))
        made = asked.shown[0][1] if len(asked.shown) == 1 and act in _VERBS.values() else ""
        one = Access(
            at=_now(),
            channel=self._channel,
            actor=caller.name,
            client=caller.client or caller.name,
            user=caller.user,
            peer=asked.peer.partition(" ")[0],
            act=act,
            type=asked.kind,
            id=asked.id or made,
            status=status,
            query=sha256(text.encode("utf-8", "replace")).hexdigest() if text else "",
            asked=tuple(sorted({name[:64] for name, _ in asked.searched}))[:20],
            shown=tuple(dict.fromkeys(asked.shown)),
        )
        self._add(one)

    def note_unknown(self, peer: str, method: str, path: str, kind: str, status: int) -> None:
        """A request of somebody who was not let in."""
        self._add(Access(_now(), self._channel, "", "", "", peer, act_of(method, path), kind, "", status))

    def _add(self, one: Access) -> None:
        if self._trail is not None:
            self._waiting.append(one)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self._flush()

    async def _flush(self) -> None:
        """Keep what waits; what the store cannot take now is tried again."""
        while self._waiting:
            batch = self._waiting[:_BATCH]
            keeping = asyncio.create_task(asyncio.to_thread(self._trail.keep, batch))
            try:
                await asyncio.shield(keeping)
            except asyncio.CancelledError:
                with suppress(BridgeError):
                    await keeping
                    del self._waiting[: len(batch)]
                raise
            except BridgeError as error:
                log.warning("accesses_waited", channel=self._channel, what=error.what, count=len(self._waiting))
                return
            del self._waiting[: len(batch)]


def _now() -> int:
    return int(time.time() * 1000)


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_HISTORY = {0: "history-system", 1: "history-type", 2: "history-instance"}


def act_of(method: str, path: str) -> str:
    """FHIR's code of an interaction (hl7.org/fhir/restful-interaction)."""
    steps = [step for step in path.split("/") if step]
    if any(step.startswith("$") for step in steps):
        return "operation"
    if "_history" in steps:
        before = steps.index("_history")
        return "vread" if len(steps) > before + 1 else _HISTORY.get(before, "history-instance")
    if not steps:
        return "transaction"
    if method in ("GET", "HEAD"):
        return "read" if len(steps) > 1 else "search-type"
    return "search-type" if steps[-1] == "_search" else _VERBS.get(method, "operation")
