"""Planned changes of stations (`transfers:` of systems): a title means one station at any time, and times ascend."""

from __future__ import annotations

from bridge.errors import Finding
from bridge.settings.model import Config, System
from bridge.yamlfile import Path_, YamlFile


def check_transfers(config: Config, file: YamlFile) -> list[Finding]:
    """A finding for each transfer that cannot be, or that would show a step twice."""
    findings: list[Finding] = []
    for name, system in config.systems.items():
        if system.transfers:
            findings += _own(name, system, file)
            for other, theirs in config.systems.items():
                if other != name:
                    findings += _shared(name, system, other, theirs, file)
    return findings


def _own(name: str, system: System, file: YamlFile) -> list[Finding]:
    """What is wrong with the transfers of one system by themselves."""
    at: Path_ = ("systems", name, "transfers")
    if not system.ae_title:
        what = "a system without an AE title has nothing to transfer"
        return [file.finding(at, what, "add the `ae_title:` that it has before the first one")]
    findings = []
    before, title, site = None, system.ae_title, ""
    for index, one in enumerate(system.transfers):
        if before and one.at <= before:
            fix = "give each transfer its own time, the earliest first"
            findings.append(file.finding((*at, index, "at"), "this is not after the transfer above", fix))
        if (one.ae_title or title, one.site or site) == (title, site):
            what, fix = (
                "this transfer changes nothing",
                f"`{name}` has this title and site by then: change or remove it",
            )
            findings.append(file.finding((*at, index), what, fix))
        before, title, site = one.at, one.ae_title or title, one.site or site
    return findings


def _shared(name: str, system: System, other: str, theirs: System, file: YamlFile) -> list[Finding]:
    """Titles that this system gets by a transfer, or gives up by one, and another system has at any time: two that
    exchange their titles (a cycle) would each have the other's steps."""
    used = {theirs.ae_title, *(one.ae_title for one in theirs.transfers)} - {""}
    fix = "a title that was another station's finds its steps: choose one that is free"
    at: Path_ = ("systems", name)
    places: list[tuple[str, Path_]] = [(system.ae_title, (*at, "ae_title"))]
    places += [(one.ae_title, (*at, "transfers", index, "ae_title")) for index, one in enumerate(system.transfers)]
    return [
        file.finding(place, f"`{title}` is a title of `{other}` too", fix) for title, place in places if title in used
    ]
