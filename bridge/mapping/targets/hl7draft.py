"""A new HL7 message on its way: its segments as they begin, what is put into them, and what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.codecs.editor import written
from bridge.codecs.hl7v2 import Hl7Message, View, parse
from bridge.mapping.conditions import Check, compile_check
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Scope
from bridge.mapping.slices import compile_anchors
from bridge.mapping.sources import compile_names
from bridge.mapping.targets.carried import Reads


@dataclass(slots=True)
class Part:
    """What an item is made for: what its paths look in, and the segments that are its own to copy."""

    scope: Scope
    own: Sequence[int]


@dataclass(slots=True)
class Draft:
    """The new message, and which segments of its source it has used."""

    source: Hl7Message
    numbered: Mapping[str, str] = field(default_factory=dict)
    """Segments whose first field counts them, each with the segment after which it begins anew."""
    since: dict[str, int] = field(default_factory=dict)
    lines: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind (``text`` or ``er7``), path and value."""
    copied: dict[int, int] = field(default_factory=dict)
    """Number of each copied segment, with its first field that was not copied (0: all of it was)."""
    read: set[int] = field(default_factory=set)

    def add(self, name: str, line: bytes) -> int:
        """Append a segment; which one of its name it is, from 1."""
        self.lines.append(line)
        self.counts[name] = number = self.counts.get(name, 0) + 1
        self.since |= {one: 0 for one, begin in self.numbered.items() if begin == name}
        if name in self.numbered:
            self.since[name] = self.since.get(name, 0) + 1
            self.changes.append(("text", f"{name}({number})-1", str(self.since[name])))
        return number

    def as_sent(self, number: int, limit: int) -> bytes:
        """A segment of the source, up to the field ``limit`` (0: all)."""
        name, separator = self.source.names[number], self.source.delimiters.field
        line, last = self.source.segment_bytes(number), limit - (name == "MSH")
        cut = bool(limit) and line.count(separator) > last
        self.copied[number] = limit + 1 if cut else 0
        return separator.join(line.split(separator, last + 1)[: last + 1]) if cut else line

    def finish(self) -> bytes:
        """The message in the character set of its source, or in the one that MSH-18 was set to. Raises CodecError."""
        source = self.source
        data = b"\r".join((*self.lines, b""))
        if source.codec != source.charset:
            data = written(data.decode(source.codec), source.charset)
        editor = parse(data, source.charset).edit()
        for kind, path, value in self.changes:
            if kind == "text":
                editor.set(path, value)
            else:
                editor.set_er7(path, value)
        return editor.encode()


@dataclass(slots=True)
class Book:
    """What the items of one mapping share, while they are compiled and afterwards."""

    reads: Reads = field(default_factory=Reads)
    named: set[str] = field(default_factory=set)
    """Segments that some item copies or reads: not among the others."""
    up_to: dict[str, int] = field(default_factory=dict)
    """The last field that is copied of a segment."""
    numbered: dict[str, str] = field(default_factory=dict)
    own_id: bool = False
    """Whether MSH-10 is not simply that of the source."""


Write = Callable[[Part, Draft], None]
Parts = Callable[[Part, Draft], Iterator[Part]]


def compile_parts(item: dict[str, Any], place: Place, names: Names, *, whole: bool) -> Parts:
    """The slices of ``each:`` for which ``when:`` holds; ``whole``: an anchor that is absent is no scope."""
    compile_names(item.get("let"), place.child("let"), names)
    each = compile_anchors(item["each"], place.child("each"), names) if "each" in item else ()
    when: Check | None = compile_check(item["when"], place.child("when"), names) if "when" in item else None

    def parts(part: Part, draft: Draft) -> Iterator[Part]:
        scope = part.scope
        found = _cut(scope.view, each, None, draft, whole) if each else [(scope.view, part.own)]
        for number, (view, own) in enumerate(found, start=1):
            inner = scope.inner(view, number if each else scope.index)
            if when is None or when(inner):
                yield Part(inner, own)

    return parts


def watched(write: Write, word: str, target: str, place: Place, names: Names) -> Write:
    """An item of a message; a trace shows the segments that it adds, as they begin."""
    if names.watch is None:
        return write

    def look(made: None, part: Part, draft: Draft) -> tuple[Scope, list[str]]:
        return part.scope, [line.decode(draft.source.codec, "replace") for line in draft.lines]

    return names.watch.act(place, target, word, write, look)


def _cut(
    view: View, anchors: Sequence[str], before: list[int] | None, draft: Draft, whole: bool
) -> Iterator[tuple[View, Sequence[int]]]:
    """The innermost slices, each with its own segments and those of the slices around it that stand before it."""
    first, rest = anchors[0], anchors[1:]
    found = view.split(first)
    if not found:
        if rest:
            yield from _cut(view, rest, before, draft, whole)
        elif whole:
            yield view, [*(before or ()), *(one for one in view.own if one not in draft.copied)]
        return
    head = [] if before is None else [*before, *(one for one in view.own if one < found[0].own[0])]
    for one in found:
        if rest:
            yield from _cut(one, rest, head, draft, whole)
        else:
            yield one, [*head, *one.own]
