"""Feeding: what one destination is owed, looked up or handed over, in its true sequence (laws 3 and 4)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from bridge.engine.lane import Lanes
from bridge.engine.render import Renderer
from bridge.errors import Overloaded, StoreUnavailable
from bridge.store.deliveries import WINDOW_BYTES, Owed
from bridge.store.leases import Lease
from bridge.store.store import Store

log = structlog.get_logger(__name__)

WINDOW = 64
"""Deliveries claimed ahead."""
OFFERED = 1024
"""Most deliveries, and WINDOW_BYTES the most bytes of messages, that wait in memory for room in the window."""
SWEEP = 1.0
"""Seconds after which the owner looks for what no bell announced."""


class Feed:
    """Keeps ``lanes`` filled with what may go under the lease.

    Deliveries are claimed from the store when a bell rings and once a second, or handed over in memory by the process
    that accepted them: then they need not be read back, as long as their positions show that nothing is missing
    before them. ``ready`` is set when something was put into the lanes.
    """

    def __init__(
        self,
        destination: str,
        store: Store,
        renderer: Renderer,
        lease: Callable[[], Lease | None],
        ready: asyncio.Event,
    ) -> None:
        self.lanes = Lanes()
        self.bell = asyncio.Event()
        self.epoch = 0
        """Of the lease under which the lanes were filled."""
        self._destination, self._store, self._renderer, self._lease = destination, store, renderer, lease
        self._ready = ready
        self._room = asyncio.Event()
        self._after = 0
        """The highest position that was put into the lanes; a claim goes on from there. 0: from the beginning."""
        self._reached = 0
        """All that is owed up to this position has been seen here, and no key is parked; 0: that is not known."""
        self._offered: deque[Owed] = deque()
        """Handed over and not yet looked at, without a gap in their positions."""
        self._offered_bytes = 0
        self._deaths = 0
        self._shuffles = -1

    @property
    def owned(self) -> bool:
        """What is in the lanes may be sent: the lease under which it was claimed still holds."""
        lease = self._lease()
        return lease is not None and lease.valid and lease.epoch == self.epoch

    def restart(self) -> None:
        """Forget everything but what was sent and is not marked yet."""
        self.lanes.forget_waiting()
        self.lanes.busy.clear()
        self._forget_offered()
        self._after = 0

    def want(self) -> None:
        """Something was taken out of the lanes, or cannot be: fill them when they are half empty."""
        if not self.owned or len(self.lanes.waiting) < WINDOW // 2:
            self._room.set()

    def died(self, identifier: str) -> None:
        """A delivery died and may have parked its keys: what waits is claimed again without those behind it."""
        self.lanes.marked(identifier)
        self.lanes.forget_waiting()
        self._after, self._deaths = 0, self._deaths + 1
        self.ring()

    def ring(self) -> None:
        """Something new may be owed, or the lease is a new one: look for it."""
        self._reached = 0
        self.bell.set()
        self._room.set()

    def offer(self, owed: Owed) -> None:
        """Something was just accepted by this process: it need not be read back from the store if nothing is missing
        before it. Called in the sequence of acceptance."""
        lease, position = self._lease(), owed.delivery.position
        if lease is None or not lease.valid:
            return
        gap = bool(self._offered) and position != self._offered[-1].delivery.position + 1
        if gap or len(self._offered) == OFFERED or self._offered_bytes + len(owed.raw) > WINDOW_BYTES:
            self._forget_offered()
        if len(owed.raw) <= WINDOW_BYTES:
            self._offered.append(owed)
            self._offered_bytes += len(owed.raw)
        self.bell.set()

    def _forget_offered(self) -> None:
        """What was handed over is to be claimed instead."""
        self._offered.clear()
        self._offered_bytes = self._reached = 0

    async def run(self) -> None:
        """Fill the lanes until cancelled."""
        while True:
            self._room.clear()
            self.bell.clear()
            came = not self._reached and await self._refill()
            came = await self._take_offered() or came
            if came:
                self._ready.set()
                if len(self.lanes.waiting) >= WINDOW // 2:
                    await self._room.wait()
                if self._offered or not self._reached:
                    continue
            if not await within(SWEEP, self.bell):
                self._after = 0
            if not self._offered:
                self._reached = 0

    async def _take_offered(self) -> bool:
        """Move what was handed over into the window; whether anything was."""
        offered = self._offered
        if not self._reached or not self.owned:
            self._reached = 0
            return False
        while offered and offered[0].delivery.position <= self._reached:
            self._offered_bytes -= len(offered.popleft().raw)
        fresh = [offered.popleft() for _ in range(min(len(offered), WINDOW - len(self.lanes.waiting)))]
        if not fresh:
            return False
        self._offered_bytes -= sum(len(owed.raw) for owed in fresh)
        if fresh[0].delivery.position != self._reached + 1:
            self._forget_offered()
            self.bell.set()
            return False
        self._reached = fresh[-1].delivery.position
        return await self._prepare(fresh)

    async def _prepare(self, owed: list[Owed]) -> bool:
        """Render and put into the window; whether that was done. What a death meanwhile made stale is dropped, and what
        could not be frozen: it is claimed again."""
        deaths = self._deaths
        try:
            entries = await self._renderer.prepare(owed)
        except (StoreUnavailable, Overloaded) as error:
            log.warning("freeze_failed", destination=self._destination, what=error.what)
            self._reached = 0
            return False
        if deaths != self._deaths:
            return True
        now = time.monotonic()
        for entry in entries:
            entry.due = now + entry.owed.wait_ms / 1000 if entry.owed.wait_ms > 0 else 0.0
        self.lanes.add(entries)
        self._after = max(self._after, owed[-1].delivery.position)
        return True

    async def _refill(self) -> bool:
        """Claim what fits into the window; whether anything came."""
        lease = self._lease()
        if lease is None or not lease.valid:
            self.lanes.forget_waiting()
            self._after = 0
            return False
        if lease.epoch != self.epoch:
            self.epoch, self._after = lease.epoch, 0
            self.lanes.forget_waiting()
        if self.lanes.idle:
            self._after = 0
        limit = WINDOW - len(self.lanes.waiting)
        if limit <= 0:
            return True
        known, deaths = self.lanes.known(), self._deaths
        if self._after == 0:
            limit += len(known)
        try:
            owed, front = await asyncio.to_thread(self._store.claim, self._destination, self._after, limit)
        except StoreUnavailable as error:
            log.warning("claim_failed", destination=self._destination, what=error.what)
            return False
        if deaths != self._deaths:
            return True
        if front.shuffles != self._shuffles:
            self._shuffles, self._after = front.shuffles, 0
            self.lanes.forget_waiting()
            return await self._refill()
        self._reached = 0 if front.parked or front.more else front.last
        fresh = [item for item in owed if item.delivery.id not in known]
        return bool(fresh) and await self._prepare(fresh)


async def within(seconds: float, event: asyncio.Event) -> bool:
    """Wait until ``event`` is set, but not longer; whether it was set by somebody else."""
    late = False

    def over() -> None:
        nonlocal late
        late = not event.is_set()
        event.set()

    timer = asyncio.get_running_loop().call_later(seconds, over)
    try:
        await event.wait()
    finally:
        timer.cancel()
    return not late
