"""Whether a FHIR resource keeps to the profiles of a folder (R4 profiling.html, conformance-rules.html).

Judged: how often elements and slices stand there, fixed values and patterns, types, types of reference targets,
required codes that the folder lists, lengths, extensions, and constraints of severity error. The resource has passed
``fhir_check`` before. What a profile says and cannot be judged is told: of the profile in :attr:`Library.notes`, of a
resource in :attr:`Verdict.unjudged`. Not looked at: whether what a reference points to keeps to the profile that is
named there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bridge.codecs.fhir_profile_files import Json, Note, bare, read
from bridge.codecs.fhir_profile_node import Discriminator, Node, Profile, compiled
from bridge.codecs.fhir_profile_values import Item, at_path, items, matches, target_type
from bridge.errors import BridgeError, MappingError

MOST = 50
"""Faults that are told of one resource or Bundle."""
_DEEPEST = 100
_ANY = {"Resource", "DomainResource"}


@dataclass(slots=True)
class Verdict:
    """What is wrong with a resource, and what of its profiles could not be judged; ``at`` is the element's path."""

    faults: list[BridgeError] = field(default_factory=list)
    unjudged: list[BridgeError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Library:
    """The profiles of a folder."""

    profiles: Mapping[str, Profile]
    notes: tuple[Note, ...]

    def judge(self, resource: Json, of: Mapping[str, Iterable[str]] | None = None) -> Verdict:
        """By the profiles that ``of`` names for its type, and those of the folder that it claims (``meta.profile``);
        of a Bundle also each of its resources."""
        verdict = Verdict()
        self._resource(resource, str(resource.get("resourceType")), of or {}, {}, verdict)
        return verdict

    def by(self, resource: Json, url: str) -> Verdict:
        """By one profile. Raises KeyError for one that the folder does not have."""
        verdict = Verdict()
        one = _Judging(self, self.profiles[bare(url)], resource, {}, verdict)
        one.resource(str(resource.get("resourceType")))
        return verdict

    def _resource(
        self, one: Json, at: str, of: Mapping[str, Iterable[str]], bundle: Mapping[str, Json], verdict: Verdict
    ) -> None:
        entries = one.get("entry", []) if one.get("resourceType") == "Bundle" else []
        within = {entry["fullUrl"]: entry["resource"] for entry in entries if {"fullUrl", "resource"} <= entry.keys()}
        claimed = one.get("meta", {}).get("profile", [])
        wanted = map(bare, (*of.get(str(one.get("resourceType")), ()), *(url for url in claimed if url)))
        for url in dict.fromkeys(wanted):
            if url in self.profiles:
                _Judging(self, self.profiles[url], one, within or bundle, verdict).resource(at)
        for index, entry in enumerate(entries):
            if "resource" in entry:
                self._resource(entry["resource"], f"{at}.entry[{index}].resource", of, within, verdict)


def judged(resource: Json, folder: Path, stamp: str, of: Mapping[str, Iterable[str]]) -> Verdict:
    """:meth:`Library.judge` by the folder as it was at ``stamp``."""
    return library(folder, stamp).judge(resource, of)


def stamp(folder: Path) -> str:
    """Tells two states of a folder apart."""
    files = sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*.json"))
    return hashlib.sha256(repr(files).encode()).hexdigest()


@lru_cache(maxsize=8)
def library(folder: Path, stamp: str) -> Library:  # noqa: ARG001 - a folder that was changed is read anew
    """:func:`load`, once for each state of a folder."""
    return load(folder)


def load(folder: Path) -> Library:
    """The profiles of a folder, each compiled; its mistakes are notes of severity error."""
    published = read(folder)
    made = {url: compiled(one, published) for url, one in published.definitions.items()}
    known = {url: one for url, one in made.items() if one is not None}
    return Library(known, tuple(published.notes))


def mistakes(known: Library, of: Mapping[str, Iterable[str]]) -> list[Note]:
    """What is wrong with a folder, and with the profiles that are named for each type."""
    found = [note for note in known.notes if note.severity == "error"]
    for kind, url in ((kind, bare(url)) for kind, urls in of.items() for url in urls):
        profile = known.profiles.get(url)
        if profile is None:
            found.append(Note("", url, "the folder has no such profile that can be judged by", "error"))
        elif profile.type != kind:
            found.append(Note("", url, f"a profile of {profile.type}, not of {kind}", "error"))
    return found


@dataclass(frozen=True, slots=True)
class _Judging:
    """One resource by one profile."""

    library: Library
    profile: Profile
    whole: Json
    """The resource, to which references to contained ones and ``%resource`` refer."""
    bundle: Mapping[str, Json]
    """The resources beside it, by their full URLs."""
    verdict: Verdict
    depth: int = 0

    def resource(self, at: str) -> None:
        if self.whole.get("resourceType") != self.profile.type:
            self._fault(f"a profile of {self.profile.type} is claimed", f"{at}.meta.profile")
            return
        self.item(self.profile.root, Item(self.whole, at))

    def item(self, node: Node, item: Item) -> None:
        """One element by what the profile says of it."""
        value, at = item.value, item.at
        kind = item.kind or (value.get("resourceType", "") if isinstance(value, dict) else "")
        if kind and node.types and not (_ANY & node.types.keys()) and kind not in node.types:
            self._fault(f"the profile allows no {kind} here", at, "datatype")
            return
        if value is not None:
            self._value(node, value, at)
        self._constraints(node, item)
        self._by_types(node, item, kind)
        if isinstance(value, dict) or item.extra:
            for child in node.children.values():
                self._element(child, item)

    def _value(self, node: Node, value: Any, at: str) -> None:
        if (node.has_fixed and value != node.fixed) or (node.has_pattern and not matches(node.pattern, value)):
            self._fault("not the value that the profile has here", at, "datatype")
        if node.codes is not None and not _coded(node, value):
            self._fault("the code is not in the profile's value set", at, "code")
        if node.longest and isinstance(value, str) and len(value) > node.longest:
            self._fault(f"longer than {node.longest} characters", at)
        if node.targets and isinstance(value, dict):
            target = target_type(value, self.whole, self.bundle)
            if target is None:
                self._not_judged("the type of what it refers to is not known", at)
            elif target and target not in node.targets:
                self._fault(f"the profile allows no reference to {target} here", at)

    def _constraints(self, node: Node, item: Item) -> None:
        from fhirpathpy.engine.nodes import ResourceNode

        for rule in node.rules:
            base = item.value.get("resourceType") if isinstance(item.value, dict) else None
            one: Any = ResourceNode.create_node(item.value, base or item.kind or node.path)  # type: ignore[no-untyped-call]
            try:
                said = rule.holds(one, {"resource": self.whole, "rootResource": self.whole})
            except Exception:  # noqa: BLE001 - the library raises whatever it meets; what it cannot judge is told
                said = None
            answer = said[0] if isinstance(said, list) and len(said) == 1 else None
            if answer is False:
                self._fault(f"{rule.human} ({rule.key})", item.at)
            elif answer is not True:
                self._not_judged(f"the constraint {rule.key} could not be evaluated", item.at)

    def _by_types(self, node: Node, item: Item, kind: str) -> None:
        """By the profiles of its type: any of them will do."""
        urls = node.types.get(kind or next(iter(node.types), ""), ())
        known = [self.library.profiles[url] for url in urls if url in self.library.profiles]
        if not known or item.value is None or self.depth > _DEEPEST:
            return
        if len(urls) == 1:
            self._nested(known[0], item, self.verdict)
            return
        if len(known) == len(urls) and not any(self._fits(url, item) for url in urls):
            self._fault("fits none of the profiles that may stand here", item.at)

    def _nested(self, profile: Profile, item: Item, verdict: Verdict) -> None:
        own = isinstance(item.value, dict) and "resourceType" in item.value
        whole = item.value if own else self.whole
        below = _Judging(self.library, profile, whole, self.bundle, verdict, self.depth + 1)
        below.item(profile.root, Item(item.value, item.at, item.extra))

    def _element(self, node: Node, parent: Item) -> None:
        """All that stand under one name, by cardinality and slices."""
        found = items(node, parent)
        at = f"{parent.at}.{node.name}" + ("[x]" if node.choice else "")
        self._count(node, len(found), at, "")
        members: dict[str, list[Item]] = {one.id: [] for one in node.slices}
        for item in found:
            self.item(node, item)
            mine = next((one for one in node.slices if self._belongs(one, item)), None)
            if mine is not None:
                members[mine.id].append(item)
            elif node.closed:
                self._fault("it belongs to none of the profile's slices", item.at)
        for one in node.slices:
            if one.told_apart is not None:
                self._count(one, len(members[one.id]), at, f" of the slice `{one.id.rpartition(':')[2]}`")
                for item in members[one.id]:
                    self.item(one, item)

    def _count(self, node: Node, count: int, at: str, slice_: str) -> None:
        if count < node.least:
            self._fault(f"the profile wants at least {node.least}{slice_}", at, "required")
        if node.most is not None and count > node.most:
            self._fault(f"the profile allows at most {node.most}{slice_}", at)

    def _belongs(self, one: Node, item: Item) -> bool:
        return one.told_apart is not None and all(self._tells(each, item) for each in one.told_apart)

    def _tells(self, by: Discriminator, item: Item) -> bool:
        found = at_path(item, by.path)
        if by.kind == "exists":
            return bool(found) is by.wanted
        if by.kind == "type":
            return any(_type_of(each) in by.wanted for each in found)
        if by.kind == "profile":
            return any(self._fits(url, each) for url in by.wanted for each in found)
        return all(self._has(node, at_path(item, path)) for path, node in by.wanted)

    def _has(self, node: Node, found: list[Item]) -> bool:
        if not found:
            return node.least == 0 and not (node.has_fixed or node.has_pattern)
        trials = [Verdict() for _ in found]
        for each, trial in zip(found, trials, strict=True):
            replace(self, verdict=trial)._value(node, each.value, each.at)
        return not all(trial.faults for trial in trials)

    def _fits(self, url: str, item: Item) -> bool:
        trial = Verdict()
        profile = self.library.profiles.get(url)
        if profile is None or not isinstance(item.value, dict) or _type_of(item) not in (profile.type, ""):
            return False
        self._nested(profile, item, trial)
        return not trial.faults

    def _fault(self, what: str, at: str, kind: str = "business_rule") -> None:
        fix = f"see the profile {self.profile.url}"
        _add(self.verdict.faults, MappingError(what, at=at, fix=fix, kind=kind))

    def _not_judged(self, what: str, at: str) -> None:
        _add(self.verdict.unjudged, MappingError(what, at=at, kind="unsupported"))


def _add(told: list[BridgeError], one: BridgeError) -> None:
    if len(told) < MOST and all((other.what, other.at) != (one.what, one.at) for other in told):
        told.append(one)


def _type_of(item: Item) -> str:
    return str(item.value.get("resourceType", "")) if isinstance(item.value, dict) and not item.kind else item.kind


def _coded(node: Node, value: Any) -> bool:
    """Whether a code is in the node's value set: of a CodeableConcept any of its codes."""
    codes = node.codes or frozenset()
    if isinstance(value, str):
        return any(value == code for _, code in codes)
    return any((one.get("system", ""), one.get("code")) in codes for one in _codings(value))


def _codings(value: Json) -> Iterator[Json]:
    if "coding" in value:
        yield from value["coding"]
    else:
        yield value
