"""What no section of a site file can know alone: that names meet, ports differ, and every channel has a use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import Finding
from bridge.ports import AnsweringSettings, ChannelSettings, HostPort, SourceSettings, channel_type
from bridge.settings.facades import check_facades, serves_clients
from bridge.settings.model import Config, Route
from bridge.settings.transfers import check_transfers
from bridge.yamlfile import Path_, YamlFile, suggest

_PROFILE = re.compile(r"^profile:", re.MULTILINE)
_EVERY_HOST = {"0.0.0.0", "::", "*"}


def cross_check(
    config: Config, written: Mapping[str, Any], file: YamlFile, files: Mapping[str, str], findings: list[Finding]
) -> None:
    """Append a finding for each contradiction between sections. ``written`` are the channels as they stand in the
    file, those with problems of their own included: they are not reported a second time."""
    compiled = {
        name.removeprefix("mappings/").removesuffix(".yaml"): text
        for name, text in files.items()
        if name.startswith("mappings/") and name.endswith(".yaml") and not name.endswith(".cases.yaml")
    }
    profiles = {name for name, text in compiled.items() if _PROFILE.search(text)}
    names = _Names(config.channels, written, set(compiled) - profiles, profiles, file)
    for route in config.routes.values():
        findings += _route(route, names)
    for name, channel in config.channels.items():
        if channel.system and channel.system not in config.systems:
            fix = suggest(channel.system, config.systems) or "add it under `systems`"
            findings.append(file.finding(("channels", name, "system"), f"there is no system `{channel.system}`", fix))
        if isinstance(channel, SourceSettings):
            findings += names.judges(channel.profile, ("channels", name, "profile"))
        acknowledged_by = getattr(channel, "application_ack", "same")
        if acknowledged_by not in ("same", "none"):
            findings += names.takes(acknowledged_by, ("channels", name, "application_ack"))
    used = {name for route in config.routes.values() for name in _named(route)}
    used |= {getattr(channel, "application_ack", "same") for channel in config.channels.values()}
    for name in config.channels:
        if name not in used and not serves_clients(config.channels[name]):
            fix = "name it in a route, or remove it"
            findings.append(file.finding(("channels", name), f"no route uses the channel `{name}`", fix, "warning"))
    findings += _ports(config, file)
    findings += check_transfers(config, file)
    findings += check_facades(config, file)


@dataclass(frozen=True, slots=True)
class _Names:
    """What names can stand for, and a finding for one that does not stand for what its place needs."""

    channels: Mapping[str, ChannelSettings]
    written: Mapping[str, Any]
    mappings: set[str]
    profiles: set[str]
    file: YamlFile

    def gives(self, name: str, at: Path_) -> list[Finding]:
        """Messages come from it: it receives, or its destination answers in messages."""
        what, fix = f"`{name}` only sends: nothing comes from it", "name an inbound channel"
        return self._fits(name, at, lambda one: _is(one, "in") or isinstance(one, AnsweringSettings), what, fix)

    def takes(self, name: str, at: Path_) -> list[Finding]:
        what, fix = f"`{name}` only receives: nothing can be sent to it", "name an outbound channel"
        return self._fits(name, at, lambda one: _is(one, "out"), what, fix)

    def answers(self, name: str, at: Path_) -> list[Finding]:
        what = f"`{name}` cannot be asked: it brings no answers back"
        fitting = [other for other, channel in self.channels.items() if isinstance(channel, AnsweringSettings)]
        fix = f"ask one that does: {', '.join(fitting)}" if fitting else "ask through an mllp-out channel"
        return self._fits(name, at, lambda one: isinstance(one, AnsweringSettings), what, fix)

    def maps(self, name: str, at: Path_) -> list[Finding]:
        if not name or name in self.mappings:
            return []
        fix = suggest(name, self.mappings) or "write it in the mappings folder"
        return [self.file.finding(at, f"there is no mapping `{name}`", fix)]

    def judges(self, profiles: Iterable[str], at: Path_) -> list[Finding]:
        missing = [name for name in profiles if name not in self.profiles]
        fix = "a profile is a file of the mappings folder that begins with `profile:`"
        return [
            self.file.finding(at, f"there is no profile `{name}`", suggest(name, self.profiles) or fix)
            for name in missing
        ]

    def _fits(
        self, name: str, at: Path_, fits: Callable[[ChannelSettings], bool], what: str, fix: str
    ) -> list[Finding]:
        if name in self.channels:
            return [] if fits(self.channels[name]) else [self.file.finding(at, what, fix)]
        near = suggest(name, [other for other, channel in self.channels.items() if fits(channel)])
        return [] if name in self.written else [self.file.finding(at, f"there is no channel `{name}`", near)]


def _is(channel: ChannelSettings, side: str) -> bool:
    return channel_type(channel.type).direction in (side, "both")


def _named(route: Route) -> list[str]:
    asked = [route.ask.to.destination] if route.ask else []
    return [*route.sources, *(target.destination for target in route.to), *asked]


def _route(route: Route, names: _Names) -> list[Finding]:
    at: Path_ = ("routes", route.name)
    findings: list[Finding] = []
    for index, name in enumerate(route.sources):
        findings += names.gives(name, (*at, "from", index))
    for index, target in enumerate(route.to):
        here = (*at, "to", index)
        findings += names.takes(target.destination, here) + names.maps(target.mapping, here)
        if target in route.to[:index]:
            findings.append(names.file.finding(here, f"`{target.destination}` is named twice", "keep one of them"))
    if route.ask:
        findings += names.answers(route.ask.to.destination, (*at, "ask"))
        findings += names.maps(route.ask.to.mapping, (*at, "ask")) + names.maps(route.ask.answer, (*at, "answer"))
        findings += _askers(route, names)
    return findings


def _askers(route: Route, names: _Names) -> list[Finding]:
    """Sources at which nobody waits for an answer in HL7 v2."""
    found = []
    for index, name in enumerate(route.sources):
        source = names.channels.get(name)
        listens = isinstance(source, SourceSettings) and source.format == "hl7v2" and hasattr(source, "listen")
        if source is not None and not listens:
            what = f"`{name}` cannot ask: only a sender of HL7 v2 on a connection waits for an answer"
            found.append(names.file.finding(("routes", route.name, "from", index), what, "write `to` for it"))
    return found


def _ports(config: Config, file: YamlFile) -> list[Finding]:
    """Two ends that would listen on one port of one address."""
    listeners: list[tuple[Path_, str, HostPort]] = [(("web", "listen"), "`web`", config.web.listen)]
    for name, channel in config.channels.items():
        listen = getattr(channel, "listen", None)
        if isinstance(listen, HostPort):
            listeners.append((("channels", name, "listen"), f"channel `{name}`", listen))
    findings = []
    for index, (at, _, mine) in enumerate(listeners):
        for _, other, theirs in listeners[:index]:
            same_host = mine.host == theirs.host or _EVERY_HOST & {mine.host, theirs.host}
            if mine.port and mine.port == theirs.port and same_host:
                findings.append(file.finding(at, f"port {mine.port} is already used by {other}", "choose another port"))
    return findings
