"""One node: its channels, its deliverers, the leases it holds. Starts, serves, stops."""

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
from bridge.engine.plan import Plan
from bridge.engine.receive import Receiver
from bridge.engine.relay import Relay
from bridge.engine.render import Renderer
from bridge.engine.turns import Turns
from bridge.engine.workers import Workers
from bridge.errors import BridgeError, Finding, NotFound, Permanent, SettingsError, StoreUnavailable
from bridge.message import new_id
from bridge.ports import (
    AnsweringSettings,
    ChannelSettings,
    PeerRecord,
    Receive,
    Services,
    SinkSettings,
    Source,
    SourceSettings,
    Watching,
    channel_type,
)
from bridge.settings import Loaded, from_files
from bridge.store import identity_desk
from bridge.store.accept import Acceptance
from bridge.store.deliveries import Owed
from bridge.store.leases import TERM, Lease
from bridge.store.retention import now_millis
from bridge.store.store import Store

log = structlog.get_logger(__name__)

ROLES = frozenset({"receive", "deliver", "dicom", "web"})
MAINTENANCE = 600.0
"""Seconds between two rounds of retention."""
GRACE = 5.0
"""Seconds that deliveries under way get to end when the node stops."""


class Runtime:
    """Runs one revision on one node. ``roles`` says which part of the work it takes."""

    def __init__(
        self, loaded: Loaded, store: Store, *, roles: frozenset[str] = ROLES, alone: bool | None = None
    ) -> None:
        self.store, self.roles = store, roles
        self.plan = Plan(loaded)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()[-6:]}"
        self.workers = Workers()
        self.turns = Turns()
        self.relay = Relay(store, self.workers, lambda name: self._ends[name])
        self.sources: dict[str, Source] = {}
        self.deliverers: dict[str, Deliverer] = {}
        self._alone = store.database.embedded if alone is None else alone
        self._plans = {self.plan.revision: self.plan}
        self._leases: dict[str, Lease] = {}
        self._ends: dict[str, Any] = {}
        self._doorbell: LocalDoorbell | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._serving: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bind every channel, then serve. Raises SettingsError naming every channel that could not start."""
        config = self.plan.config
        self.store.keep_revision(self.plan.revision, self.plan.files)
        self.store.ensure_destinations(self.plan.destinations())
        self._maintain()
        self._doorbell = make_doorbell(asyncio.get_running_loop(), self._ring, config.broker.url)
        self.store.on_commit = self._doorbell.announce
        self.store.hand_over(self._hand_over)
        self._ends = {name: self._build(name, settings) for name, settings in config.channels.items()}
        if "deliver" in self.roles:
            await self._start_deliverers()
        await self._start_sources()
        self._tasks.append(asyncio.create_task(self._maintain_forever()))
        log.info("engine_started", revision=self.plan.revision, node=self.owner, roles=sorted(self.roles))

    async def stop(self) -> None:
        """Stop receiving, let what is under way end, give the leases back."""
        await asyncio.gather(*(source.stop() for source in self.sources.values()))
        for deliverer in self.deliverers.values():
            deliverer.stop()
        if self._serving:
            await asyncio.wait(self._serving, timeout=GRACE)
        for task in (*self._serving, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._serving, *self._tasks, return_exceptions=True)
        for end in self._ends.values():
            if hasattr(end, "close"):
                await end.close()
        if self._doorbell:
            self._doorbell.close()
        self.workers.close()
        with suppress(StoreUnavailable):
            self.store.give_back(self.owner)
        log.info("engine_stopped", node=self.owner)

    def plan_of(self, revision: str) -> Plan:
        """The plan of a revision that deliveries still name. Raises Permanent when this version cannot read it."""
        if revision not in self._plans:
            try:
                self._plans[revision] = Plan(from_files(self.store.revision_files(revision)))
            except (NotFound, SettingsError) as error:
                what = f"revision {revision} cannot be used by this version: {error.what}"
                raise Permanent(what, fix="replay it: that uses the current revision", kind="settings") from error
        return self._plans[revision]

    def endpoints(self) -> dict[str, str]:
        """Channel -> where it listens or connects, for people."""
        return {name: end.endpoint for name, end in self._ends.items()}

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

    def _build(self, name: str, settings: ChannelSettings) -> Any:
        config = self.plan.config
        system = config.systems[settings.system].values if settings.system else {}
        wanted = isinstance(settings, AnsweringSettings) and self.plan.is_source(name)
        answers = self.receiver(name) if wanted else None
        services = Services(name, config.site, worklist=self.store.worklist, system=system, answers=answers)
        return channel_type(settings.type).build(settings, services)

    async def _start_sources(self) -> None:
        findings: list[Finding] = []
        for name, settings in self.plan.config.channels.items():
            direction = channel_type(settings.type).direction
            if direction == "out" or ("dicom" if direction == "both" else "receive") not in self.roles:
                continue
            source: Source = self._ends[name]
            try:
                await source.start(self._receiver(name, settings))
                self.sources[name] = source
            except BridgeError as error:
                findings.append(Finding(f"channel {name}", 0, 0, str(error)))
        if findings:
            await self.stop()
            raise SettingsError(findings)

    def _receiver(self, name: str, settings: ChannelSettings) -> Receive:
        receiver = self.receiver(name)
        if not isinstance(settings, SourceSettings) or settings.format != "hl7v2":
            return receiver
        return Batches(receiver, one_by_one=settings.one_by_one)

    async def _start_deliverers(self) -> None:
        renderer = Renderer(self.store, self.plan_of, self.workers)
        for name, settings in self.plan.config.channels.items():
            if isinstance(settings, SinkSettings):
                lease = self._lease_of(name)
                self.deliverers[name] = Deliverer(name, self._ends[name], settings, self.store, renderer, lease)
        await self._renew()
        self._tasks.append(asyncio.create_task(self._renew_forever()))
        self._serving = [asyncio.create_task(self._serve(deliverer)) for deliverer in self.deliverers.values()]

    def _lease_of(self, name: str) -> Any:
        return lambda: self._leases.get(name)

    async def _serve(self, deliverer: Deliverer) -> None:
        """Run a deliverer; a defect that ends it is logged, and it starts again."""
        while True:
            try:
                await deliverer.run()
                return
            except Exception as error:  # noqa: BLE001 - the delivery loop: one destination never takes the others along
                log.error("deliverer_restarted", destination=deliverer.destination, exc_info=error)
                await asyncio.sleep(1.0)

    async def _renew(self) -> None:
        held = await self.store.leases(self.owner, self.deliverers, alone=self._alone)
        former, self._leases = self._leases, {lease.destination: lease for lease in held}
        for name in self._leases.keys() - former.keys():
            self.deliverers[name].ring()
        if self._doorbell:
            self._doorbell.listen(frozenset(self._leases))

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(TERM / 3)
            try:
                await self._renew()
            except BridgeError as error:
                log.warning("leases_not_renewed", what=error.what)

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
        return {name: end.peers.records for name, end in self._ends.items() if isinstance(end, Watching)}

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date; blocks on the database."""
        for name, end in self._ends.items():
            if isinstance(end, Watching):
                metrics.DISCARDED.labels(name).set(end.peers.discarded_bytes)
                metrics.REFUSED.labels(name).set(end.peers.refused_connections)
        lanes = {lane.destination: lane for lane in self.store.lanes()}
        now = now_millis()
        for name in self.plan.destinations():
            lane = lanes.get(name)
            metrics.PENDING.labels(name).set(lane.pending if lane else 0)
            metrics.DEAD.labels(name).set(lane.dead if lane else 0)
            metrics.OLDEST.labels(name).set((now - lane.oldest) / 1000 if lane and lane.oldest else 0)
        metrics.COMMITS.set(self.store.commits)
        metrics.QUEUED.set(self.store.waiting)
        metrics.QUESTIONS.set(self.store.read(identity_desk.open_questions))
