"""Blocks of settings that a system holds for channels: what one scanner sees of the worklist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.errors import Finding
from bridge.ports import ChannelSettings, channel_type
from bridge.settings.model import System
from bridge.settings.validation import read
from bridge.yamlfile import YamlFile


def over(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A system's own settings over its adapter's; a block of settings line by line."""
    merged = {**defaults, **own}
    for name, block in defaults.items():
        mine = own.get(name)
        if isinstance(block, dict) and isinstance(mine, dict):
            merged[name] = {**block, **mine}
    return merged


def with_blocks(
    systems: Mapping[str, System],
    channels: Mapping[str, ChannelSettings],
    file: YamlFile,
    findings: list[Finding],
    folder: Path,
) -> dict[str, System]:
    """The systems with the blocks checked that the given channels will read, and paths in them as seen from
    ``folder``; a finding for each problem."""
    blocks = {name: model for one in channels.values() for name, model in channel_type(one.type).of_systems.items()}
    checked = dict(systems)
    for system, settings in systems.items():
        held = settings.model_extra or {}
        found = {
            name: read(model, held[name], file, ("systems", system, name), findings, folder)
            for name, model in blocks.items()
            if name in held
        }
        said = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in found.items() if one}
        checked[system] = settings.model_copy(update=said) if said else settings
    return checked
