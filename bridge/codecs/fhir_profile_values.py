"""The elements of a resource as a profile looks at them, with their places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.codecs.fhir_profile_files import Json
from bridge.codecs.fhir_profile_node import Node

_PRIMITIVES = {
    *("base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id", "instant", "integer"),
    *("integer64", "markdown", "oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid"),
}
_TARGET = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)(?:/[A-Za-z0-9.-]{1,64}(?:/_history/[A-Za-z0-9.-]{1,64})?|\?.*)$")


@dataclass(frozen=True, slots=True)
class Item:
    """One element."""

    value: Any
    """None for a primitive that has only extensions."""
    at: str
    extra: Json | None = None
    """What extends a primitive: its ``id`` and ``extension``."""
    kind: str = ""
    """Of a choice: the type that its name says."""


def items(node: Node, parent: Item) -> list[Item]:
    """All that stand under a node's name in what ``parent`` holds."""
    holder = parent.value if isinstance(parent.value, dict) else parent.extra
    if not holder:
        return []
    if not node.choice:
        return _under(node.name, "", holder, parent.at)
    return [one for name, kind in _choices(node, holder) for one in _under(name, kind, holder, parent.at)]


def at_path(item: Item, path: tuple[str, ...]) -> list[Item]:
    """All elements at a path below one."""
    found = [item]
    for step in path:
        found = [inner for one in found for inner in items(Node(step, step), one) or items(Node(step, step, True), one)]
    return found


def matches(pattern: Any, value: Any) -> bool:
    """Whether a value has all that a pattern has (R4 elementdefinition.html, pattern[x])."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and matches(one, value[key]) for key, one in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches(one, each) for each in value) for one in pattern)
    return bool(pattern == value)


def target_type(reference: Json, whole: Json, bundle: Mapping[str, Json]) -> str | None:
    """The type of the resource that a reference points to: empty if it points to none, None if that is not known."""
    target = reference.get("reference")
    if not isinstance(target, str):
        return str(reference.get("type", ""))
    if target.startswith("#"):
        contained = [one for one in whole.get("contained", []) if f"#{one.get('id')}" == target]
        return str(contained[0].get("resourceType")) if contained else None
    if target in bundle:
        return str(bundle[target].get("resourceType"))
    found = _TARGET.search(target)
    return found[1] if found else reference.get("type")


def _choices(node: Node, holder: Json) -> list[tuple[str, str]]:
    """The names that a choice has in an object, each with the type that it says."""
    found: dict[str, str] = {}
    for key in holder:
        name = key.removeprefix("_")
        kind = name.removeprefix(node.name)
        if name.startswith(node.name) and kind and kind[0].isupper():
            lower = kind[0].lower() + kind[1:]
            found[name] = lower if lower in node.types or lower in _PRIMITIVES else kind
    return list(found.items())


def _under(name: str, kind: str, holder: Json, at: str) -> list[Item]:
    value, extra = holder.get(name), holder.get(f"_{name}")
    if not isinstance(value, list) and not isinstance(extra, list):
        return [] if value is None and extra is None else [Item(value, f"{at}.{name}", extra, kind)]
    values, extras = (one if isinstance(one, list) else [] for one in (value, extra))
    return [
        Item(
            values[index] if index < len(values) else None,
            f"{at}.{name}[{index}]",
            extras[index] if index < len(extras) else None,
            kind,
        )
        for index in range(max(len(values), len(extras)))
    ]
