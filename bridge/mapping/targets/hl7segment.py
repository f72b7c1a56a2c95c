"""One segment of a composed HL7 message: begun empty or as one of the source, then filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.codecs.er7 import NULL, Delimiters
from bridge.codecs.paths import Path, compile_path
from bridge.errors import MappingError
from bridge.mapping.place import Place
from bridge.mapping.refs import ForeignRef, Names, PathRef, ValueRef, compile_refs
from bridge.mapping.scope import Scope
from bridge.mapping.sources import compile_source
from bridge.mapping.targets.carried import Use, mark, uses
from bridge.mapping.targets.hl7draft import Book, Draft, Part, Write, compile_parts, watched
from bridge.mapping.targets.hl7words import SEGMENT, listed, pairs, path_at

_HEADER = (7, 9, 10, 11, 12, 18)
"""Fields of MSH that a new header begins with, besides the delimiters: time, type, id, kind, version, character set."""


@dataclass(slots=True)
class _Change:
    """One field, component or subcomponent of a new segment."""

    path: Path
    place: Place
    read: Callable[[Scope], tuple[str, str]]
    """Kind and value; an empty value changes nothing."""
    counts: bool = True
    """Whether the value comes from the message, so that the segment is worth sending."""


def compile_segment(item: dict[str, Any], place: Place, outer: Names, book: Book) -> Write:
    """What appends one segment, or one for each slice of ``each:``; none that would have no value of the message."""
    names, name = outer.inner(), str(item["segment"])
    if not SEGMENT.fullmatch(name):
        names.findings.report(place.child("segment"), f"`{name}` is no segment", "write three capitals, such as IPC")
    parts = compile_parts(item, place, names, whole=False)
    used: dict[Use, None] = {}
    changes = _changes(item, name, place, names, book, used)
    origin = _origin(item, name, place, names, book)
    if name == "MSH":
        _check_header(changes, bool(origin), place, names, book)
    removed = _removed(item, name, changes, place, names)
    always = name == "MSH" or not (origin or any(change.counts for change in changes))
    limit = book.up_to.get(name, 0)

    def write(part: Part, draft: Draft) -> None:
        for inner in parts(part, draft):
            scope = inner.scope
            base = next(iter(scope.view.numbers(origin)), None) if origin else None
            found = [(change, *change.read(scope)) for change in changes]
            if base is None and not always and not any(value and change.counts for change, _, value in found):
                continue
            mark(draft.read, scope, used)
            line = name.encode()
            if base is not None:
                line += draft.as_sent(base, limit)[3:]
                for path in removed:
                    line = _without(line, path, draft.source.delimiters)
            elif name == "MSH":
                line = _new_header(draft)
            which = draft.add(name, line)
            for change, kind, value in found:
                if value:
                    at = change.path.text if which == 1 else f"{name}({which}){change.path.text[3:]}"
                    draft.changes.append((kind, at, value))

    return watched(write, "segment", name, place, names)


def _origin(item: dict[str, Any], name: str, place: Place, names: Names, book: Book) -> str:
    """The segment of the source that the new one begins as."""
    if "from" not in item:
        return ""
    origin = str(item["from"])
    if not SEGMENT.fullmatch(origin) or (origin == "MSH") != (name == "MSH"):
        names.findings.report(place.child("from"), f"{name} cannot begin as `{origin}`", "write a segment, such as OBR")
    book.named.add(origin)
    return origin


def _check_header(changes: list[_Change], begun: bool, place: Place, names: Names, book: Book) -> None:
    """A header that does not begin as the source's has to say what kind of message of which version it heads."""
    said = {change.path.field for change in changes}
    book.own_id = 10 in said
    for number in () if begun else (9, 12):
        if number not in said:
            names.findings.report(place, f"MSH-{number} is not set", "set it, or write `from: MSH`")
    for number in () if begun else _HEADER:
        book.reads.add(compile_path(f"MSH-{number}"))


def _new_header(draft: Draft) -> bytes:
    """MSH with what the new message shares with its source."""
    message = draft.source
    draft.read.add(0)
    separator = message.delimiters.field
    fields = [message.field(0, at - 1) if at in (2, *_HEADER) else b"" for at in range(2, max(_HEADER) + 1)]
    return b"MSH" + separator + separator.join(fields).rstrip(separator)


