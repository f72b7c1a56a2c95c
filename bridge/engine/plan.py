"""A plan: one revision of configuration, mappings and tables, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.codecs.formats import FORMATS
from bridge.engine import application_ack
from bridge.errors import BridgeError, SettingsError
from bridge.mapping import CompiledMapping, MappingSet, Rendered, compile_all, compile_condition
from bridge.message import Delivery, Header, Message, new_id
from bridge.ports import SinkSettings, SourceSettings
from bridge.settings import Config, Loaded

Condition = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    name: str
    when: Condition
    targets: tuple[tuple[str, str], ...]
    """(destination, mapping or empty), in the written sequence."""


class Plan:
    """What a revision does with a message. Immutable; kept until the last delivery that names it has ended."""

    def __init__(self, loaded: Loaded) -> None:
        self.revision: str = loaded.revision
        self.config: Config = loaded.config
        self.files: Mapping[str, str] = loaded.files
        compiled: MappingSet = compile_all(loaded.mapping_files)
        errors = [finding for finding in compiled.findings if finding.severity == "error"]
        if errors:
            raise SettingsError(errors)
        self.mappings: dict[str, CompiledMapping] = {application_ack.NAME: application_ack.MAPPING, **compiled.mappings}
        self._by_source: dict[str, list[CompiledRoute]] = {}
        for name, route in self.config.routes.items():
            when = compile_condition(route.when, f"routes.{name}.when")
            targets = tuple((target.destination, target.mapping) for target in route.to)
            for source in route.sources:
                self._by_source.setdefault(source, []).append(CompiledRoute(name, when, targets))
        self.context: dict[str, Any] = {"site": self.config.site.model_dump(mode="json")}

    def deliveries(self, message: Message, parsed: Any) -> list[Delivery]:
        """What the routes owe for this message: one delivery per destination and mapping, none twice."""
        return [
            self.delivery(message.id, message.day, message.header, route, destination, mapping, message.received_at)
            for destination, mapping, route in self.targets(message.channel, parsed)
        ]

    def acknowledgement(self, message: Message, parsed: Any) -> list[Delivery]:
        """The application acknowledgement, where the channel sends it over another one and the sender wants it."""
        settings = self.config.channels[message.channel]
        assert isinstance(settings, SourceSettings)
        destination, name = settings.application_ack, application_ack.NAME
        if destination in ("same", "none") or not FORMATS[message.format].defers(parsed):
            return []
        return [self.delivery(message.id, message.day, message.header, name, destination, name, message.received_at)]

    def targets(self, channel: str, parsed: Any) -> list[tuple[str, str, str]]:
        """(destination, mapping, route) for each that wants this message, none twice."""
        owed: dict[tuple[str, str], str] = {}
        for route in self._by_source.get(channel, ()):
            if route.when(parsed):
                for target in route.targets:
                    owed.setdefault(target, route.name)
        return [(destination, mapping, route) for (destination, mapping), route in owed.items()]

    def delivery(
        self, message: str, day: int, header: Header, route: str, destination: str, mapping: str, now: int
    ) -> Delivery:
        """A new delivery under this revision, with the lane keys its destination wants."""
        sink = self.sink(destination)
        return Delivery(
            id=new_id(),
            message=message,
            day=day,
            route=route,
            destination=destination,
            mapping=mapping,
            revision=self.revision,
            keys=lane_keys(header, sink.lane),
            context={"now": now} if mapping == application_ack.NAME else {},
            created_at=now,
        )

    def sink(self, destination: str) -> SinkSettings:
        settings = self.config.channels[destination]
        assert isinstance(settings, SinkSettings)
        return settings

    def destinations(self) -> list[str]:
        """Channels that messages can be delivered to."""
        return [name for name, settings in self.config.channels.items() if isinstance(settings, SinkSettings)]

    def mapping(self, name: str) -> CompiledMapping:
        if name not in self.mappings:
            raise BridgeError(f"revision {self.revision} has no mapping {name}", fix="replay with the current revision")
        return self.mappings[name]

    def render(self, name: str, parsed: Any, context: Mapping[str, Any]) -> Rendered:
        """Translate. Raises MappingError with place and fix."""
        return self.mapping(name).render(parsed, {**self.context, **context})


def lane_keys(header: Header, lane: str) -> tuple[str, ...]:
    """The keys on which a message keeps its sequence: one for the destination, or each patient, or each order.

    A message that names none shares one key with the others that name none.
    """
    if lane == "destination":
        return ("",)
    named = header.patients if lane == "patient" else (header.orders or header.patients)
    return tuple(sorted({key[:255] for key in named})) or ("-",)
