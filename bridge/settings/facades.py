"""What the FHIR facades of a site have to agree on: one projection, paths of their own, and who may reach them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from bridge.errors import Finding
from bridge.ports import ChannelSettings
from bridge.settings.model import Config
from bridge.yamlfile import Path_, YamlFile

_TYPE = "fhir-server"


def check_facades(config: Config, file: YamlFile) -> Iterator[Finding]:
    """A finding for each facade that clashes with an earlier one, or that is open to other machines."""
    earlier: dict[str, Any] = {}
    for name, channel in config.channels.items():
        if not serves_clients(channel):
            continue
        one: Any = channel
        at: Path_ = ("channels", name)
        for former, other in earlier.items():
            if one.release != other.release:
                what = f"`{former}` serves {other.release}, and both serve the same resources"
                yield file.finding((*at, "release"), what, f"write release: {other.release}")
            if one.listen is None and other.listen is None and one.path == other.path:
                yield file.finding((*at, "path"), f"`{former}` is served at {one.path}", "choose another path")
        earlier[name] = one
        address = one.listen or config.web.listen
        if one.open and not _is_local(address.host) and not _knows_its_callers(one):
            what = f"everyone who reaches {address} may read and write every patient's data here"
            fix = "remove `open`, and say in `access` whose tokens let in"
            yield file.finding((*at, "open"), what, fix, "warning")


def serves_clients(channel: ChannelSettings) -> bool:
    """Whether a channel is of use without any route: clients write what other clients read."""
    return channel.type == _TYPE


def _knows_its_callers(channel: Any) -> bool:
    return bool(channel.access) or bool(channel.tls and channel.tls.ca)


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
