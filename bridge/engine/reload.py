"""Another revision while the engine runs: each node looks once a second which one is deployed, and turns to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from bridge.engine.plan import Plan
from bridge.errors import BridgeError, NotFound, Permanent, SettingsError
from bridge.store import revisions
from bridge.store.revisions import Deployment
from bridge.store.store import Store

if TYPE_CHECKING:
    from bridge.engine.runtime import Runtime

log = structlog.get_logger(__name__)

LOOK = 1.0
"""Seconds between two looks at what is deployed."""


class Reload:
    """Keeps one node at the deployed revision. A revision that cannot be served here is refused, for all nodes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._store = runtime, runtime.store
        self._number = 0
        """Of the deployment that is served."""
        self._leaving: dict[str, str] = {}
        """Destinations that only an older revision has, each with that revision."""

    async def start(self) -> None:
        """Serve the revision that the node was started with; it is a deployment of its own if another one ran before.

        Raises SettingsError naming every channel that could not start.
        """
        plan = self._runtime.plan
        await self._turn_to(plan)
        deployment: Deployment = await asyncio.to_thread(
            self._store.write,
            lambda tx: revisions.deploy(tx, plan.revision, "start", actor="engine", why="started with these files"),
        )
        await self._served(deployment)

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._look()
                await self._tell()
            except BridgeError as error:
                log.warning("deployment_not_seen", what=error.what)

    async def _look(self) -> None:
        destinations = self._runtime.plan.destinations()
        active, owed = await asyncio.to_thread(
            self._store.read,
            lambda c: (revisions.active(c), revisions.owed_elsewhere(c, destinations)),
        )
        if active and active.number != self._number:
            await self._take_over(active)
        elif owed.keys() != self._leaving.keys():
            await self._turn_to(self._runtime.plan)

    async def _take_over(self, deployment: Deployment) -> None:
        runtime, former = self._runtime, self._runtime.plan.revision
        try:
            await self._turn_to(await asyncio.to_thread(runtime.compiled, deployment.revision))
        except (NotFound, SettingsError) as error:
            why = f"{runtime.owner}: {error}"
            log.error("deployment_refused", number=deployment.number, revision=deployment.revision, why=why)
            await asyncio.to_thread(
                self._store.write, lambda tx: revisions.refuse(tx, deployment.number, runtime.owner, why)
            )
        else:
            log.info("revision_changed", number=deployment.number, revision=deployment.revision, former=former)
            await self._served(deployment)

    async def _turn_to(self, plan: Plan) -> None:
        """The plan, and what is still on its way to destinations that it does not have."""
        await asyncio.to_thread(keep_sequences, plan, self._store, self._runtime.plan, self._runtime.plan_of)
        self._leaving = await asyncio.to_thread(
            self._store.read, lambda c: revisions.owed_elsewhere(c, plan.destinations())
        )
        leaving: dict[str, Plan] = {}
        for name, revision in self._leaving.items():
            try:
                leaving[name] = await asyncio.to_thread(self._runtime.plan_of, revision)
            except Permanent as error:
                log.error("destination_not_served", destination=name, what=error.what)
        await self._runtime.turn_to(plan, leaving)
        if leaving:
            log.info("destinations_leaving", destinations=sorted(leaving))

    async def _served(self, deployment: Deployment) -> None:
        self._number = deployment.number
        await self._tell()

    async def _tell(self) -> None:
        """Let everybody know that this node runs, and under which deployment."""
        owner, number = self._runtime.owner, self._number
        await asyncio.to_thread(self._store.write, lambda tx: revisions.seen(tx, owner, number))


def keep_sequences(plan: Plan, store: Store, former: Plan, plan_of: Callable[[str], Plan]) -> None:
    """Let ``plan`` keep every sequence that is still under way: destinations may have had another ``lane`` when it was
    begun, by deliveries of older revisions, by ``former`` or by another node. Blocks on the database."""
    lanes = [(name, former.sink(name).lane) for name in former.destinations()]
    begun = store.read(revisions.named)
    running = store.read(revisions.active)
    if running:
        begun |= {(name, running.revision) for name in plan.destinations()}
    for destination, revision in sorted(begun):
        if revision not in (plan.revision, former.revision):
            with suppress(NotFound, Permanent, SettingsError):
                lanes.append((destination, plan_of(revision).sink(destination).lane))
    plan.keep_sequence_with(lanes)
