"""The channels of one node: built, started and stopped one by one as revisions come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from bridge.engine.plan import Plan
from bridge.errors import BridgeError, Finding, NotFound, SettingsError
from bridge.ports import AnsweringSettings, Inbound, Receive, Reply, SinkSettings, Source, channel_type

log = structlog.get_logger(__name__)


class Ends:
    """What this node's channels are built of, and which of them receive.

    ``build(plan, name)`` makes a channel's end, ``receive(plan, name)`` what its source hands messages to.
    """

    def __init__(
        self, roles: frozenset[str], build: Callable[[Plan, str], Any], receive: Callable[[Plan, str], Receive]
    ) -> None:
        self.made: dict[str, Any] = {}
        self.sources: dict[str, Source] = {}
        """Those that listen here."""
        self._roles, self._build, self._receive = roles, build, receive
        self._plans: dict[str, Plan] = {}
        """The plan of each end; of a destination that only an older one has, that one."""
        self._unused: list[Any] = []

    def __getitem__(self, name: str) -> Any:
        if name not in self.made:
            raise NotFound(f"the channel {name} is no more", fix="send it again")
        return self.made[name]

    @property
    def sinks(self) -> dict[str, tuple[Any, SinkSettings]]:
        """Destination -> its end and its settings."""
        settings = {name: plan.config.channels[name] for name, plan in self._plans.items()}
        return {name: (self.made[name], one) for name, one in settings.items() if isinstance(one, SinkSettings)}

    async def turn_to(self, plan: Plan, leaving: Mapping[str, Plan], swap: Callable[[], None]) -> None:
        """Go over to the channels of ``plan`` and the sinks of ``leaving``; those that are the same are not touched.

        ``swap()`` is called once every channel has started: what new ones receive waits for it. Raises SettingsError
        naming every channel that could not start; then the former ones serve on.
        """
        wanted = {**leaving, **dict.fromkeys(plan.config.channels, plan)}
        fresh = self._build_all({name: by for name, by in wanted.items() if not self._stays(name, by, plan)})
        stopped = {
            name: self.sources[name] for name in self.sources if name in fresh or name not in plan.config.channels
        }
        await self._stop(stopped)
        door = asyncio.Event()
        started, findings = await self._start(plan, fresh, door)
        if findings:
            await self._stop(started)
            await self._restore(stopped)
            raise SettingsError(findings)
        self._unused += [end for name, end in self.made.items() if name in fresh or name not in wanted]
        self.made = {name: fresh.get(name) or self.made[name] for name in wanted}
        self._plans = wanted
        self.sources.update(started)
        swap()
        door.set()

    async def close_unused(self) -> None:
        """Let go of the ends that were replaced or removed, now that nothing is sent through them any more."""
        unused, self._unused = self._unused, []
        await _close(unused)

    async def stop_receiving(self) -> None:
        await self._stop(dict(self.sources))

    async def close(self) -> None:
        await self.close_unused()
        await _close(list(self.made.values()))

    def _stays(self, name: str, by: Plan, plan: Plan) -> bool:
        """Made of the same by ``by``, and listening already if it is to listen under ``plan``."""
        if name not in self._plans or ingredients(self._plans[name], name) != ingredients(by, name):
            return False
        return by is not plan or name in self.sources or not receives(by.config.channels[name].type, self._roles)

    def _build_all(self, wanted: Mapping[str, Plan]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        findings: list[Finding] = []
        for name, plan in wanted.items():
            try:
                built[name] = self._build(plan, name)
            except BridgeError as error:
                findings.append(_finding(name, error))
        if findings:
            raise SettingsError(findings)
        return built

    async def _start(
        self, plan: Plan, ends: Mapping[str, Any], door: asyncio.Event
    ) -> tuple[dict[str, Source], list[Finding]]:
        """Those of ``ends`` that receive here."""
        started: dict[str, Source] = {}
        findings: list[Finding] = []
        for name, end in ends.items():
            settings = plan.config.channels.get(name)
            if settings is None or not receives(settings.type, self._roles):
                continue
            try:
                await end.start(_behind(door, self._receive(plan, name)))
                started[name] = end
            except BridgeError as error:
                findings.append(_finding(name, error))
        return started, findings

    async def _stop(self, sources: Mapping[str, Source]) -> None:
        for name in sources:
            self.sources.pop(name, None)
        await asyncio.gather(*(source.stop() for source in sources.values()))

    async def _restore(self, stopped: Mapping[str, Source]) -> None:
        """Start the former sources again, as new ends under their own plan."""
        door = asyncio.Event()
        door.set()
        for name in stopped:
            plan, former = self._plans[name], self.made[name]
            try:
                self.made[name] = self._build(plan, name)
                self._unused.append(former)
                await self.made[name].start(_behind(door, self._receive(plan, name)))
                self.sources[name] = self.made[name]
            except BridgeError as error:
                log.error("channel_not_restored", channel=name, what=str(error))


def ingredients(plan: Plan, name: str) -> tuple[Any, ...]:
    """All that a channel's end is built from: where it is equal in two plans, the end can stay."""
    settings, config = plan.config.channels[name], plan.config
    system = config.systems[settings.system].values if settings.system else {}
    reads = channel_type(settings.type).of_systems
    systems = {one: other.values for one, other in config.systems.items()} if reads else {}
    answered = isinstance(settings, AnsweringSettings) and plan.is_source(name)
    return settings, system, systems, config.site, answered


def receives(kind: str, roles: frozenset[str]) -> bool:
    """Whether a node with these roles receives over channels of this type."""
    found = channel_type(kind)
    return found.direction != "out" and found.role in roles


def _behind(door: asyncio.Event, receive: Receive) -> Receive:
    """Receives once the door is open."""

    async def enter(inbound: Inbound) -> Reply:
        if not door.is_set():
            await door.wait()
        return await receive(inbound)

    return enter


def _finding(name: str, error: BridgeError) -> Finding:
    return Finding(f"channel {name}", 0, 0, str(error))


async def _close(ends: list[Any]) -> None:
    for end in ends:
        if hasattr(end, "close"):
            await end.close()
