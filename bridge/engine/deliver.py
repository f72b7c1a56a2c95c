"""Delivering: the owner of a destination sends what is first on its keys, and records how it ended (laws 3, 4, 5)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.engine import metrics
from bridge.engine.lane import Entry, Lanes
from bridge.engine.render import Renderer
from bridge.engine.retry import Verdict, describe, judge, wait_for
from bridge.errors import BridgeError, StoreUnavailable, Unreachable
from bridge.message import DeliveryStatus
from bridge.ports import Answer, Outgoing, Projection, Sink, SinkSettings
from bridge.store.deliveries import WINDOW_BYTES, Owed
from bridge.store.finish import Fenced, Finish, Finished
from bridge.store.leases import Lease
from bridge.store.store import Store

log = structlog.get_logger(__name__)

WINDOW = 64
"""Deliveries claimed ahead."""
OFFERED = 1024
"""Most deliveries, and WINDOW_BYTES the most bytes of messages, that wait in memory for room in the window."""
SWEEP = 1.0
"""Seconds after which the owner looks for what no bell announced."""


@dataclass(slots=True)
class Away:
    """The destination cannot be reached: since when, why, and when it is tried next."""

    since: float
    reason: dict[str, str]
    failures: int = 0
    until: float = 0.0


class Deliverer:
    """Serves one destination while this process holds its lease. ``bell`` is set when something new is owed."""

    def __init__(
        self,
        destination: str,
        end: Sink | Projection,
        settings: SinkSettings,
        store: Store,
        renderer: Renderer,
        lease: Callable[[], Lease | None],
    ) -> None:
        self.destination, self.settings = destination, settings
        self._done = metrics.DELIVERED.labels(destination, "done")
        self.bell = asyncio.Event()
        self.away: Away | None = None
        self._store, self._renderer, self._lease = store, renderer, lease
        self._end: Sink | None = None
        self._projection: Projection | None = None
        if isinstance(end, Projection):
            self._projection = end
        else:
            self._end = end
        self._lanes = Lanes()
        self._epoch = 0
        self._after = 0
        self._reached = 0
        """All that is owed up to this position has been seen here, and no key is parked; 0: that is not known."""
        self._offered: deque[Owed] = deque()
        """Handed over and not yet looked at, without a gap in their positions."""
        self._offered_bytes = 0
        self._deaths = 0
        self._shuffles = -1
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._probing = False
        self._stopping = False
        self._marking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until :meth:`stop`, or until cancelled: then what is under way is sent again by the next owner."""
        self._stopping = False
        self._lanes.forget_waiting()
        self._lanes.busy.clear()
        self._forget_offered()
        self._after = 0
        feed = asyncio.create_task(self._feed())
        hands = [asyncio.create_task(self._hand()) for _ in range(self.settings.parallel)]
        try:
            done, _ = await asyncio.wait([feed, *hands], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in (feed, *hands):
                task.cancel()

    def stop(self) -> None:
        """Send nothing more; :meth:`run` returns when what is under way has ended."""
        self._stopping = True
        for event in (self._work, self._room, self.bell):
            event.set()

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

    # claiming; what is known when a claim starts is left out of it, though it may have ended when the claim has

    async def _feed(self) -> None:
        while not self._stopping:
            self._room.clear()
            self.bell.clear()
            came = not self._reached and await self._refill()
            came = await self._take_offered() or came
            if came:
                self._work.set()
                if len(self._lanes.waiting) >= WINDOW // 2:
                    await self._room.wait()
                if self._offered or not self._reached:
                    continue
            if not await within(SWEEP, self.bell):
                self._after = 0
            if not self._offered:
                self._reached = 0

    async def _take_offered(self) -> bool:
        """Move what was handed over into the window; whether anything was."""
        lease, offered = self._lease(), self._offered
        if not self._reached or lease is None or not lease.valid or lease.epoch != self._epoch:
            self._reached = 0
            return False
        while offered and offered[0].delivery.position <= self._reached:
            self._offered_bytes -= len(offered.popleft().raw)
        fresh = [offered.popleft() for _ in range(min(len(offered), WINDOW - len(self._lanes.waiting)))]
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
        """Render and put into the window; what a death meanwhile made stale is dropped, and claimed again."""
        deaths = self._deaths
        entries = await self._renderer.prepare(owed)
        if deaths != self._deaths:
            return True
        now = time.monotonic()
        for entry in entries:
            entry.due = now + entry.owed.wait_ms / 1000 if entry.owed.wait_ms > 0 else 0.0
        self._lanes.add(entries)
        self._after = max(self._after, owed[-1].delivery.position)
        return True

    async def _refill(self) -> bool:
        """Claim what fits into the window; whether anything came."""
        lease = self._lease()
        if lease is None or not lease.valid:
            self._lanes.forget_waiting()
            return False
        if lease.epoch != self._epoch:
            self._epoch, self._after = lease.epoch, 0
            self._lanes.forget_waiting()
        if self._lanes.idle:
            self._after = 0
        limit = WINDOW - len(self._lanes.waiting)
        if limit <= 0:
            return True
        known, deaths = self._lanes.known(), self._deaths
        if self._after == 0:
            limit += len(known)
        try:
            owed, front = await asyncio.to_thread(self._store.claim, self.destination, self._after, limit)
        except StoreUnavailable as error:
            log.warning("claim_failed", destination=self.destination, what=error.what)
            return False
        if deaths != self._deaths:
            return True
        if front.shuffles != self._shuffles:
            self._shuffles, self._after = front.shuffles, 0
            self._lanes.forget_waiting()
            return await self._refill()
        self._reached = 0 if front.parked or front.more else front.last
        fresh = [item for item in owed if item.delivery.id not in known]
        return bool(fresh) and await self._prepare(fresh)

    # sending

    async def _hand(self) -> None:
        while not self._stopping:
            entry = self._next()
            if entry is None:
                await self._wait()
                continue
            await self._attempt(entry)

    def _next(self) -> Entry | None:
        lease = self._lease()
        if lease is None or not lease.valid or lease.epoch != self._epoch:
            self._room.set()
            return None
        if len(self._lanes.unmarked) + len(self._lanes.busy) >= self.settings.repeat:
            return None
        now = time.monotonic()
        if self.away and (self._probing or now < self.away.until):
            return None
        entry = self._lanes.take(now)
        self._probing = entry is not None and self.away is not None
        if len(self._lanes.waiting) < WINDOW // 2:
            self._room.set()
        return entry

    async def _wait(self) -> None:
        now = time.monotonic()
        until = min(self._lanes.next_due(now) or now + SWEEP, now + SWEEP)
        if self.away and self.away.until > now:
            until = self.away.until
        self._work.clear()
        await within(until - now, self._work)

    async def _attempt(self, entry: Entry) -> None:
        try:
            if entry.rendered is None and entry.failure is None:
                await self._renderer.fill([entry])
            if entry.failure is not None:
                raise entry.failure
            answer = await self._bring(entry)
        except Exception as error:  # noqa: BLE001 - the delivery loop: judged by policy, a bug holds the lane
            await self._failed(entry, error)
        else:
            self._arrived(entry, answer)
        finally:
            self._probing = False
            self._work.set()

    async def _bring(self, entry: Entry) -> Answer | None:
        """Send, or hand to the projection; None when the end was recorded with it."""
        delivery = entry.owed.delivery
        outgoing = Outgoing(entry.rendered or b"", delivery, entry.control_id, entry.format, entry.owed.charset)
        if self._end is not None:
            return await self._end.send(outgoing)
        projection = self._projection
        assert projection is not None
        await self._store.finish(
            Finish(
                delivery,
                self._epoch,
                DeliveryStatus.DONE,
                sent=outgoing.data,
                apply=lambda tx: projection.apply(tx, outgoing),
            )
        )
        return None

    # recording

    def _arrived(self, entry: Entry, answer: Answer | None) -> None:
        if self.away:
            log.info(
                "destination_back", destination=self.destination, seconds=round(time.monotonic() - self.away.since)
            )
            self.away = None
        self._done.inc()
        if answer is None:
            self._lanes.marked(entry.owed.delivery.id)
            return
        self._lanes.sent(entry)
        finish = Finish(
            entry.owed.delivery, self._epoch, DeliveryStatus.DONE, answer=answer.summary, sent=entry.rendered or b""
        )
        try:
            future = self._store.finish(finish)
        except BridgeError:
            self._spawn(self._mark_later(finish))
            return
        future.add_done_callback(lambda done: self._marked(finish, done))

    def _marked(self, finish: Finish, done: asyncio.Future[Finished]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None or isinstance(error, Fenced):
            self._lanes.marked(finish.delivery.id)
            self._work.set()
        else:
            self._spawn(self._mark_later(finish))

    async def _mark_later(self, finish: Finish) -> None:
        """The store refuses to write: what was sent stays known here and is marked as soon as it can be."""
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self._store.finish(finish)
            except Fenced:
                pass
            except BridgeError:
                continue
            self._lanes.marked(finish.delivery.id)
            self._work.set()
            return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._marking.add(task)
        task.add_done_callback(self._marking.discard)

    async def _failed(self, entry: Entry, error: BaseException) -> None:
        delivery, policy = entry.owed.delivery, self.settings.retry
        verdict = judge(error, delivery.attempts + 1, policy, delivery.repeats)
        delivery.attempts += verdict.counted
        delivery.repeats += verdict.suspected
        delivery.suspected = delivery.suspected or verdict.suspected
        delivery.error = describe(error, verdict, delivery.attempts, policy)
        wait = self._next_try(error, verdict, delivery.attempts)
        self._report(entry, error, verdict, wait)
        finish = Finish(
            delivery,
            self._epoch,
            verdict.status,
            retry_in=wait,
            error=delivery.error,
            counted=verdict.counted,
            suspected=verdict.suspected,
            hold=verdict.hold or self.settings.on_dead == "park",
        )
        try:
            await self._store.finish(finish)
        except BridgeError as trouble:
            log.warning("attempt_not_recorded", delivery=delivery.id, what=trouble.what)
            if verdict.status is DeliveryStatus.DEAD:
                wait = SWEEP
                delivery.attempts -= verdict.counted
                delivery.repeats -= verdict.suspected
                entry.failure = entry.failure or error
                verdict = judge(Unreachable("the store is away"), 0, policy)
        if verdict.status is DeliveryStatus.DEAD:
            self._lanes.marked(delivery.id)
            self._lanes.forget_waiting()
            self._after, self._deaths = 0, self._deaths + 1
            self.ring()
            self._room.set()
        else:
            if entry.rendered is None and verdict.counted:
                entry.failure = None
            self._lanes.again(entry, time.monotonic() + wait)

    def _next_try(self, error: BaseException, verdict: Verdict, attempts: int) -> float:
        """Seconds to wait. While a destination is away, all of it waits and one delivery probes."""
        policy = self.settings.retry
        if verdict.bug:
            return policy.max
        if verdict.scope == "delivery":
            return wait_for(error, policy, attempts)
        now = time.monotonic()
        if self.away is None:
            self.away = Away(since=now, reason={})
            log.warning("destination_away", destination=self.destination, why=str(error))
        if now < self.away.until:
            return self.away.until - now
        self.away.failures += 1
        self.away.reason = error.as_dict() if isinstance(error, BridgeError) else {}
        wait = wait_for(error, policy, self.away.failures)
        self.away.until = now + wait
        return wait

    def _report(self, entry: Entry, error: BaseException, verdict: Verdict, wait: float) -> None:
        delivery = entry.owed.delivery
        outcome = (
            "away" if verdict.scope == "destination" else "dead" if verdict.status is DeliveryStatus.DEAD else "retry"
        )
        metrics.DELIVERED.labels(self.destination, outcome).inc()
        facts = {"delivery": delivery.id, "destination": self.destination, "attempts": delivery.attempts}
        if verdict.bug:
            log.error("delivery_held", **facts, exc_info=error)
        elif verdict.status is DeliveryStatus.DEAD:
            log.error("delivery_died", **facts, **(delivery.error or {}))
        elif verdict.scope == "delivery":
            log.warning("delivery_failed", **facts, retry_in=round(wait, 3), **(delivery.error or {}))


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
