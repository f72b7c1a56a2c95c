"""The ``hl7v2`` target with ``message:``: a new message, made segment by segment of what the source message holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.errors import CodecError, MappingError
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Made, Make, Scope
from bridge.mapping.targets.hl7draft import Book, Draft, Part, Write, compile_parts, watched
from bridge.mapping.targets.hl7segment import compile_segment
from bridge.mapping.targets.hl7words import SEGMENT, listed, pairs, path_at

_HEAD = ("target", "messages", "let", "up_to", "leave_out", "numbered", "message")
_KINDS = {
    "segment": ("segment", "from", "each", "when", "let", "copy", "set", "remove"),
    "group": ("group", "each", "when", "let"),
    "copy": ("copy", "when"),
}
"""The words of each kind of item, by the word that makes it one."""
_OTHERS, _LOCAL = "others", "Z*"
_SHOWN = 100
"""Places that a note lists."""


def compile_compose(data: dict[str, Any], place: Place, names: Names) -> Make:
    """The renderer of a mapping's ``message:``. What of the source message it does not carry over is noted."""
    names.findings.unknown_keys(data, _HEAD, place)
    book = Book()
    _limits(data, place, names, book)
    _left_out(data, place, names, book)
    _numbered(data, place, names, book)
    items, here = data["message"], place.child("message")
    if not isinstance(items, list) or not items or not isinstance(items[0], dict) or items[0].get("segment") != "MSH":
        names.findings.report(here, "`message` lists segments, MSH first", "begin with `- segment: MSH`")
        return lambda scope: Made(b"")
    writers = [_compile_item(item, here.child(at), names, book) for at, item in enumerate(items)]
    _once(items, here, names)
    for name in sorted(book.reads.left_out & book.named):
        what = f"`{name}` is left out, and used further down"
        names.findings.report(place.child("leave_out"), what, "take it out here, or there")
    groups = [at for at, item in enumerate(items) if isinstance(item, dict) and "group" in item]
    head = groups[0] if groups else len(items)
    anchor = _anchor(items[head]) if groups else ""

    def render(scope: Scope) -> Made:
        message, draft = scope.message, Draft(scope.message, book.numbered)
        before, everything = Part(scope, _before(message, anchor)), Part(scope, message.own)
        try:
            for at, write in enumerate(writers):
                write(before if at < head else everything, draft)
            made = draft.finish()
        except CodecError as error:
            raise MappingError(error.what, at=error.at, fix=error.fix, kind=error.kind) from None
        missed = book.reads.left_behind(message, draft.copied, draft.read)
        if missed:
            more = f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
            scope.note(f"not carried over: {', '.join(missed[:_SHOWN])}{more}")
        return Made(made, parse(made).get("MSH-10") if book.own_id else "")

    return render


def _anchor(group: dict[str, Any]) -> str:
    each = group.get("each", "")
    return str(each[0] if isinstance(each, list) and each else each)


def _before(message: Hl7Message, anchor: str) -> Sequence[int]:
    """The segments before the first group; all of them where there is none."""
    found = message.split(anchor) if anchor else []
    return message.own[: found[0].own[0]] if found else message.own


def _limits(data: dict[str, Any], place: Place, names: Names, book: Book) -> None:
    for name, limit, here in pairs(data, "up_to", place, names):
        if not SEGMENT.fullmatch(name) or not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            names.findings.report(here, "`up_to` gives the last field of segments", "for example {PID: 30, ORC: 19}")
        else:
            book.up_to[name] = limit


def _numbered(data: dict[str, Any], place: Place, names: Names, book: Book) -> None:
    for name, begin, here in pairs(data, "numbered", place, names):
        if not SEGMENT.fullmatch(name) or not SEGMENT.fullmatch(str(begin)):
            fix = "write a segment, and the one after which it begins anew: {OBX: OBR}"
            names.findings.report(here, "`numbered` counts segments", fix)
        book.numbered[name] = str(begin)


