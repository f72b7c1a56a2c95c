"""YAML that a person wrote, read with the place of every value: data for the program, ``file:line:col`` for the person.

Plain scalars follow the YAML 1.2 core schema, stricter still: only ``true`` and ``false`` are booleans, and what has a
leading zero, colons or dashes is text. So ``off``, ``NO``, ``0123``, ``12:30`` and ``2024-01-31`` arrive as written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import Finding, SettingsError

Path_ = tuple[str | int, ...]
"""Keys and indexes from the document's root to a value."""


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of the module's docstring; no anchors, aliases or tags of one's own."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (`*name`) are not used here", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?", "-+0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


@dataclass(frozen=True)
class YamlFile:
    """A parsed document: plain ``data`` and the position of each key or item in it."""

    name: str
    data: Any
    places: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    """Path -> (line, column), both from 1; of the key for mappings, of the item for sequences."""

    def finding(self, path: Iterable[str | int], what: str, fix: str = "", severity: Any = "error") -> Finding:
        """A finding at ``path``, or at its nearest ancestor that has a place."""
        at = tuple(path)
        while at and at not in self.places:
            at = at[:-1]
        line, column = self.places.get(at, (1, 1))
        return Finding(self.name, line, column, what, fix, severity)


@lru_cache(maxsize=256)
def parse(text: str, name: str) -> YamlFile:
    """Parse one YAML document (the safe subset, no duplicate keys). Raises SettingsError with the place.

    What it gives for the same text and name is shared: nobody changes it.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        finding = Finding(name, line, column, f"not YAML: {what}", "check indentation and quotes")
        raise SettingsError([finding]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"not YAML: control character #x{int(error.character):02x}"
        raise SettingsError([Finding(name, line, column, what, "remove it")]) from None
    except RecursionError:
        raise SettingsError([Finding(name, 1, 1, "not YAML: nested too deep")]) from None
    places: dict[Path_, tuple[int, int]] = {}
    findings: list[Finding] = []
    data = _build(node, (), places, findings, name) if node is not None else None
    if findings:
        raise SettingsError(findings)
    return YamlFile(name, data, places)


def load(path: Path, name: str = "") -> YamlFile:
    """Read and parse a file. Raises SettingsError if it cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError([Finding(name or str(path), 0, 0, f"cannot be read: {reason}")]) from None
    return parse(text, name or str(path))


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean ...?`` for the nearest known word, or the list when there are few."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return "one of " + ", ".join(names) if 0 < len(names) <= 12 else ""


def _build(
    node: yaml.Node, path: Path_, places: dict[Path_, tuple[int, int]], findings: list[Finding], name: str
) -> Any:
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                findings.append(Finding(name, *place, "a key must be plain text", "put quotes around it"))
                continue
            key = _scalar(key_node, findings, name)
            here = (*path, key)
            if key in result:
                findings.append(Finding(name, *place, f"`{key}` is written twice", "keep one of them"))
            places[here] = place
            result[key] = _build(value_node, here, places, findings, name)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            here = (*path, index)
            places[here] = _place(item)
            items.append(_build(item, here, places, findings, name))
        return items
    return _scalar(node, findings, name)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(node: yaml.Node, findings: list[Finding], name: str) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.constructor.ConstructorError, ValueError):
        findings.append(Finding(name, *_place(node), f"`{node.tag}` is not used here", "write plain text or a number"))
        return None
    finally:
        loader.dispose()
