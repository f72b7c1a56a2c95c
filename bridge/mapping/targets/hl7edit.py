"""The ``hl7v2`` target: an edit of the original message; what no edit names stays byte for byte as it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.codecs.er7 import NULL
from bridge.codecs.hl7v2 import Hl7Message, View, parse
from bridge.codecs.paths import Path
from bridge.errors import CodecError, MappingError
from bridge.mapping.conditions import Check, compile_check
from bridge.mapping.lookups import compile_lookup
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Made, Make, Scope
from bridge.mapping.slices import compile_anchors, slices
from bridge.mapping.sources import Source, compile_names, compile_source
from bridge.mapping.survivors import survivors
from bridge.mapping.targets.hl7words import SEGMENT, listed, pairs, path_at

_HEAD = ("target", "messages", "let", "edits")
_EDIT = ("each", "when", "let", "add", "surviving", "copy", "set", "translate", "remove")


@dataclass(slots=True)
class _Changes:
    """What the edits make of one message, collected from the message as it came and then done in this sequence."""

    added: list[str] = field(default_factory=list)
    survivors: list[tuple[str, str]] = field(default_factory=list)
    copied: list[tuple[str, str]] = field(default_factory=list)
    put: list[tuple[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    removed: set[tuple[str, int]] = field(default_factory=set)

    def told(self, message: Hl7Message) -> list[str]:
        """What they are so far, for a trace; a copy by what it brings."""
        copies = [message.get(source) for source, _ in self.copied if message.get(source)]
        lists = (self.added, [er7 for _, er7 in self.survivors], copies, [text for _, text in self.put], self.deleted)
        return [*(one for some in lists for one in some), *(name for name, _ in self.removed)]


_Step = Callable[[Scope, _Changes], None]


@dataclass(slots=True)
class _Edit:
    """One compiled item of ``edits:``."""

    each: tuple[str, ...]
    when: Check | None
    steps: list[_Step]

    def collect(self, scope: Scope, changes: _Changes) -> None:
        found = slices(scope.message, self.each, whole=False)
        for number, (_, view) in enumerate(found, start=1):
            inner = scope.inner(view, number)
            if self.when is None or self.when(inner):
                for step in self.steps:
                    step(inner, changes)


def compile_edit(data: dict[str, Any], place: Place, names: Names) -> Make:
    """The renderer of a mapping's ``edits:``."""
    names.findings.unknown_keys(data, _HEAD, place)
    items, here = data.get("edits"), place.child("edits")
    if not isinstance(items, list):
        names.findings.report(here, "`edits` is a list of changes", "for example `- remove: [PID-19]`")
        return lambda scope: Made(b"")
    edits = [_compile_item(item, here.child(at), names) for at, item in enumerate(items)]

    def render(scope: Scope) -> Made:
        changes = _Changes()
        for edit in edits:
            edit.collect(scope, changes)
        try:
            data = _apply(scope, changes)
        except CodecError as error:
            raise MappingError(error.what, at=error.at, fix=error.fix, kind=error.kind) from None
        named = any(path.startswith("MSH-10") for path, _ in (*changes.put, *((to, "") for _, to in changes.copied)))
        return Made(data, parse(data).get("MSH-10") if named else "")

    return render


def _compile_item(item: Any, place: Place, outer: Names) -> _Edit:
    if not isinstance(item, dict):
        outer.findings.report(place, "an edit is a mapping", "for example `- set: {MSH-3: {value: RADBRIDGE}}`")
        return _Edit((), None, [])
    outer.findings.unknown_keys(item, _EDIT, place)
    names = outer.inner()
    compile_names(item.get("let"), place.child("let"), names)
    each = compile_anchors(item["each"], place.child("each"), names) if "each" in item else ()
    when = compile_check(item["when"], place.child("when"), names) if "when" in item else None
    steps: list[_Step] = []
    for name, here in listed(item, "add", place):
        if _is_segment(name, place, names):
            steps += _watched([_adder(name)], "add", name, here, names)
    for name, here in listed(item, "surviving", place):
        steps += _watched(_survivors(name, here, names), "surviving", name, here, names)
    for target, source, here in pairs(item, "copy", place, names):
        steps += _watched(_copier(target, source, here, names), f"copy {source}", target, here, names)
    for target, line, here in pairs(item, "set", place, names):
        steps += _setter(target, line, here, names)
    for target, table, here in pairs(item, "translate", place, names):
        steps += _watched(_translator(target, table, here, names), "translate", target, here, names)
    for name, here in listed(item, "remove", place):
        steps += _watched(_remover(name, here, names), "remove", name, here, names)
    return _Edit(each, when, steps)


