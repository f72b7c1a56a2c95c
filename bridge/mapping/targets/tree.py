"""The tree of a FHIR resource as a mapping writes it: dotted paths, nested mappings and lists, in one shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bridge.mapping.place import Findings, Place
from bridge.mapping.sources import is_line

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9]*)(?:\[(\d+)\])?")
LINK_KEYS = ("ref", "when")


@dataclass(slots=True)
class Leaf:
    """A source line, a reference or a constant, where it is written."""

    data: Any
    place: Place
    path: list[str | int]


@dataclass(slots=True)
class Branch:
    """An element with parts: by name, or by number where it repeats."""

    parts: dict[str | int, Branch | Leaf] = field(default_factory=dict)


def leaves(branch: Branch) -> Iterator[Leaf]:
    """All lines of a tree, in their sequence."""
    for part in branch.parts.values():
        if isinstance(part, Branch):
            yield from leaves(part)
        else:
            yield part


def is_link(data: Any) -> bool:
    return isinstance(data, dict) and "ref" in data


def grow(data: dict[Any, Any], place: Place, findings: Findings) -> Branch:
    """The tree of ``set:``; two lines for one element are reported."""
    root = Branch()
    _grow_mapping(data, place, [], root, findings)
    return root


def _grow_mapping(data: dict[Any, Any], place: Place, path: list[str | int], root: Branch, findings: Findings) -> None:
    for key, value in data.items():
        here = place.child(key)
        steps = _steps(str(key))
        if steps is None:
            findings.report(here, f"`{key}` is no path to an element", "write it as name[0].family")
            continue
        _grow(value, here, [*path, *steps], root, findings)


def _grow(value: Any, place: Place, path: list[str | int], root: Branch, findings: Findings) -> None:
    if isinstance(value, dict) and not is_line(value) and not is_link(value):
        _grow_mapping(value, place, path, root, findings)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _grow(item, place.child(number), [*path, number], root, findings)
    else:
        _put(root, Leaf(value, place, path), findings)


def _put(root: Branch, leaf: Leaf, findings: Findings) -> None:
    branch = root
    for step in leaf.path[:-1]:
        deeper = branch.parts.setdefault(step, Branch())
        if isinstance(deeper, Leaf):
            findings.report(leaf.place, f"`{step}` already has a source", "keep one of the two")
            return
        branch = deeper
    if leaf.path[-1] in branch.parts:
        findings.report(leaf.place, f"`{leaf.path[-1]}` is written twice", "keep one of them")
        return
    branch.parts[leaf.path[-1]] = leaf


def _steps(text: str) -> list[str | int] | None:
    steps: list[str | int] = []
    for part in text.split("."):
        match = _STEP.fullmatch(part)
        if not match:
            return None
        steps.append(match[1])
        if match[2] is not None:
            steps.append(int(match[2]))
    return steps
