"""Message profiles: what a sender has to send, as rules in the words of the mapping language.

A file with ``profile:`` compiles to one pure callable that gives every fault of a message at once, each with its place,
its kind (HL7 table 0357) and the fix. See docs/mappings.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.codecs.er7 import NULL
from bridge.codecs.hl7v2 import Hl7Message
from bridge.codecs.paths import Path, compile_path
from bridge.errors import FACES, BridgeError, CodecError, MappingError
from bridge.mapping.conditions import Check, compile_check, compile_pattern
from bridge.mapping.fields import chosen
from bridge.mapping.place import Place
from bridge.mapping.refs import Names, compile_refs, where
from bridge.mapping.scope import Scope
from bridge.mapping.slices import compile_anchors, slices
from bridge.mapping.sources import compile_names
from bridge.yamlfile import suggest

_HEAD = ("profile", "messages", "let", "rules")
_TESTS = ("require", "forbid", "only", "table", "max", "pattern", "holds")
_RULE = ("each", "when", "let", *_TESTS, "at", "what", "kind", "fix")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile, ready to use from any thread."""

    name: str
    title: str
    messages: tuple[str, ...]
    """Message types that it judges; any other has no faults."""
    faults: Callable[[Hl7Message, Mapping[str, Any]], list[BridgeError]]
    """Every fault of a message, none twice; ``context`` is as for a mapping. None of them shows what the message holds,
    and the rules' own texts may not either."""


@dataclass(slots=True)
class _Words:
    """What a rule says about its faults instead of the usual texts."""

    kind: str
    what: str
    fix: str

    def fault(self, at: str, kind: str, what: str, fix: str) -> CodecError:
        return CodecError(self.what or what, at=at, fix=self.fix or fix, kind=self.kind or kind)


_Test = Callable[[Scope], Iterator[CodecError]]
_Judge = Callable[[Path, str], tuple[str, str, str] | None]
"""(path, a value there) -> kind of fault, what is wrong, and the fix; None for a good value."""


@dataclass(slots=True)
class _Rule:
    """One compiled item of ``rules:``."""

    each: tuple[str, ...]
    when: Check | None
    tests: list[_Test]

    def faults(self, scope: Scope) -> Iterator[BridgeError]:
        for number, (_, view) in enumerate(slices(scope.message, self.each, whole=False), start=1):
            inner = scope.inner(view, number)
            try:
                if self.when is None or self.when(inner):
                    for test in self.tests:
                        yield from test(inner)
            except MappingError as error:
                yield error


def compile_profile(data: dict[str, Any], name: str, place: Place, messages: tuple[str, ...], names: Names) -> Profile:
    """A profile; problems are reported, and what is returned then is inert."""
    findings = names.findings
    findings.unknown_keys(data, _HEAD, place)
    title, items = data.get("profile"), data.get("rules")
    if not isinstance(title, str) or not title.strip():
        findings.report(place.child("profile"), "`profile` is the profile's title", "for example `profile: Orders 2.5`")
    applies = compile_check({"message": list(messages)}, place.child("messages"), names)
    if not isinstance(items, list) or not items:
        findings.report(place.child("rules"), "`rules` lists what must hold", "for example `- require: [PID-3]`")
        items = []
    rules = [_compile_rule(item, place.child("rules", at), names) for at, item in enumerate(items)]

    def faults(message: Hl7Message, context: Mapping[str, Any]) -> list[BridgeError]:
        scope = Scope(message, context)
        if not applies(scope):
            return []
        found = {(fault.at, fault.what): fault for rule in rules for fault in rule.faults(scope)}
        return list(found.values())

    return Profile(name, str(title), messages, faults)


def _compile_rule(item: Any, place: Place, outer: Names) -> _Rule:
    findings = outer.findings
    item = item if isinstance(item, dict) else {}
    findings.unknown_keys(item, _RULE, place)
    if not any(word in item for word in _TESTS):
        findings.report(place, "a rule says what must hold", f"with one of {', '.join(_TESTS)}")
    names = outer.inner()
    compile_names(item.get("let"), place.child("let"), names)
    each = compile_anchors(item["each"], place.child("each"), names) if "each" in item else ()
    when = compile_check(item["when"], place.child("when"), names) if "when" in item else None
    kind = str(item.get("kind", ""))
    if kind and kind not in FACES:
        findings.report(place.child("kind"), f"unknown kind of fault `{kind}`", suggest(kind, FACES))
        kind = ""
    words = _Words(kind, str(item.get("what", "")), str(item.get("fix", "")))
    tests: list[_Test] = []
    for word, compile_test in (("require", _require), ("forbid", _forbid)):
        for entry, here in _listed(item, word, place):
            tests += _watched(compile_test(entry, here, names, words), f"{word} {entry}", here, names)
    for word, compile_judge in (("only", _only), ("table", _table), ("max", _max), ("pattern", _pattern)):
        for target, given, here in _pairs(item, word, place, names):
            found = _each_value(target, compile_judge(given, here, names), here, names, words)
            tests += _watched(found, f"{word} {target}", here, names)
    if "holds" in item:
        tests += _watched(_holds(item, place, names, words), words.what or "holds", place.child("holds"), names)
    return _Rule(each, when, tests)


def _watched(tests: list[_Test], what: str, place: Place, names: Names) -> list[_Test]:
    watch = names.watch
    return tests if watch is None else [watch.rule(test, place, what) for test in tests]


def _listed(item: dict[str, Any], word: str, place: Place) -> list[tuple[str, Place]]:
    given = item.get(word) or []
    entries = given if isinstance(given, list) else [given]
    return [(str(entry), place.child(word, at)) for at, entry in enumerate(entries)]