def _left_out(data: dict[str, Any], place: Place, names: Names, book: Book) -> None:
    for text, here in listed(data, "leave_out", place):
        book.reads.left_out.add(text)
        if not SEGMENT.fullmatch(text):
            path = path_at(text, here, names)
            if path is not None and (not path.plain or path.subcomponent):
                names.findings.report(here, f"`{text}` cannot be left out", "write BLG, PID-19 or IPC-1.2")


def _compile_item(item: Any, place: Place, names: Names, book: Book) -> Write:
    kind = next((word for word in _KINDS if isinstance(item, dict) and word in item), "")
    if not kind:
        names.findings.report(place, "an item is a segment, a group or a copy", "for example `- copy: [PID, PV1]`")
        return lambda part, draft: None
    names.findings.unknown_keys(item, _KINDS[kind], place)
    if kind == "segment":
        header = item["segment"] == "MSH"
        if header and (place.path != ("message", 0) or "each" in item or "when" in item):
            names.findings.report(place, "MSH is the first segment, once and always", "take this one out")
        return compile_segment(item, place, names, book)
    return (_compile_group if kind == "group" else _compile_copy)(item, place, names, book)


def _once(items: list[Any], place: Place, names: Names) -> None:
    """No two items of a list copy the same segments, unless conditions tell them apart."""
    seen: set[str] = set()
    for at, item in enumerate(items):
        if not isinstance(item, dict) or "when" in item or "each" in item:
            continue
        taken = [(str(item["from"]), place.child(at, "from"))] if "from" in item else []
        for name, here in taken or (listed(item, "copy", place.child(at)) if "segment" not in item else []):
            if name in seen:
                names.findings.report(here, f"`{name}` is copied twice", "keep one of them, or give both a `when:`")
            seen.add(name)


def _compile_group(item: dict[str, Any], place: Place, outer: Names, book: Book) -> Write:
    names, items, here = outer.inner(), item["group"], place.child("group")
    parts = compile_parts(item, place, names, whole=True)
    if not isinstance(items, list) or not items:
        names.findings.report(here, "`group` lists segments", "begin each one with `- segment:`")
        return lambda part, draft: None
    writers = [_compile_item(one, here.child(at), names, book) for at, one in enumerate(items)]
    _once(items, here, names)

    def write(part: Part, draft: Draft) -> None:
        for inner in parts(part, draft):
            for one in writers:
                one(inner, draft)

    return write


def _compile_copy(item: dict[str, Any], place: Place, outer: Names, book: Book) -> Write:
    names = outer.inner()
    parts = compile_parts(item, place, names, whole=False)
    wanted = listed(item, "copy", place)
    for name, here in wanted:
        if name == "MSH" or not (name in (_OTHERS, _LOCAL) or SEGMENT.fullmatch(name)):
            fix = f"write segments such as PID, {_LOCAL} or {_OTHERS}; MSH is an item of its own"
            names.findings.report(here, f"`{name}` cannot be copied here", fix)
    exact = frozenset(name for name, _ in wanted) - {_OTHERS, _LOCAL}
    book.named |= exact
    others, local = (any(name == word for name, _ in wanted) for word in (_OTHERS, _LOCAL))

    def is_other(name: str, number: int, draft: Draft) -> bool:
        """Whether no item names the segment, and it is not left out nor in the message already."""
        if not name or name in book.named or name in book.reads.left_out or number in draft.copied:
            return False
        return others or (local and name.startswith("Z"))

    def write(part: Part, draft: Draft) -> None:
        for inner in parts(part, draft):
            for number in inner.own:
                name = draft.source.names[number]
                if name in exact or is_other(name, number, draft):
                    draft.add(name, draft.as_sent(number, book.up_to.get(name, 0)))

    return watched(write, "copy", " ".join(name for name, _ in wanted), place, names)
