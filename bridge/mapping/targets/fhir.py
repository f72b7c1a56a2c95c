"""The ``fhir`` target: a mapping's ``resources:`` become the entries of one transaction bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bridge.codecs.fhir import Entry, build_bundle
from bridge.codecs.fhir_changes import REPORTS
from bridge.codecs.fhir_models import model
from bridge.codecs.hl7v2 import NULL
from bridge.mapping.conditions import Check, compile_check
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Made, Make, Scope
from bridge.mapping.slices import Key, compile_anchors, slices
from bridge.mapping.sources import Source, compile_names, compile_source
from bridge.mapping.targets.elements import problem
from bridge.mapping.targets.tree import LINK_KEYS, Branch, Leaf, grow, is_link
from bridge.yamlfile import suggest

_KEYS = (
    *("resource", "as", "each", "when", "let", "identify", "about"),
    *("write", "whole", "reopens", "repeats", "set"),
)
_WRITES = ("create", "update", "never")


@dataclass(slots=True)
class _Resource:
    """One compiled item of ``resources:``."""

    kind: str
    name: str
    each: tuple[str, ...]
    when: Check | None
    write: Literal["create", "update"]
    parameter: str
    identify: Source | None
    """None for a Provenance, which is found by nothing: it is about all the others."""
    whole: tuple[str, ...]
    reopens: Source | None
    join: bool
    element: _Element


@dataclass(slots=True)
class _Made:
    """One resource of a message on its way: which slice it is about, and what it is called in the bundle."""

    resource: _Resource
    scope: Scope
    key: Key
    name: str
    match: str


_Links = dict[str, list[_Made]]


@dataclass(slots=True)
class _Element:
    """A compiled element: its value, and whether that depends on the message."""

    read: Callable[[_Made, _Links], Any]
    dynamic: bool = True
    sources: tuple[Source, ...] = ()
    """What it is made of."""
    parts: tuple[tuple[str | int, _Element], ...] = ()


def compile_fhir(data: dict[str, Any], place: Place, names: Names) -> Make:
    """The renderer of a mapping's ``resources:``: a transaction Bundle as JSON, the same for the same message."""
    items, here = data.get("resources"), place.child("resources")
    if not isinstance(items, list) or not items:
        names.findings.report(here, "`resources` lists the resources to write", "begin each one with `- resource:`")
        return lambda scope: Made(b"")
    shapes = _shapes(items, here, names)
    compiled = [_compile_resource(item, here.child(at), names, shapes) for at, item in enumerate(items)]
    resources = [one for one in compiled if one is not None]

    def render(scope: Scope) -> Made:
        links: _Links = {}
        for resource in resources:
            links[resource.name] = _find(resource, scope)
        made = [one for some in links.values() for one in some]
        everything = {(one.resource.kind, one.match): f"entry:{one.name}" for one in made if one.match}
        targets = [{"reference": reference} for reference in everything.values()]
        return Made(build_bundle([_entry(one, links, targets) for one in made if one.match or targets]))

    return render


def _shapes(items: list[Any], place: Place, names: Names) -> dict[str, tuple[str, ...]]:
    """The local name of each resource and what it repeats over, known before any reference is compiled."""
    found: dict[str, tuple[str, ...]] = {}
    for at, item in enumerate(items):
        if isinstance(item, dict) and isinstance(item.get("resource"), str):
            name = str(item.get("as") or item["resource"][:1].lower() + item["resource"][1:])
            if name in found:
                names.findings.report(place.child(at), f"two resources are called `{name}`", "name them with `as:`")
            each = item.get("each")
            found[name] = compile_anchors(each, place.child(at, "each"), names) if each else ()
    return found


