"""The destinations of one node: a deliverer for each, and the leases under which they deliver (law 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog

from bridge.engine.deliver import Deliverer
from bridge.engine.render import Renderer
from bridge.errors import BridgeError
from bridge.ports import SinkSettings
from bridge.store.leases import TERM, Lease
from bridge.store.store import Store

log = structlog.get_logger(__name__)

GRACE = 5.0
"""Seconds that deliveries under way get to end when their destination stops."""


class Owner:
    """Serves the destinations whose leases it holds. ``heard(destinations)`` is told which these are."""

    def __init__(
        self, name: str, store: Store, renderer: Renderer, *, alone: bool, heard: Callable[[frozenset[str]], None]
    ) -> None:
        self.deliverers: dict[str, Deliverer] = {}
        self._name, self._store, self._renderer, self._alone, self._heard = name, store, renderer, alone, heard
        self._leases: dict[str, Lease] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}

    async def fit(self, sinks: Mapping[str, tuple[Any, SinkSettings]]) -> None:
        """Serve exactly these destinations, each through its end; those whose end is the same are not touched."""
        changed = [name for name, one in self.deliverers.items() if name not in sinks or sinks[name][0] is not one.end]
        await asyncio.gather(*(self._halt(name) for name in changed))
        for name, (end, settings) in sinks.items():
            if name in changed:
                self.deliverers[name].fit(end, settings)
            elif name not in self.deliverers:
                lease = partial(self._lease, name)
                self.deliverers[name] = Deliverer(name, end, settings, self._store, self._renderer, lease)
        for name in self.deliverers.keys() - sinks.keys():
            del self.deliverers[name]
        await self._renew()
        for name, deliverer in self.deliverers.items():
            if name not in self._serving:
                self._serving[name] = asyncio.create_task(self._serve(deliverer))

    async def renew_forever(self) -> None:
        """Keep the leases until cancelled."""
        while True:
            await asyncio.sleep(TERM / 3)
            try:
                await self._renew()
            except BridgeError as error:
                log.warning("leases_not_renewed", what=error.what)

    async def stop(self) -> None:
        """Let what is under way end."""
        await asyncio.gather(*(self._halt(name) for name in list(self._serving)))

    async def _halt(self, name: str) -> None:
        task = self._serving.pop(name)
        self.deliverers[name].stop()
        await asyncio.wait([task], timeout=GRACE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _lease(self, name: str) -> Lease | None:
        return self._leases.get(name)

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
        held = await self._store.leases(self._name, self.deliverers, alone=self._alone)
        former, self._leases = self._leases, {lease.destination: lease for lease in held}
        for name in self._leases.keys() - former.keys():
            self.deliverers[name].ring()
        self._heard(frozenset(self._leases))
