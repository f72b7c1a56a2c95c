"""Routes that can never want a message, want it twice, or lead it to where it is not understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from bridge.codecs.paths import Path
from bridge.errors import Finding
from bridge.lint import paths
from bridge.lint.outline import Outline, path_of, texts
from bridge.mapping import MappingSet
from bridge.mapping.place import Place
from bridge.ports import SinkSettings
from bridge.settings import Config, Route, Target
from bridge.yamlfile import YamlFile

Branch = list[tuple[str, Any]]
"""Tests that have to hold together: place and what is wanted there."""
_MANY = 64
"""More combinations than this are not looked through: nothing is said of such a condition then."""
_KINDS = {"hl7v2": "HL7 v2", "fhir": "FHIR", "worklist": "worklist items"}


def findings(
    config: Config, file: YamlFile, compiled: MappingSet, outlines: Mapping[str, Outline]
) -> Iterator[Finding]:
    routes = list(config.routes.values())
    for route in routes:
        yield from _condition(route, Place(file, ("routes", route.name, "when")))
        for place, target in _targets(route, file):
            yield from _understood(route, target, place, config, compiled)
            yield from _made_for(route, target, place, outlines)
    for one, other in combinations(routes, 2):
        yield from _twice(one, other, file, compiled)


def named_mappings(config: Config) -> set[str]:
    """The mappings that routes name."""
    asked = [route.ask for route in config.routes.values() if route.ask]
    there = {target.mapping for route in config.routes.values() for target in route.to}
    return there | {ask.to.mapping for ask in asked} | {ask.answer for ask in asked}


def _targets(route: Route, file: YamlFile) -> Iterator[tuple[Place, Target]]:
    place = Place(file, ("routes", route.name))
    if route.ask:
        yield place.child("ask"), route.ask.to
    for at, target in enumerate(route.to):
        yield place.child("to", at), target


def _condition(route: Route, place: Place) -> Iterator[Finding]:
    found = branches(route.when)
    if found and all(contradicts(branch) for branch in found):
        fix = "correct the condition: its parts exclude each other"
        yield place.finding(f"the route `{route.name}` wants no message at all", fix)
    for path, here in _paths(route.when, place):
        yield from paths.of_path(path, here, wanted(route.when) or ())


def _paths(data: Any, place: Place) -> Iterator[tuple[Path, Place]]:
    for key, value in data.items() if isinstance(data, dict) else ():
        here = place.child(key)
        if key in ("any", "all") and isinstance(value, list):
            for at, one in enumerate(value):
                yield from _paths(one, here.child(at))
        elif key == "not":
            yield from _paths(value, here)
        else:
            found = (path_of(part.strip()) for part in str(key).split("|"))
            yield from ((path, here) for path in found if path is not None)


def _understood(route: Route, target: Target, place: Place, config: Config, compiled: MappingSet) -> Iterator[Finding]:
    """What leaves for a channel is in the format that its destination reads."""
    channel = config.channels.get(target.destination)
    takes = channel.takes if isinstance(channel, SinkSettings) else ""
    mapping = compiled.mappings.get(target.mapping)
    gives = mapping.target if mapping else "" if target.mapping else _comes(route, config)
    if takes and gives and takes != gives:
        how = f"`{target.mapping}` gives {_KINDS[gives]}" if target.mapping else "the message leaves as it came"
        known = sorted(name for name, one in compiled.mappings.items() if one.target == takes)
        fix = f"name a mapping to it: {', '.join(known[:8])}" if known else f"write a mapping with `target: {takes}`"
        yield place.finding(f"`{target.destination}` takes {_KINDS[takes]}, and {how}", fix)


def _comes(route: Route, config: Config) -> str:
    """The format in which messages come from the sources of a route, if it is one that a destination may be of."""
    formats = {getattr(config.channels.get(name), "format", "hl7v2") for name in route.sources}
    return next(iter(formats)) if formats in ({"hl7v2"}, {"fhir"}) else ""


def _made_for(route: Route, target: Target, place: Place, outlines: Mapping[str, Outline]) -> Iterator[Finding]:
    """A mapping refuses messages that it is not made for, and so does each of its steps."""
    made, types = _messages(target.mapping, outlines), wanted(route.when)
    if not made or types is not None and not types:
        return
    listed = ", ".join(made)
    if types is None:
        what = f"the route wants messages of every type, and `{target.mapping}` refuses all but {listed}"
        yield place.finding(what, f"add `when: {{message: [{listed}]}}`", "warning")
        return
    others = [one for one in types if not any(_overlap(one, it) for it in made)]
    partly = [one for one in types if one not in others and not any(_within(one, it) for it in made)]
    if others or partly:
        what = f"`{target.mapping}` is made for {listed}, and refuses {', '.join(others + partly)}"
        fix = "take it out of `when:`, or name another mapping"
        yield place.finding(what, fix, "error" if len(others) == len(types) else "warning")


def _messages(mapping: str, outlines: Mapping[str, Outline]) -> list[str]:
    """The message types that a mapping takes, and all of its steps, up to one that makes another type of it."""
    found = outlines.get(mapping)
    known = []
    for name in found.steps if found and found.steps else [mapping]:
        if name not in outlines or "profile" in outlines[name].data:
            break
        known.append(outlines[name].messages)
        if any(line.role == "field" and line.target.startswith("MSH-9") for line in outlines[name].lines):
            break
    return _types(known) if known else []


def _twice(one: Route, other: Route, file: YamlFile, compiled: MappingSet) -> Iterator[Finding]:
    """Two routes that bring the same message to the same destination, differently."""
    if not set(one.sources) & set(other.sources):
        return
    both = [[*a, *b] for a, b in product(branches(one.when), branches(other.when))]
    if all(contradicts(branch) for branch in both):
        return
    for at, target in enumerate(other.to):
        for first in one.to:
            if first.destination == target.destination and first.mapping != target.mapping:
                if {_gives(it.mapping, compiled) for it in (first, target)} == {"fhir"}:
                    continue
                what = f"`{target.destination}` gets the same message by the route `{one.name}` too"
                fix = "let their conditions exclude each other, or make it one route"
                yield file.finding(("routes", other.name, "to", at), what, fix, "warning")


def _gives(mapping: str, compiled: MappingSet) -> str:
    return compiled.mappings[mapping].target if mapping in compiled.mappings else ""


# conditions


def branches(when: Any) -> list[Branch]:
    """The condition as alternatives, each a list of tests that hold together; empty when there are too many."""
    found: list[Branch] = [[]]
    for key, value in when.items() if isinstance(when, dict) else ():
        parts = [[[(str(key), value)]]]
        if key == "any" and isinstance(value, list):
            inner = [branches(one) for one in value]
            parts = [[branch for some in inner for branch in some] if all(inner) else []]
        elif key == "all" and isinstance(value, list):
            parts = [branches(one) for one in value]
        elif key == "not":
            continue
        for part in parts:
            found = [[*a, *b] for a, b in product(found, part)]
            if len(found) > _MANY:
                return []
    return found


def contradicts(branch: Branch) -> bool:
    """Whether tests of one place exclude each other."""
    places: dict[str, list[Any]] = {}
    for key, value in branch:
        places.setdefault(key, []).append(value)
    if "message" in places and not _types(places.pop("message")):
        return True
    return any(_excluded(tests) for tests in places.values())


def wanted(when: Any) -> list[str] | None:
    """The message types that a condition lets through; None for every type, empty if that is not looked through."""
    found: dict[str, None] = {}
    for branch in branches(when):
        types = [value for key, value in branch if key == "message"]
        if not types:
            return None
        if not contradicts(branch):
            found |= dict.fromkeys(_types(types))
    return list(found)


def _types(given: Sequence[Any]) -> list[str]:
    """The message types that are in all of several lists."""
    first, *others = [texts(one) for one in given]
    for other in others:
        pairs = [(a, b) for a, b in product(first, other) if _overlap(a, b)]
        first = [max(pair, key=len) for pair in pairs]
    return first


def _overlap(one: str, other: str) -> bool:
    return _within(one, other) or _within(other, one)


def _within(one: str, other: str) -> bool:
    """Whether every message of the first type is of the second one: ``ORM^O01`` is an ``ORM``."""
    return one == other or one.partition("^")[0] == other


def _excluded(tests: Sequence[Any]) -> bool:
    """Whether no value meets all of these tests; those that are no plain values are passed over."""
    allowed: set[str] | None = None
    forbidden: set[str] = set()
    for test in tests:
        values = _values(test)
        if values is not None:
            allowed = values if allowed is None else allowed & values
        elif test == "present":
            forbidden.add("")
        elif isinstance(test, dict) and list(test) == ["not"]:
            forbidden |= _values(test["not"]) or ({""} if test["not"] == "absent" else set())
    return allowed is not None and not allowed - forbidden


def _values(test: Any) -> set[str] | None:
    """The values that a test allows; None if they cannot be listed."""
    if test == "absent":
        return {""}
    if test == "present" or isinstance(test, dict):
        inner = test.get("in", test.get("equals")) if isinstance(test, dict) and len(test) == 1 else None
        return None if inner is None else _values(inner)
    return {str(one) for one in (test if isinstance(test, list) else [test])}