def _changes(
    item: dict[str, Any], name: str, place: Place, names: Names, book: Book, used: dict[Use, None]
) -> list[_Change]:
    """``copy:`` and ``set:``; each part of a segment is said once."""
    found: list[_Change] = []
    for text, source, here in pairs(item, "copy", place, names):
        path = _target(text, name, here, names)
        refs = [ref for ref in compile_refs(source, here, names) if isinstance(ref, PathRef | ForeignRef)]
        if not refs:
            names.findings.report(here, "`copy` takes places of the message", "for example `IPC-1: OBR-18`")
        _use(uses(refs), book, used)
        if path is not None:
            read = _copier(refs)
            if names.watch is not None:
                read = names.watch.act(here, text, f"copy {source}", read, _copied)
            found.append(_Change(path, here, read))
    for text, line, here in pairs(item, "set", place, names):
        path = _target(text, name, here, names)
        value = compile_source(line, here, names, text)
        _use(uses(value.refs, every=isinstance(line, dict) and ("as" in line or "all" in line)), book, used)
        counts = any(not isinstance(ref, ValueRef) for ref in value.refs)
        if path is not None:
            found.append(_Change(path, here, _setter(path, value.read), counts))
    for at, change in enumerate(found):
        _no_overlap(change.path, change.place, found[:at], names)
    return found


def _copied(made: tuple[str, str] | None, scope: Scope) -> tuple[Scope, str | None]:
    """What a trace shows of a copy."""
    return scope, made[1] if made else None


def _use(found: Iterator[tuple[Use, Path]], book: Book, used: dict[Use, None]) -> None:
    for use, path in found:
        used[use] = None
        book.reads.add(path)
        book.named.add(path.segment)


def _target(text: str, name: str, place: Place, names: Names) -> Path | None:
    """A place in the new segment; None, and a finding, if it is none."""
    path = path_at(text, place, names)
    if path is None:
        return None
    if path.segment != name or not path.plain:
        names.findings.report(place, f"`{text}` is no field of {name}", f"for example {name}-2 or {name}-2.1")
        return None
    if path.verbatim:
        names.findings.report(place, "the delimiters are those of the source message", "take this line out")
        return None
    return path


def _no_overlap(path: Path, place: Place, others: list[_Change], names: Names) -> None:
    for other in (one.path for one in others):
        mine, theirs = ((one.field, one.component, one.subcomponent) for one in (path, other))
        if all(a == b or not a or not b for a, b in zip(mine, theirs, strict=True)):
            what = f"`{path.text}` is written twice: `{other.text}` is there as well"
            names.findings.report(place, what, "keep one of them, or write component by component")


def _removed(item: dict[str, Any], name: str, changes: list[_Change], place: Place, names: Names) -> list[Path]:
    """What is taken out of the segment that the new one begins as."""
    found = []
    for text, here in listed(item, "remove", place):
        path = _target(text, name, here, names)
        if path is not None:
            if "from" not in item or path.subcomponent:
                names.findings.report(here, "`remove` takes fields and components out of what `from` begins with")
            _no_overlap(path, here, changes, names)
            found.append(path)
    return found


def _without(line: bytes, path: Path, marks: Delimiters) -> bytes:
    """A segment without a field, or without a component in all repetitions of it."""
    fields = line.split(marks.field)
    if path.index < len(fields):
        repetitions = fields[path.index].split(marks.repetition) if path.component else []
        for at, repetition in enumerate(repetitions):
            parts = repetition.split(marks.component)
            parts[path.component - 1 : path.component] = [b""]
            repetitions[at] = marks.component.join(parts).rstrip(marks.component)
        fields[path.index] = marks.repetition.join(repetitions)
    return marks.field.join(fields)


def _copier(refs: Sequence[PathRef | ForeignRef]) -> Callable[[Scope], tuple[str, str]]:
    def read(scope: Scope) -> tuple[str, str]:
        return "er7", next((found for ref in refs if (found := ref.er7(scope))), "")

    return read


def _setter(path: Path, source: Callable[[Scope], Any]) -> Callable[[Scope], tuple[str, str]]:
    """Text to put at ``path``; a list of several is the repetitions of a field."""

    def read(scope: Scope) -> tuple[str, str]:
        value = source(scope)
        texts = [str(one) for one in (value if isinstance(value, list) else [value]) if one not in ("", None)]
        if len(texts) < 2:
            return ("er7" if texts == [NULL] else "text"), "".join(texts)
        if path.component:
            raise MappingError(f"{len(texts)} values for {path.text}", at=path.text, fix="set the field as a whole")
        marks = scope.message.delimiters
        return "er7", marks.repetition.decode().join(map(marks.escape_value, texts))

    return read