def _compile_resource(item: Any, place: Place, outer: Names, shapes: dict[str, tuple[str, ...]]) -> _Resource | None:
    findings = outer.findings
    if not isinstance(item, dict) or not isinstance(item.get("resource"), str):
        findings.report(place, "a resource needs `resource:` with its type", "for example `resource: Patient`")
        return None
    kind = item["resource"]
    findings.unknown_keys(item, _KEYS, place)
    if model(kind) is None:
        findings.report(place.child("resource"), f"FHIR R4 has no resource `{kind}`", suggest(kind, _COMMON))
        return None
    name = str(item.get("as") or kind[:1].lower() + kind[1:])
    names = outer.inner()
    compile_names(item.get("let"), place.child("let"), names)
    when = compile_check(item["when"], place.child("when"), names) if "when" in item else None
    _check_words(item, place, names)
    parameter, identify = "", None
    if "about" not in item:
        parameter, identify = _compile_identify(item.get("identify"), place.child("identify"), names)
    reopens = compile_source(item["reopens"], place.child("reopens"), names) if "reopens" in item else None
    tree = item.get("set")
    if not isinstance(tree, dict):
        findings.report(place.child("set"), "`set` is a mapping of elements to source lines")
        tree = {}
    branch = grow(tree, place.child("set"), findings)
    element = _branch(branch, names, _Target(kind, shapes[name], shapes), root=True)
    if item.get("write") == "never":
        return None
    each, join, write = shapes[name], item.get("repeats") == "join", item.get("write", "create")
    whole = tuple(item.get("whole") or ())
    return _Resource(kind, name, each, when, write, parameter, identify, whole, reopens, join, element)


def _check_words(item: dict[str, Any], place: Place, names: Names) -> None:
    """What `write`, `whole`, `repeats` and `about` may be."""
    if item.get("write") not in _WRITES:
        fix = "create (only if no resource matches), update (also change the one that matches) or never"
        names.findings.report(place.child("write"), "`write` is missing or not known", fix)
    whole = item.get("whole", [])
    for wrong in [one for one in whole if one not in (item.get("set") or ())] if isinstance(whole, list) else [whole]:
        names.findings.report(place.child("whole"), f"`{wrong}` is not an element of `set`", "list elements of `set`")
    if item.get("repeats", "join") != "join":
        fix = "join: what repeats one resource adds to it; without the word it is refused"
        names.findings.report(place.child("repeats"), "`repeats` is not known", fix)
    if "about" in item and (item["resource"] != "Provenance" or item["about"] != "all" or "identify" in item):
        fix = "write `about: all` for a Provenance, `identify:` for anything else"
        names.findings.report(place.child("about"), "`about` is not for this", fix)


_COMMON = (
    "Appointment", "DiagnosticReport", "Encounter", "ImagingStudy", "Observation", "Organization", "Patient",
    "Practitioner", "ServiceRequest",
)  # fmt: skip
"""What imaging mappings write most, for suggestions."""


def _compile_identify(data: Any, place: Place, names: Names) -> tuple[str, Source]:
    """``identify: {identifier: source}``: the search parameter and the token that find the resource again."""
    if not isinstance(data, dict) or len(data) != 1:
        fix = "for example {identifier: {from: PID-3, as: fhir_token}}"
        names.findings.report(place, "`identify` names one search parameter and its source", fix)
        return "identifier", Source(lambda scope: "")
    ((parameter, line),) = data.items()
    return str(parameter), compile_source(line, place.child(parameter), names)


def _find(resource: _Resource, scope: Scope) -> list[_Made]:
    """Every occurrence of a resource in the message, identified."""
    made: list[_Made] = []
    found = slices(scope.message, resource.each, whole=False, split=scope.split)
    for number, (key, view) in enumerate(found, start=1):
        inner = scope.inner(view, number)
        if resource.when is not None and not resource.when(inner):
            continue
        name = resource.name if not resource.each else f"{resource.name}-{number}"
        made.append(_Made(resource, inner, key, name, _match(resource, inner)))
    return made


def _match(resource: _Resource, scope: Scope) -> str:
    if resource.identify is None:
        return ""
    token = resource.identify.read(scope)
    if isinstance(token, list):
        token = ",".join(token)
    if not token:
        raise resource.identify.missing(scope, f"the {resource.kind} has no identifier to find it by")
    return f"{resource.parameter}={token}"


