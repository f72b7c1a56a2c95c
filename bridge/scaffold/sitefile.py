"""Additions to a site file that a person wrote: every byte of it stays, comments and layout too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from bridge.errors import BridgeError
from bridge.yamlfile import parse


def add(text: str, section: str, blocks: Mapping[str, str]) -> str:
    """``text`` with named blocks at the end of a section, which is added if it is missing.

    ``blocks``: YAML by name, written as it stands in the section, from its first column. Raises BridgeError if the
    section cannot be added to, or a name is taken.
    """
    before = parse(text, "").data or {}
    taken = [name for name in blocks if name in (before.get(section) or {})]
    if taken:
        raise BridgeError(f"`{section}` has `{taken[0]}` already", fix="choose another name", kind="duplicate_key")
    lines = text.splitlines(keepends=True)
    at, indent = _end(text, lines, section)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    added = [f"{' ' * indent}{line}\n" for block in blocks.values() for line in block.splitlines()]
    head = [] if section in before else ["\n", f"{section}:\n"]
    result = "".join([*lines[:at], *head, *added, *lines[at:]])
    _same_but(before, parse(result, "").data, section, blocks)
    return result


def _end(text: str, lines: list[str], section: str) -> tuple[int, int]:
    """The line before which a section's next block stands, and its column."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    for key, value in pairs:
        if key.value != section:
            continue
        if isinstance(value, yaml.ScalarNode) and not value.value:
            return key.start_mark.line + 1, 2
        if not isinstance(value, yaml.MappingNode) or value.flow_style:
            what = f"`{section}` is written on one line"
            raise BridgeError(what, fix="write each of its blocks on lines of their own", kind="settings")
        end = value.end_mark.line + (1 if value.end_mark.column else 0)
        while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
            end -= 1
        return end, value.value[0][0].start_mark.column
    return len(lines), 2


def _same_but(before: dict[str, Any], after: Any, section: str, blocks: Mapping[str, str]) -> None:
    """Raises BridgeError unless ``after`` is ``before`` and the blocks."""
    rest = {name: block for name, block in (after.get(section) or {}).items() if name not in blocks}
    others = {name: value for name, value in after.items() if name != section}
    same = rest == (before.get(section) or {}) and set(blocks) <= set(after[section])
    if not same or others != {name: value for name, value in before.items() if name != section}:
        what, fix = f"`{section}` cannot be added to as it is written", "lay its blocks out below each other"
        raise BridgeError(what, fix=fix, kind="settings")
