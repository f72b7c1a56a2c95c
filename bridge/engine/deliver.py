"""Delivering: the owner of a destination sends what is first on its keys, and records how it ended (laws 3, 4, 5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
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
from bridge.store.finish import Fenced, Finish, Finished
from bridge.store.leases import Lease
from bridge.store.store import Store

log = structlog.get_logger(__name__)

WINDOW = 64
"""Deliveries claimed ahead."""
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
        self.bell = asyncio.Event()
        self.away: Away | None = None
        self._end, self._store, self._renderer, self._lease = end, store, renderer, lease
        self._lanes = Lanes()
        self._epoch = 0
        self._after = 0
        self._shuffles = -1
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._probing = False
        self._stopping = False
        self._marking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until :meth:`stop`, or until cancelled: then what is under way is sent again by the next owner."""
        self._stopping = False
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

    # claiming

    async def _feed(self) -> None:
        while not self._stopping:
            self._room.clear()
            self.bell.clear()
            if await self._refill():
                self._work.set()
                if len(self._lanes.waiting) >= WINDOW // 2:
                    await self._room.wait()
                continue
            try:
                await asyncio.wait_for(self.bell.wait(), SWEEP)
            except TimeoutError:
                self._after = 0

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
        if self._after == 0:
            limit += len(self._lanes.known())
        try:
            owed, shuffles = await asyncio.to_thread(self._store.claim, self.destination, self._after, limit)
        except StoreUnavailable as error:
            log.warning("claim_failed", destination=self.destination, what=error.what)
            return False
        if shuffles != self._shuffles:
            self._shuffles, self._after = shuffles, 0
            self._lanes.forget_waiting()
            return await self._refill()
        known = self._lanes.known()
        fresh = [item for item in owed if item.delivery.id not in known]
        if not fresh:
            return False
        entries = await self._renderer.prepare(fresh)
        now = time.monotonic()
        for entry in entries:
            entry.due = now + entry.owed.wait_ms / 1000 if entry.owed.wait_ms > 0 else 0.0
        self._lanes.add(entries)
        self._after = max(self._after, fresh[-1].delivery.position)
        return True

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
        with suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), until - now)

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
        if not isinstance(self._end, Projection):
            return await self._end.send(outgoing)
        projection = self._end
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
        metrics.DELIVERED.labels(self.destination, "done").inc()
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
        verdict = judge(error, delivery.attempts + 1, policy)
        delivery.attempts += verdict.counted
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
            hold=self.settings.on_dead == "park",
        )
        try:
            await self._store.finish(finish)
        except BridgeError as trouble:
            log.warning("attempt_not_recorded", delivery=delivery.id, what=trouble.what)
            if verdict.status is DeliveryStatus.DEAD:
                wait = SWEEP
                delivery.attempts -= verdict.counted
                entry.failure = entry.failure or error
                verdict = judge(Unreachable("the store is away"), 0, policy)
        if verdict.status is DeliveryStatus.DEAD:
            self._lanes.marked(delivery.id)
            self._lanes.forget_waiting()
            self._after = 0
            self.bell.set()
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