def _entry(one: _Made, links: _Links, targets: list[dict[str, str]]) -> Entry:
    resource = one.resource
    value = resource.element.read(one, links) or {}
    if not one.match:
        value["target"] = targets
    reopens = resource.reopens is not None and bool(resource.reopens.read(one.scope))
    made, whole = {"resourceType": resource.kind, **value}, (*resource.whole, *_deleted(one, value))
    return Entry(one.name, made, resource.write, one.match, reopens, whole, resource.join)


def _deleted(one: _Made, value: dict[str, Any]) -> list[str]:
    """The elements that the message deletes: nothing is there but HL7's null."""
    if one.resource.write != "update" or one.resource.kind in REPORTS:
        return []
    found = []
    for key, part in one.resource.element.parts:
        if key not in value and part.sources:
            places = [place for source in part.sources for place in source.paths(one.scope)]
            if any(scope.view.get(path.text).strip() == NULL for scope, path in places):
                found.append(str(key))
    return found


@dataclass(frozen=True, slots=True)
class _Target:
    """What an element is compiled for: the resource's type and scopes, and the scopes of all that it may refer to."""

    kind: str
    each: tuple[str, ...]
    shapes: dict[str, tuple[str, ...]]


def _branch(branch: Branch, names: Names, target: _Target, *, root: bool = False) -> _Element:
    """An element with parts. But for the root, it is left out when none of its parts that depend on the message has a
    value.

    In a list, an item that is a list itself adds all its items.
    """
    compiled = [(key, _part(part, names, target)) for key, part in branch.parts.items()]
    dynamic = any(part.dynamic for _, part in compiled)
    repeats = any(isinstance(key, int) for key in branch.parts)
    parts = [(key, part.read, part.dynamic) for key, part in compiled]

    def read(one: _Made, links: _Links) -> Any:
        found, kept = {}, root or not dynamic
        for key, read_part, depends in parts:
            value = read_part(one, links)
            if value or value == 0:
                found[key] = value
                kept = kept or depends
        if not kept:
            return {}
        if repeats:
            lists = [value if isinstance(value, list) else [value] for value in found.values()]
            return [value for some in lists for value in some if value or value == 0]
        return found

    sources = tuple(source for _, part in compiled for source in part.sources)
    return _Element(read, dynamic, sources, tuple(compiled))


def _part(part: Branch | Leaf, names: Names, target: _Target) -> _Element:
    if isinstance(part, Branch):
        return _branch(part, names, target)
    wrong = problem(target.kind, part.path)
    if wrong:
        names.findings.report(part.place, *wrong)
    label = target.kind + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in part.path)
    if is_link(part.data):
        link = _link(part, names, target)
        if names.watch is not None:
            link.read = names.watch.act(part.place, label, "ref", link.read, lambda made, one, links: (one.scope, made))
        return link
    if isinstance(part.data, str | dict):
        source = compile_source(part.data, part.place, names, label)
        constant = isinstance(part.data, dict) and "value" in part.data
        return _Element(lambda one, links: source.read(one.scope), not constant, (source,))
    constant_value = part.data
    return _Element(lambda one, links: constant_value, dynamic=False)


def _link(leaf: Leaf, names: Names, target: _Target) -> _Element:
    """A reference to another resource of the bundle: one, or a list where that one repeats inside this one."""
    name = str(leaf.data["ref"])
    names.findings.unknown_keys(leaf.data, LINK_KEYS, leaf.place)
    if name not in target.shapes:
        names.findings.report(leaf.place.child("ref"), f"no resource is called `{name}`", suggest(name, target.shapes))
        return _Element(lambda one, links: "")
    check = compile_check(leaf.data["when"], leaf.place.child("when"), names) if "when" in leaf.data else None
    other = target.shapes[name]
    shared = _shared(target.each, other)
    many = len(other) > shared

    def read(one: _Made, links: _Links) -> Any:
        if check is not None and not check(one.scope):
            return ""
        here = one.key[:shared]
        found = [{"reference": f"entry:{it.name}"} for it in links.get(name, ()) if it.key[:shared] == here]
        return found if many else next(iter(found), "")

    return _Element(read)


def _shared(mine: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many scopes two resources have in common, from the outside in."""
    count = 0
    for a, b in zip(mine, other, strict=False):
        if a != b:
            break
        count += 1
    return count
