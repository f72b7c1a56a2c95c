"""A route names channels, or the systems behind them: ``to: [pacs]`` is the channel of the system ``pacs``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import Finding
from bridge.ports import AnsweringSettings, ChannelSettings, channel_type
from bridge.settings.model import Ask, Route, Target
from bridge.yamlfile import Path_, YamlFile

Fits = Callable[[ChannelSettings], bool]


def receives(channel: ChannelSettings) -> bool:
    return channel_type(channel.type).direction in ("in", "both")


def sends(channel: ChannelSettings) -> bool:
    return channel_type(channel.type).direction in ("out", "both")


def answers(channel: ChannelSettings) -> bool:
    return isinstance(channel, AnsweringSettings)


@dataclass(frozen=True, slots=True)
class Roles:
    """What a name in a route stands for: the channel of that name, else the one channel of the system of that name."""

    channels: Mapping[str, ChannelSettings]
    written: Mapping[str, Any]
    """The channels as they stand in the file, those that could not be read included."""
    systems: Mapping[str, Any]
    file: YamlFile
    findings: list[Finding]

    def bound(self, route: Route) -> Route:
        """``route`` with channels in place of systems; a system with no channel that fits, or several, is a finding."""
        at: Path_ = ("routes", route.name)
        sources = [self._channel(name, receives, (*at, "from", number)) for number, name in enumerate(route.sources)]
        targets = [self._target(target, sends, (*at, "to", number)) for number, target in enumerate(route.to)]
        return Route(
            route.name,
            tuple(name for name in sources if name),
            tuple(target for target in targets if target),
            route.when,
            self._question(route.ask, (*at, "ask")) if route.ask else None,
        )

    def _question(self, ask: Ask, at: Path_) -> Ask | None:
        target = self._target(ask.to, answers, at)
        return ask.model_copy(update={"to": target}) if target else None

    def _target(self, target: Target, fits: Fits, at: Path_) -> Target | None:
        name = self._channel(target.destination, fits, at)
        return target._replace(destination=name) if name else None

    def _channel(self, name: str, fits: Fits, at: Path_) -> str:
        """The channel that ``name`` stands for; empty, with a finding, if that cannot be told."""
        if name in self.written or name not in self.systems:
            return name
        theirs = [own for own, data in self.written.items() if isinstance(data, dict) and data.get("system") == name]
        fitting = [own for own in theirs if own in self.channels and fits(self.channels[own])]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            what, fix = f"the system `{name}` has several channels for this", f"name one: {', '.join(fitting)}"
        else:
            what, fix = f"the system `{name}` has no channel for this", f"add one with `system: {name}`"
        if fitting or all(own in self.channels for own in theirs):
            self.findings.append(self.file.finding(at, what, fix))
        return ""