def _pairs(item: dict[str, Any], word: str, place: Place, names: Names) -> list[tuple[str, Any, Place]]:
    given = item.get(word) or {}
    if not isinstance(given, dict):
        names.findings.report(place.child(word), f"`{word}` is a mapping of places", "for example {PID-8: ...}")
        return []
    return [(str(target), value, place.child(word, target)) for target, value in given.items()]


def _require(entry: str, place: Place, names: Names, words: _Words) -> list[_Test]:
    """A segment, or a value in at least one repetition of one of the alternatives."""
    if _SEGMENT.fullmatch(entry):

        def segment(scope: Scope) -> Iterator[CodecError]:
            if not scope.view.numbers(entry):
                yield words.fault(entry, "syntax", f"required segment {entry} missing", f"send {entry}")

        return [segment]
    refs = compile_refs(entry, place, names)

    def value(scope: Scope) -> Iterator[CodecError]:
        if not any(text for ref in refs for text in ref.texts(scope)):
            at = where([path for ref in refs for path in ref.paths(scope)], missing=True)
            yield words.fault(at, "required", f"required {entry} missing", f"send {entry.replace('|', 'or')}")

    return [value]


def _forbid(entry: str, place: Place, names: Names, words: _Words) -> list[_Test]:
    if not _SEGMENT.fullmatch(entry):
        return _each_value(entry, _unwanted, place, names, words)

    def segment(scope: Scope) -> Iterator[CodecError]:
        if scope.view.numbers(entry):
            yield words.fault(entry, "syntax", f"segment {entry} is not allowed here", "leave it out")

    return [segment]


def _unwanted(path: Path, text: str) -> tuple[str, str, str]:
    return "datatype", f"{path.text} is not allowed here", "leave it empty"


def _only(given: Any, place: Place, names: Names) -> _Judge:
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str | int) and not isinstance(one, bool) for one in values):
        names.findings.report(place, "`only` lists values", "for example {PID-8: [F, M]}")
    allowed = frozenset(str(one) for one in values)
    listed = ", ".join(str(one) for one in values)

    def judge(path: Path, text: str) -> tuple[str, str, str] | None:
        if text in allowed:
            return None
        return "code", f"{path.text} is none of {listed}", "send one of these"

    return judge


def _table(given: Any, place: Place, names: Names) -> _Judge:
    table = names.tables.get(str(given))
    if table is None:
        names.findings.report(place, f"unknown table `{given}`", suggest(str(given), names.tables))
        return lambda path, text: None
    find = table.finder(1) if names.watch is None else names.watch.lookups(table, 1)

    def judge(path: Path, text: str) -> tuple[str, str, str] | None:
        if find((text,)) is not None:
            return None
        return "code", f"{path.text} is not in table {table.name}", f"send a code of {table.name}.csv"

    return judge


def _max(given: Any, place: Place, names: Names) -> _Judge:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        names.findings.report(place, "`max` is a number of characters", "for example {OBR-18: 16}")
        given = 1

    def judge(path: Path, text: str) -> tuple[str, str, str] | None:
        if len(text) <= given:
            return None
        what = f"{path.text} is {len(text)} characters long and may have {given}"
        return "datatype", what, f"send at most {given} characters"

    return judge


def _pattern(given: Any, place: Place, names: Names) -> _Judge:
    pattern = compile_pattern(given, place, names.findings)

    def judge(path: Path, text: str) -> tuple[str, str, str] | None:
        if pattern.fullmatch(text):
            return None
        return "datatype", f"{path.text} does not match {given}", f"send a value that matches {given}"

    return judge


def _each_value(target: str, judge: _Judge, place: Place, names: Names, words: _Words) -> list[_Test]:
    path = _path(target, place, names)
    if path is None:
        return []

    def test(scope: Scope) -> Iterator[CodecError]:
        for number, repetition, text in _values(path, scope):
            wrong = judge(path, text)
            if wrong is not None:
                yield words.fault(_place(path, scope, number, repetition), *wrong)

    return [test]


def _holds(item: dict[str, Any], place: Place, names: Names, words: _Words) -> list[_Test]:
    """A condition, with the place and the text of the fault when it does not hold."""
    check = compile_check(item["holds"], place.child("holds"), names)
    at = str(item.get("at", ""))
    if not at or not words.what:
        names.findings.report(place, "`holds` needs `at:` and `what:`", "say where the fault is, and what it is")
        return []
    path = None if _SEGMENT.fullmatch(at) else _path(at, place.child("at"), names)

    def test(scope: Scope) -> Iterator[CodecError]:
        if not check(scope):
            yield words.fault(where([(scope, path)], missing=True) if path else at, "datatype", "", "")

    return [test]


def _path(text: str, place: Place, names: Names) -> Path | None:
    try:
        return compile_path(text)
    except CodecError as error:
        names.findings.report(place, f"`{text}`: {error.what}", error.fix)
        return None


def _values(path: Path, scope: Scope) -> Iterator[tuple[int, int, str]]:
    """Every value at a path that holds something: its segment's number, its repetition's (from 0), and its text."""
    message = scope.message
    segments = list(scope.view.places(path))
    for number in chosen(message, segments, path.occurrence):
        raw = message.field(number, path.index)
        for repetition, part in message.repetitions(raw, path) if raw else ():
            text = message.text(part, path).strip()
            if text and text != NULL:
                yield number, repetition, text


def _place(path: Path, scope: Scope, number: int, repetition: int) -> str:
    occurrence = scope.message.ordinal(number)
    text = f"{path.segment}({occurrence})" if occurrence > 1 else path.segment
    text += f"-{path.field}[{repetition + 1}]" if repetition else f"-{path.field}"
    return ".".join([text, *(str(part) for part in (path.component, path.subcomponent) if part)])
