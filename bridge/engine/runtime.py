"""One node: its channels, its deliverers, the revision it serves. Starts, serves, turns to another revision, stops."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

import structlog

from bridge.engine import metrics
from bridge.engine.batches import Batches
from bridge.engine.deliver import Deliverer
from bridge.engine.doorbell import LocalDoorbell, make_doorbell
from bridge.engine.ends import Ends, ingredients
from bridge.engine.owner import Owner
from bridge.engine.plan import Plan
from bridge.engine.receive import Receiver
from bridge.engine.relay import Relay
from bridge.engine.reload import Reload
from bridge.engine.render import Renderer
from bridge.engine.state import StoredState
from bridge.engine.turns import Turns
from bridge.engine.workers import Workers
from bridge.errors import BridgeError, NotFound, Permanent, SettingsError, StoreUnavailable
from bridge.message import new_id
from bridge.peers import PeerRecord, Watching
from bridge.ports import Receive, Services, Source, SourceSettings, channel_type
from bridge.settings import Loaded, from_files
from bridge.store import identity_desk, revisions
from bridge.store.accept import Acceptance
from bridge.store.deliveries import Owed
from bridge.store.retention import now_millis
from bridge.store.store import Store

log = structlog.get_logger(__name__)

ROLES = frozenset({"receive", "deliver", "dicom", "web"})
MAINTENANCE = 600.0
"""Seconds between two rounds of retention."""


class Runtime:
    """Serves one revision at a time on one node. ``roles`` says which part of the work it takes."""

    def __init__(
        self, loaded: Loaded, store: Store, *, roles: frozenset[str] = ROLES, alone: bool | None = None
    ) -> None:
        self.store, self.roles = store, roles
        self.plan = Plan(loaded)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()[-6:]}"
        self.workers = Workers()
        self.turns = Turns()
        self.ends = Ends(roles, self._build, self._receive)
        self.relay = Relay(store, self.workers, self.ends.__getitem__)
        alone = store.database.embedded if alone is None else alone
        self._rival = "" if alone else self.owner
        """By what name it takes the channels' turns; empty where no other node can."""
        renderer = Renderer(store, self.plan_of, self.workers)
        self._lanes = Owner(self.owner, store, renderer, alone=alone, heard=self._listen)
        self._reload = Reload(self)
        self._plans = {self.plan.revision: self.plan}
        self._gauged: set[str] = set()
        """Destinations that have gauges: also those that were removed."""
        self._doorbell: LocalDoorbell | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bind every channel, then serve. Raises SettingsError naming every channel that could not start."""
        self._maintain()
        self._doorbell = make_doorbell(asyncio.get_running_loop(), self._ring, self.plan.config.broker.url)
        self.store.on_commit = self._doorbell.announce
        self.store.hand_over(self._hand_over)
        try:
            await self._reload.start()
        except SettingsError:
            await self.stop()
            raise
        forever = [self._maintain_forever(), self._reload.watch()]
        if "deliver" in self.roles:
            forever.append(self._lanes.renew_forever())
        self._tasks = [asyncio.create_task(work) for work in forever]
        log.info("engine_started", revision=self.plan.revision, node=self.owner, roles=sorted(self.roles))

    async def turn_to(self, plan: Plan, leaving: dict[str, Plan]) -> None:
        """Serve ``plan`` from now on, and ``leaving`` (destination -> plan) for what is still on its way there.

        What was accepted before keeps its revision. Channels that are the same keep their connections. Raises
        SettingsError naming every channel that could not start: then the former plan is served on.
        """
        await asyncio.to_thread(self.store.keep_revision, plan.revision, plan.files)
        await asyncio.to_thread(self.store.ensure_destinations, plan.destinations())

        def swap() -> None:
            self._plans = {one.revision: one for one in (self.plan, plan)}
            self.plan = plan

        try:
            await self.ends.turn_to(plan, leaving, swap)
        finally:
            if "deliver" in self.roles:
                await self._lanes.fit(self.ends.sinks)
        await self.ends.close_unused()

    async def stop(self) -> None:
        """Stop receiving, let what is under way end, give the leases back."""
        await self.ends.stop_receiving()
        await self._lanes.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ends.close()
        if self._doorbell:
            self._doorbell.close()
        self.workers.close()
        with suppress(StoreUnavailable):
            self.store.give_back(self.owner)
            self.store.write(lambda tx: revisions.gone(tx, self.owner))
        log.info("engine_stopped", node=self.owner)

    @property
    def loaded(self) -> Loaded:
        """The files of the revision that is served."""
        return self.plan.loaded

    @property
    def sources(self) -> dict[str, Source]:
        """The channels that listen here."""
        return self.ends.sources

    @property
    def deliverers(self) -> dict[str, Deliverer]:
        """By destination; of those that are served here or would be if another node let go of them."""
        return self._lanes.deliverers

    def compiled(self, revision: str) -> Plan:
        """The plan of a kept revision. Raises NotFound or SettingsError."""
        if revision not in self._plans:
            files = self.store.revision_files(revision)
            self._plans[revision] = Plan(from_files(files, self.plan.loaded.folder))
        return self._plans[revision]

    def plan_of(self, revision: str) -> Plan:
        """The plan of a revision that deliveries still name. Raises Permanent when this version cannot read it."""
        try:
            return self.compiled(revision)
        except (NotFound, SettingsError) as error:
            what = f"revision {revision} cannot be used by this version: {error.what}"
            raise Permanent(what, fix="replay it: that uses the current revision", kind="settings") from error

    def endpoints(self) -> dict[str, str]:
        """Channel -> where it listens or connects, for people."""
        return {name: end.endpoint for name, end in self.ends.made.items()}

    def away(self) -> dict[str, dict[str, Any]]:
        """Destinations that cannot be reached now, and why."""
        return {
            name: {"reason": deliverer.away.reason, "failures": deliverer.away.failures}
            for name, deliverer in self.deliverers.items()
            if deliverer.away
        }

    def receiver(self, channel: str) -> Receiver:
        """Takes single messages as if they came from this channel."""
        return Receiver(channel, self.store, lambda: self.plan, self.workers, self.turns, self.relay)

    def _build(self, plan: Plan, name: str) -> Any:
        settings, system, systems, site, answered = ingredients(plan, name)
        answers = self.receiver(name) if answered else None
        kept = self.store
        store = {"worklist": kept.worklist, "fhir": kept.fhir, "subscriptions": kept.subscriptions, "trail": kept.trail}
        state = StoredState(self.store, name, self._rival)
        found: dict[str, Any] = {**store, "system": system, "systems": systems}
        services = Services(name, site, **found, answers=answers, state=state, work=self.workers.run)
        return channel_type(settings.type).build(settings, services)

    def _receive(self, plan: Plan, name: str) -> Receive:
        receiver, settings = self.receiver(name), plan.config.channels[name]
        if not isinstance(settings, SourceSettings) or settings.format != "hl7v2":
            return receiver
        return Batches(receiver, one_by_one=settings.one_by_one)

    def _listen(self, destinations: frozenset[str]) -> None:
        if self._doorbell:
            self._doorbell.listen(destinations)

    def _ring(self, destination: str) -> None:
        deliverer = self.deliverers.get(destination)
        if deliverer:
            deliverer.ring()

    def _hand_over(self, accepted: Acceptance) -> None:
        """Give what was just accepted to its deliverers here; other nodes hear the bell."""
        message = accepted.message
        for delivery in accepted.deliveries:
            deliverer = self.deliverers.get(delivery.destination)
            if deliverer:
                header = message.header
                about = (message.raw, message.format, header.control_id, header.charset)
                deliverer.offer(Owed(delivery, *about, wait_ms=0, fresh=True, parsed=accepted.parsed))
        if self._doorbell:
            self._doorbell.tell_others({delivery.destination for delivery in accepted.deliveries})

    def _maintain(self) -> None:
        config = self.plan.config
        self.store.maintain(keep_days=config.retention.days, receipt_window_ms=int(config.receipts.window * 1000))

    async def _maintain_forever(self) -> None:
        while True:
            await asyncio.sleep(MAINTENANCE)
            try:
                await asyncio.to_thread(self._maintain)
            except BridgeError as error:
                log.warning("maintenance_failed", what=error.what)

    def peers(self) -> dict[str, dict[str, PeerRecord]]:
        """Channel -> host -> what was discarded of it, and which connections were refused. The samples are content."""
        return {name: end.peers.records for name, end in self.ends.made.items() if isinstance(end, Watching)}

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date; blocks on the database."""
        for name, end in self.ends.made.items():
            if isinstance(end, Watching):
                metrics.DISCARDED.labels(name).set(end.peers.discarded_bytes)
                metrics.REFUSED.labels(name).set(end.peers.refused_connections)
        lanes = {lane.destination: lane for lane in self.store.lanes()}
        now = now_millis()
        self._gauged |= {*self.plan.destinations(), *lanes}
        for name in self._gauged:
            lane = lanes.get(name)
            metrics.PENDING.labels(name).set(lane.pending if lane else 0)
            metrics.DEAD.labels(name).set(lane.dead if lane else 0)
            metrics.OLDEST.labels(name).set((now - lane.oldest) / 1000 if lane and lane.oldest else 0)
        metrics.COMMITS.set(self.store.commits)
        metrics.QUEUED.set(self.store.waiting)
        metrics.UNFETCHED.set(self.store.worklist.count_unfetched())
        self._count_subscriptions()
        metrics.QUESTIONS.set(self.store.read(identity_desk.open_questions))

    def _count_subscriptions(self) -> None:
        counted = self.store.subscriptions.counted()
        metrics.SUBSCRIPTIONS.clear()
        metrics.UNTOLD.clear()
        for channel, status, number, waiting in counted:
            metrics.SUBSCRIPTIONS.labels(channel, status).set(number)
            metrics.UNTOLD.labels(channel).inc(0 if status == "off" else waiting)
