"""A profile compiled: its elements as a tree of what each may hold (R4 elementdefinition.html, profiling.html)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from bridge.codecs.fhir_profile_files import Code, Json, Note, Published, bare

BASE = "http://hl7.org/fhir/StructureDefinition/"
_BASE_CODES = "http://hl7.org/fhir/ValueSet/"
_ABSTRACT = {"Resource", "DomainResource", "Element", "BackboneElement"}
_OF_ALL = {"ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5"}
"""Invariants that each element or resource has; other checks see to those that matter."""
_NOT_HERE = re.compile(r"\b(resolve|memberOf|conformsTo|htmlChecks|subsumes|subsumedBy|now|today)\(|%terminologies")
"""What needs a server, a clock or another resource."""
_UNSET: Any = object()
_PATH = re.compile(r"\$this|[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*")


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint in FHIRPath."""

    key: str
    human: str
    holds: Callable[[Any, Json], Any]
    """Of an element's value and the variables: what the expression gives."""


@dataclass(slots=True, eq=False)
class Discriminator:
    kind: str
    path: tuple[str, ...]
    wanted: Any
    """By kind: values and patterns with their paths; types; whether it exists; profiles."""


@dataclass(slots=True, eq=False)
class Node:
    """What a profile says of one element, or of one slice of it."""

    id: str
    name: str
    """In JSON, without ``[x]``."""
    choice: bool = False
    least: int = 0
    most: int | None = None
    types: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The types it may have, and the profiles that go with each."""
    targets: frozenset[str] = frozenset()
    """The resource types that it may refer to; empty for any."""
    fixed: Any = _UNSET
    pattern: Any = _UNSET
    longest: int = 0
    codes: frozenset[Code] | None = None
    rules: list[Rule] = field(default_factory=list)
    path: str = ""
    """What FHIRPath calls it: a type, or ``Observation.component``."""
    children: dict[str, Node] = field(default_factory=dict)
    slices: list[Node] = field(default_factory=list)
    closed: bool = False
    told_apart: list[Discriminator] | None = None
    """Of a slice: what makes an element belong to it; None where that cannot be told."""

    @property
    def has_fixed(self) -> bool:
        return self.fixed is not _UNSET

    @property
    def has_pattern(self) -> bool:
        return self.pattern is not _UNSET

    def below(self, path: tuple[str, ...]) -> Node | None:
        node: Node | None = self
        for step in path:
            node = node.children.get(step) if node else None
        return node


@dataclass(frozen=True, slots=True)
class Profile:
    url: str
    type: str
    root: Node


def compiled(definition: Json, published: Published) -> Profile | None:
    """A profile from its snapshot; what is in it and cannot be judged is added to the notes. None without one."""
    return _Compiler(definition, published).profile()


class _Compiler:
    def __init__(self, definition: Json, published: Published) -> None:
        self._definition, self._published = definition, published
        self._url, self._file = definition["url"], published.files[definition["url"]]
        self._nodes: dict[str, tuple[Node, Json]] = {}

    def profile(self) -> Profile | None:
        if not self._definition.get("snapshot"):
            self._note("", "not judged: the profile has no snapshot")
            return None
        try:
            for element in self._definition["snapshot"]["element"]:
                self._place(element)
            for node, element in self._nodes.values():
                if "contentReference" in element and not node.children:
                    target = self._nodes.get(str(element["contentReference"]).rpartition("#")[2])
                    node.children = target[0].children if target else {}
            for node, element in self._nodes.values():
                if node.slices:
                    self._slicing(node, element.get("slicing") or {})
            return Profile(self._url, self._definition["type"], next(iter(self._nodes.values()))[0])
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
            self._note("", "not judged: its snapshot is none of R4 or R5")
            return None

    def _note(self, at: str, what: str) -> None:
        note = Note(self._file, at, what)
        if note not in self._published.notes:
            self._published.notes.append(note)

    def _place(self, element: Json) -> None:
        name = element.get("id") or element["path"]
        node = self._node(name, element)
        parent_name, _, last = name.rpartition(".")
        whole, _, slice_name = last.partition(":")
        if "/" in slice_name:
            self._note(name, "a slice of a slice is not judged")
        elif not parent_name:
            pass
        elif parent_name not in self._nodes:
            self._note(name, "not judged: the snapshot has no element above it")
            return
        elif slice_name:
            sliced = self._nodes.get(f"{parent_name}.{whole}")
            if sliced is None:
                raise ValueError(name)
            sliced[0].slices.append(node)
        else:
            self._nodes[parent_name][0].children[node.name] = node
        self._nodes[name] = node, element

    def _node(self, name: str, element: Json) -> Node:
        last = name.rpartition(".")[2].partition(":")[0]
        types = element.get("type", [])
        most = element.get("max", "*")
        node = Node(name, last.removesuffix("[x]"), last.endswith("[x]"), element.get("min", 0))
        node.most = None if most == "*" else int(most)
        node.types = {one["code"]: tuple(map(bare, one.get("profile", []))) for one in types}
        node.targets = self._targets(types)
        node.fixed = next((value for key, value in element.items() if re.match("fixed[A-Z]", key)), _UNSET)
        node.pattern = next((value for key, value in element.items() if re.match("pattern[A-Z]", key)), _UNSET)
        node.longest = element.get("maxLength", 0)
        node.codes = self._binding(name, element, node.types)
        only = next(iter(node.types), "") if len(node.types) == 1 else ""
        node.path = element["path"] if only in ("BackboneElement", "Element", "") else only
        node.rules = [rule for one in element.get("constraint", []) if (rule := self._rule(name, one))]
        if any(re.match("(min|max)Value[A-Z]", key) for key in element):
            self._note(name, "the least and greatest value are not judged")
        return node

    def _targets(self, types: list[Json]) -> frozenset[str]:
        """The types that references may point to; empty where any may stand, or a profile's type is not known."""
        found = set()
        for url in (bare(url) for one in types for url in one.get("targetProfile", [])):
            known = self._published.definitions.get(url)
            kind = known["type"] if known else url.removeprefix(BASE)
            if "/" in kind or kind in _ABSTRACT:
                return frozenset()
            found.add(kind)
        return frozenset(found)

    def _binding(self, name: str, element: Json, types: dict[str, Any]) -> frozenset[Code] | None:
        binding = element.get("binding") or {}
        if binding.get("strength") != "required" or "valueSet" not in binding:
            return None
        found = self._published.codes(binding["valueSet"])
        if found is None and not (binding["valueSet"].startswith(_BASE_CODES) and list(types) == ["code"]):
            self._note(name, f"codes are not judged: the folder does not list those of {bare(binding['valueSet'])}")
        return found

    def _rule(self, name: str, constraint: Json) -> Rule | None:
        expression = constraint.get("expression", "")
        if constraint.get("severity") != "error" or constraint["key"] in _OF_ALL or not expression:
            return None
        release = "r5" if str(self._definition.get("fhirVersion", "")).startswith("5") else "r4"
        holds = None if _NOT_HERE.search(expression) else _expression(expression, release)
        if holds is None:
            self._note(name, f"the constraint {constraint['key']} is not judged")
            return None
        return Rule(constraint["key"], constraint.get("human", ""), holds)

    def _slicing(self, node: Node, slicing: Json) -> None:
        node.closed = slicing.get("rules") == "closed"
        if slicing.get("ordered") or slicing.get("rules") == "openAtEnd":
            self._note(node.id, "the sequence of slices is not judged")
        for one in node.slices:
            told = [self._discriminator(one, each) for each in slicing.get("discriminator", [])]
            if node.choice and not told:
                told = [Discriminator("type", (), set(one.types))]
            one.told_apart = [each for each in told if each is not None] if told and None not in told else None
            if one.told_apart is None:
                node.closed = False
                self._note(one.id, "the slice is not judged: what belongs to it cannot be told")

    def _discriminator(self, one: Node, written: Json) -> Discriminator | None:
        kind, path = written["type"], written["path"]
        if not _PATH.fullmatch(path):
            return None
        steps = () if path == "$this" else tuple(path.split("."))
        there = one.below(steps)
        wanted: Any = None
        if kind in ("value", "pattern"):
            wanted = list(_values(there, steps)) if there else []
            if not wanted and steps == ("url",) and one.types.get("Extension"):
                wanted = [(steps, Node(f"{one.id}.url", "url", fixed=one.types["Extension"][0]))]
        elif kind == "type" and there:
            wanted = set(there.types) - _ABSTRACT
        elif kind == "exists" and there:
            return Discriminator(kind, steps, there.most != 0) if there.most == 0 or there.least else None
        elif kind == "profile" and there:
            wanted = [url for profiles in there.types.values() for url in profiles]
            wanted = wanted if all(url in self._published.definitions for url in wanted) else None
        return Discriminator(kind, steps, wanted) if wanted else None


def _values(node: Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Every fixed value, pattern and list of codes at an element or below it."""
    if node.has_fixed or node.has_pattern or node.codes is not None:
        yield path, node
        return
    for name, child in node.children.items():
        if child.id.startswith(node.id):
            yield from _values(child, (*path, name))


@cache
def _expression(text: str, release: str) -> Callable[[Any, Json], Any] | None:
    """A compiled FHIRPath expression; None for one that the library cannot read."""
    from fhirpathpy import compile as compile_path
    from fhirpathpy.models import models

    try:
        return compile_path(text, models[release])
    except Exception:  # noqa: BLE001 - the library raises whatever it meets
        return None
