"""Delivering: the owner of a destination sends what is first on its keys, and records how it ended (laws 3, 4, 5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.engine import metrics
from bridge.engine.feed import SWEEP, Feed, within
from bridge.engine.lane import Entry
from bridge.engine.render import Renderer
from bridge.engine.retry import Verdict, describe, judge, wait_for
from bridge.errors import BridgeError, Unreachable
from bridge.message import DeliveryStatus
from bridge.ports import Answer, Outgoing, Projection, Sink, SinkSettings
from bridge.store.deliveries import Owed
from bridge.store.finish import Fenced, Finish, Finished
from bridge.store.leases import Lease
from bridge.store.store import Store

log = structlog.get_logger(__name__)

PATIENCE = 0.005
"""Seconds that the mark of what was sent waits for a commit to share, while less than half of the bound is unmarked."""


@dataclass(slots=True)
class Away:
    """The destination cannot be reached: since when, why, and when it is tried next."""

    since: float
    reason: dict[str, str]
    failures: int = 0
    until: float = 0.0


class Deliverer:
    """Serves one destination while this process holds its lease."""

    def __init__(
        self,
        destination: str,
        end: Sink | Projection,
        settings: SinkSettings,
        store: Store,
        renderer: Renderer,
        lease: Callable[[], Lease | None],
    ) -> None:
        self.destination = destination
        self._done = metrics.DELIVERED.labels(destination, "done")
        self._store, self._renderer = store, renderer
        self.fit(end, settings)
        self._work = asyncio.Event()
        self._feed = Feed(destination, store, renderer, lease, self._work)
        self._lanes = self._feed.lanes
        self._probing = False
        self._stopping = False
        self._marking: set[asyncio.Task[None]] = set()

    def fit(self, end: Sink | Projection, settings: SinkSettings) -> None:
        """Send through ``end`` under ``settings`` from the next :meth:`run` on; not called while it runs."""
        self.end, self.settings = end, settings
        self.away: Away | None = None
        self._end: Sink | None = None
        self._projection: Projection | None = None
        if isinstance(end, Projection):
            self._projection = end
        else:
            self._end = end

    async def run(self) -> None:
        """Deliver until :meth:`stop`, or until cancelled: then what is under way is sent again by the next owner."""
        self._stopping = self._probing = False
        self._feed.restart()
        feed = asyncio.create_task(self._feed.run())
        hands = [asyncio.create_task(self._hand()) for _ in range(self.settings.parallel)]
        try:
            either: list[asyncio.Future[Any]] = [feed, asyncio.gather(*hands)]
            done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            for task in (feed, *hands):
                task.cancel()

    def stop(self) -> None:
        """Send nothing more; :meth:`run` returns when what is under way has ended."""
        self._stopping = True
        self._work.set()

    def ring(self) -> None:
        """Something new may be owed, or the lease is a new one: look for it."""
        self._feed.ring()

    def offer(self, owed: Owed) -> None:
        """Something was just accepted by this process; see :meth:`Feed.offer`."""
        self._feed.offer(owed)

    # sending

    async def _hand(self) -> None:
        while not self._stopping:
            entry = self._next()
            if entry is None:
                await self._wait()
                continue
            await self._attempt(entry)

    def _next(self) -> Entry | None:
        if not self._feed.owned:
            self._feed.want()
            return None
        if len(self._lanes.unmarked) + len(self._lanes.busy) >= self.settings.repeat:
            return None
        now = time.monotonic()
        if self.away and (self._probing or now < self.away.until):
            return None
        entry = self._lanes.take(now)
        self._probing = entry is not None and self.away is not None
        self._feed.want()
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
                self._feed.epoch,
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
            entry.owed.delivery,
            self._feed.epoch,
            DeliveryStatus.DONE,
            answer=answer.summary,
            sent=entry.rendered or b"",
        )
        soon = 2 * len(self._lanes.unmarked) > self.settings.repeat
        try:
            future = self._store.finish(finish, patience=0.0 if soon else PATIENCE)
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
            self._feed.epoch,
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
            self._feed.died(delivery.id)
        else:
            if entry.rendered is None and verdict.counted:
                entry.failure = None
            self._lanes.again(entry, time.monotonic() + wait)

    def _next_try(self, error: BaseException, verdict: Verdict, attempts: int) -> float:
        """Seconds to wait. While a destination is away, all of it waits and one delivery probes."""
        policy = self.settings.retry
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
