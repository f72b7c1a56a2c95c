"""A plan: one revision of configuration, mappings and tables, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.codecs.adt import LONGEST
from bridge.codecs.formats import FORMATS
from bridge.engine import application_ack
from bridge.errors import BridgeError, NotFound, SettingsError
from bridge.mapping import CompiledMapping, MappingSet, Profile, Rendered, compile_all, compile_condition
from bridge.message import SHARED, Delivery, Header, Message, new_id
from bridge.ports import ChannelSettings, SinkSettings, SourceSettings
from bridge.settings import Config, Loaded

Condition = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    name: str
    when: Condition
    targets: tuple[tuple[str, str], ...]
    """(destination, mapping or empty), in the written sequence."""


@dataclass(frozen=True, slots=True)
class Question:
    """A route that asks: which destination, through which mapping there and back (empty: unchanged), how long."""

    route: str
    when: Condition
    destination: str
    mapping: str
    answer: str
    timeout: float
    """Seconds."""


class Plan:
    """What a revision does with a message. Immutable; kept until the last delivery that names it has ended."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.revision: str = loaded.revision
        self.config: Config = loaded.config
        self.files: Mapping[str, str] = loaded.files
        compiled: MappingSet = compile_all(loaded.mapping_files)
        errors = [finding for finding in compiled.findings if finding.severity == "error"]
        if errors:
            raise SettingsError(errors)
        self.mappings: dict[str, CompiledMapping] = {**application_ack.MAPPINGS, **compiled.mappings}
        self.profiles: Mapping[str, Profile] = compiled.profiles
        self._by_source: dict[str, list[CompiledRoute]] = {}
        self._questions: dict[str, list[Question]] = {}
        for name, route in self.config.routes.items():
            when = compile_condition(route.when, f"routes.{name}.when")
            targets = tuple((target.destination, target.mapping) for target in route.to)
            for source in route.sources:
                if route.ask:
                    question = Question(name, when, *route.ask.to, route.ask.answer, route.ask.timeout)
                    self._questions.setdefault(source, []).append(question)
                else:
                    self._by_source.setdefault(source, []).append(CompiledRoute(name, when, targets))
        self._former_lanes: dict[str, set[str]] = {}
        self._sources = {name: _source(settings) for name, settings in self.config.channels.items()}
        self.context: dict[str, Any] = {"site": self.config.site.model_dump(mode="json")}

    def source(self, channel: str) -> SourceSettings:
        """The policies for what comes from a channel; of one that sends, or that only an older revision has, for what
        its destination answers."""
        return self._sources.get(channel) or _source(ChannelSettings(type=""))

    def is_source(self, channel: str) -> bool:
        """Whether a route wants what comes from this channel."""
        return channel in self._by_source

    def question(self, message: Message, parsed: Any) -> Question | None:
        """The first route that wants this message to be asked; None if it is no question."""
        for question in self._questions.get(message.channel, ()):
            if question.when(parsed):
                return question
        return None

    def deliveries(self, message: Message, parsed: Any) -> list[Delivery]:
        """What the routes owe for this message: one delivery per destination and mapping, none twice."""
        return [
            self.delivery(message.id, message.day, message.header, route, destination, mapping, message.received_at)
            for destination, mapping, route in self.targets(message.channel, parsed)
        ]

    def own(self, message: Message) -> Delivery:
        """For the journal: what a message does to the projection of its own channel when it is accepted."""
        return self.delivery(message.id, message.day, message.header, "", message.channel, "", message.received_at)

    def acknowledgement(self, message: Message, parsed: Any) -> list[Delivery]:
        """The application acknowledgement, where the channel sends it over another one and the sender wants it."""
        settings = self.source(message.channel)
        destination, name = settings.application_ack, application_ack.NAMES[settings.order_answers]
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
        return Delivery(
            id=new_id(),
            message=message,
            day=day,
            route=route,
            destination=destination,
            mapping=mapping,
            revision=self.revision,
            keys=self._keys(header, destination),
            context={"now": now} if mapping in application_ack.MAPPINGS else {},
            created_at=now,
        )

    def keep_sequence_with(self, lanes: Iterable[tuple[str, str]]) -> None:
        """(destination, its ``lane`` in another revision) of what is still on its way: what this revision makes for the
        destination keeps its sequence with that, too."""
        for destination, lane in lanes:
            settings = self.config.channels.get(destination)
            if isinstance(settings, SinkSettings) and settings.lane != lane:
                self._former_lanes.setdefault(destination, set()).add(lane)

    def _keys(self, header: Header, destination: str) -> tuple[str, ...]:
        keys, former = lane_keys(header, self.sink(destination).lane), self._former_lanes.get(destination)
        if not former:
            return keys
        return tuple(sorted({*keys, *(key for lane in former for key in lane_keys(header, lane))}))

    def sink(self, destination: str) -> SinkSettings:
        """The policies of a destination. Raises NotFound for one that only another revision has."""
        settings = self.config.channels.get(destination)
        if not isinstance(settings, SinkSettings):
            raise NotFound(f"revision {self.revision} has no destination {destination}", fix="skip it, or add it again")
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


def _source(settings: ChannelSettings) -> SourceSettings:
    if isinstance(settings, SourceSettings):
        return settings
    return SourceSettings(type=settings.type, test_messages="accept")


def lane_keys(header: Header, lane: str) -> tuple[str, ...]:
    """The keys on which a message keeps its sequence: one for the destination, or each patient, or each order.

    A message that names none shares one key with the others that name none. By order, a message without orders is about
    its patients: it waits for whatever concerns them and holds it up, a merge above all.
    """
    if lane == "destination":
        return ("",)
    named = {key.lstrip(SHARED)[:LONGEST] for key in header.patients}
    if lane == "order":
        named = {SHARED + key for key in named} | ({key[:LONGEST] for key in header.orders} or named)
    return tuple(sorted(named)) or ("-",)
