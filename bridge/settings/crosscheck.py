"""What no section of a site file can know alone: that names meet, ports differ, and every channel has a use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.errors import Finding
from bridge.ports import HostPort, channel_type
from bridge.settings.model import Config, Route
from bridge.yamlfile import Path_, YamlFile, suggest

_EVERY_HOST = {"0.0.0.0", "::", "*"}


def cross_check(
    config: Config, written: Mapping[str, Any], file: YamlFile, files: Iterable[str], findings: list[Finding]
) -> None:
    """Append a finding for each contradiction between sections. ``written`` are the channels as they stand in the
    file, those with problems of their own included: they are not reported a second time."""
    mappings = {
        name.removeprefix("mappings/").removesuffix(".yaml")
        for name in files
        if name.startswith("mappings/") and name.endswith(".yaml") and not name.endswith(".cases.yaml")
    }
    kinds = {name: channel_type(channel.type).direction for name, channel in config.channels.items()}
    for route in config.routes.values():
        findings += _route(route, kinds, written, mappings, file)
    for name, channel in config.channels.items():
        if channel.system and channel.system not in config.systems:
            fix = suggest(channel.system, config.systems) or "add it under `systems`"
            findings.append(file.finding(("channels", name, "system"), f"there is no system `{channel.system}`", fix))
        answers_to = getattr(channel, "application_ack", "same")
        if answers_to not in ("same", "none"):
            at: Path_ = ("channels", name, "application_ack")
            if finding := _channel(answers_to, "out", kinds, written, file, at):
                findings.append(finding)
    used = {name for route in config.routes.values() for name in (*route.sources, *(to.destination for to in route.to))}
    used |= {getattr(channel, "application_ack", "same") for channel in config.channels.values()}
    for name in config.channels:
        if name not in used:
            fix = "name it in a route, or remove it"
            findings.append(file.finding(("channels", name), f"no route uses the channel `{name}`", fix, "warning"))
    findings += _ports(config, file)


def _route(
    route: Route, kinds: Mapping[str, str], written: Mapping[str, Any], mappings: set[str], file: YamlFile
) -> list[Finding]:
    at: Path_ = ("routes", route.name)
    findings = [
        finding
        for index, name in enumerate(route.sources)
        if (finding := _channel(name, "in", kinds, written, file, (*at, "from", index)))
    ]
    for index, target in enumerate(route.to):
        here = (*at, "to", index)
        if finding := _channel(target.destination, "out", kinds, written, file, here):
            findings.append(finding)
        if target.mapping and target.mapping not in mappings:
            fix = suggest(target.mapping, mappings) or "write it in the mappings folder"
            findings.append(file.finding(here, f"there is no mapping `{target.mapping}`", fix))
        if target in route.to[:index]:
            findings.append(file.finding(here, f"`{target.destination}` is named twice", "keep one of them"))
    return findings


def _channel(
    name: str, side: str, kinds: Mapping[str, str], written: Mapping[str, Any], file: YamlFile, at: Path_
) -> Finding | None:
    if name not in kinds:
        fitting = [other for other, kind in kinds.items() if kind in (side, "both")]
        return None if name in written else file.finding(at, f"there is no channel `{name}`", suggest(name, fitting))
    if kinds[name] in (side, "both"):
        return None
    if side == "in":
        return file.finding(at, f"`{name}` only sends: nothing comes from it", "name an inbound channel")
    return file.finding(at, f"`{name}` only receives: nothing can be sent to it", "name an outbound channel")


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