def _watched(steps: list[_Step], word: str, target: str, place: Place, names: Names) -> list[_Step]:
    """The steps of one line; of ``set:``, the source line itself is watched."""
    if names.watch is None:
        return steps
    watch = names.watch

    def look(made: None, scope: Scope, changes: _Changes) -> tuple[Scope, list[str]]:
        return scope, changes.told(scope.message)

    return [watch.act(place, target, word, step, look) for step in steps]


def _is_segment(name: str, place: Place, names: Names) -> bool:
    if SEGMENT.fullmatch(name):
        return True
    names.findings.report(place.child("add"), f"`{name}` is no segment", "write three capitals or digits, such as ZDS")
    return False


def _adder(name: str) -> _Step:
    def add(scope: Scope, changes: _Changes) -> None:
        if not scope.message.segments(name) and name not in changes.added:
            changes.added.append(name)

    return add


def _survivors(name: str, place: Place, names: Names) -> list[_Step]:
    path = path_at(name, place, names)
    if path is None:
        return []
    if path.text != f"{path.segment}-{path.field}":
        names.findings.report(place, "`surviving` is about whole fields of patient identifiers", "for example PID-3")

    def survive(scope: Scope, changes: _Changes) -> None:
        changes.survivors += survivors(scope, path, scope.view.numbers(path.segment))

    return [survive]


def _copier(target: str, source: Any, place: Place, names: Names) -> list[_Step]:
    to, origin = path_at(target, place, names), path_at(str(source), place, names)
    if to is None or origin is None:
        return []
    return [lambda scope, changes: changes.copied.append((_placed(origin, scope), _placed(to, scope)))]


def _setter(target: str, line: Any, place: Place, names: Names) -> list[_Step]:
    path = path_at(target, place, names)
    source: Source = compile_source(line, place, names, target)
    if path is None:
        return []

    def put(scope: Scope, changes: _Changes) -> None:
        value = source.read(scope)
        text = str(value[0]) if isinstance(value, list) and value else str(value or "")
        where = _placed(path, scope)
        if text and scope.message.get(where) != text:
            changes.put.append((where, text))

    return [put]


def _translator(target: str, table: Any, place: Place, names: Names) -> list[_Step]:
    path = path_at(target, place, names)
    if path is None:
        return []
    words = table if isinstance(table, dict) else {"table": table}
    names.findings.unknown_keys(words, ("table", "column", "unknown", "fix"), place)
    if path.repetition is not None:
        names.findings.report(place, "`translate` is about every repetition", "leave the brackets out")
    source = compile_source({"from": target, "fix": words.get("fix", "")}, place, names, target)
    look_up = compile_lookup({"from": target, "table": "", **words}, place, names, source, several=False)

    def translate(scope: Scope, changes: _Changes) -> None:
        if not scope.view.get(target):
            return
        head, tail = _placed(path, scope).split(f"-{path.field}", 1)
        for number, text in enumerate(scope.message.all(f"{head}-{path.field}{tail}"), start=1):
            found = str(look_up(scope, text)) if text not in ("", NULL) else text
            if found != text:
                changes.put.append((f"{head}-{path.field}[{number}]{tail}", found))

    return [translate]


def _remover(name: str, place: Place, names: Names) -> list[_Step]:
    if SEGMENT.fullmatch(name):

        def drop(scope: Scope, changes: _Changes) -> None:
            changes.removed |= {(name, scope.message.ordinal(one)) for one in scope.view.numbers(name)}

        return [drop]
    path = path_at(name, place, names)
    return [] if path is None else [lambda scope, changes: changes.deleted.append(_placed(path, scope))]


def _placed(path: Path, scope: Scope) -> str:
    """The path with the number of the segment that it means in this scope, so that it holds for the whole message."""
    view: View = scope.view
    if view is scope.message or (path.occurrence is not None and not path.groups):
        return path.text
    mine = view.occurrences(path)
    if not mine:
        return path.text
    several = len(scope.message.numbers(path.segment)) > 1
    return path.at(scope.message.ordinal(mine[0])) if path.groups or several else path.text


def _apply(scope: Scope, changes: _Changes) -> bytes:
    editor = scope.message.edit()
    for name in changes.added:
        editor.add_segment(name)
    for path, er7 in changes.survivors:
        editor.set_er7(path, er7)
    for source, target in changes.copied:
        editor.copy(source, target)
    for path, text in changes.put:
        if text == NULL:
            editor.set_null(path)
        else:
            editor.set(path, text)
    for path in changes.deleted:
        editor.delete(path)
    for name, occurrence in sorted(changes.removed, reverse=True):
        editor.remove_segment(name, occurrence)
    return editor.encode()
