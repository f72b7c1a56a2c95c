"""HL7 v2 in ER7: a lazy reader over the bytes as received.

Parsing finds the segments and reads MSH; a field is split and decoded when it is asked for. Segments end in CR (CRLF
and LF are accepted), a UTF-8 byte order mark is allowed. Values are split first and unescaped after, so that no escape
sequence can make a segment, field or component. HL7 v2 chapter 2.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

from bridge.codecs import charset as charsets
from bridge.codecs.er7 import NULL, Delimiters, delimiters
from bridge.codecs.header import read_header
from bridge.codecs.paths import Match, Path, compile_path
from bridge.codecs.views import Numbers, Segment, View
from bridge.errors import CodecError
from bridge.message import Header

if TYPE_CHECKING:
    from bridge.codecs.editor import Editor

__all__ = ["NULL", "Hl7Message", "Segment", "View", "compile_path", "parse"]

_BOM = b"\xef\xbb\xbf"
_LARGE = 1 << 16
_MOST = 500_000
"""Lines of one message; more would cost far more memory than their bytes."""
_LINE = re.compile(rb"[^\r\n]+")
_MSH_FIX = "send one HL7 v2 message in ER7 encoding, beginning with MSH"
_ONLY_EVENTS = {"ORM": "O01", "ORU": "R01"}
_NAMES: dict[bytes, str] = {}
"""Segment names by the first four bytes of a line: the name and the separator ``|``."""


def parse(raw: bytes, charset: str = "") -> Hl7Message:
    """Read one ER7 message. ``charset`` (HL7 table 0211) holds when MSH-18 is empty.

    Raises CodecError: no MSH, broken delimiters, a batch, a second MSH, no message type, bytes outside the declared
    character set, 500,000 lines. Reading values afterwards raises nothing for what is in the message.
    """
    return Hl7Message(raw, charset)


class Hl7Message(View):
    """A parsed message. Made by :func:`parse`.

    ``raw`` is what was received, ``charset`` the Python codec its text is read with, ``names`` the segments' names in
    order (empty for a line that is no segment), ``warnings`` what had to be assumed. ``body`` is what is split:
    ``raw``, or its text in UTF-8 where the character set cannot be split before decoding; ``codec`` is the body's.
    """

    __slots__ = ("_fields", "_header", "_spans", "_texts", "body", "charset", "codec", "delimiters", "names", "raw",
                 "version", "warnings")  # fmt: skip

    def __init__(self, raw: bytes, default_charset: str = "") -> None:
        self.raw = self.body = raw
        start = 0 if raw.startswith(b"MSH") else _message_start(raw)
        msh = _read_msh(raw, start)
        shifts = b"\x1b" in raw
        if shifts:
            msh = _without_shifts(raw, start, default_charset) or msh
        self.delimiters: Delimiters = delimiters(msh[0] + msh[1])
        declared = _declared(msh)
        try:
            found = charsets.detect(raw, declared, default_charset)
        except charsets.NotInCharset as error:
            at = _place(raw, error.offset, self.delimiters)
            raise CodecError(f"a byte that {error.codec} does not have", at=at, fix=charsets.FIX) from None
        self.charset = self.codec = found.codec
        if found.codec in charsets.OPAQUE:
            self.body, self.codec = raw.decode(found.codec).encode(), "utf-8"
        if shifts or self.body is not raw:
            msh = _read_msh(self.body, start)
            self.delimiters = delimiters(msh[0] + msh[1])
            if _declared(msh) != declared:
                what = f"a delimiter of MSH is part of a character in {found.codec}"
                raise CodecError(what, at="MSH", fix=charsets.FIX)
        if len(msh) < 9 or not msh[8]:
            raise CodecError("message type missing", at="MSH-9", fix="send MSH-9, for example ORM^O01", kind="required")
        self._find_segments(start)
        self.warnings: tuple[str, ...] = found.warnings
        if "" in self._index or b"\n" in self.body:
            self.warnings += tuple(self._oddities()[:10])
        self._fields: list[list[bytes] | None] = [None] * len(self.names)
        self._fields[0] = msh
        self._texts: list[list[str] | None] = [None] * len(self.names)
        self._header: Header | None = None
        self.version = self.decode(msh[11].split(self.delimiters.component, 1)[0]) if len(msh) > 11 else ""

    def _find_segments(self, start: int) -> None:
        body, separator = self.body, self.delimiters.field
        known = _NAMES if separator == b"|" else {}
        self._spans = spans = _lines(body, start)
        self.names = names = [known.get(body[begin : begin + 4], "") for begin, _ in spans]
        index: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            if not name:
                name = names[number] = _name(self.segment_bytes(number), separator, known)
            if name in index:
                index[name].append(number)
            else:
                index[name] = [number]
        if len(index["MSH"]) > 1:
            at = f"segment {index['MSH'][1] + 1}"
            raise CodecError("another message begins inside this one", at=at, fix="send one message in each frame")
        self._numbers, self._index = range(len(names)), Numbers(index)
        self._tree = None

    @property
    def message(self) -> Hl7Message:  # type: ignore[override]
        """The message itself: no reference that would keep it until the next collection of garbage."""
        return self

    def _oddities(self) -> list[str]:
        """What a person should see about the lines: text that wrapped, or line ends of two kinds, loses no byte."""
        found = []
        for number, (begin, end) in enumerate(self._spans):
            if not self.names[number]:
                found.append(f"line {number + 1} is not a segment")
            elif self.body.find(b"\n", begin, end) >= 0:
                found.append(f"a line feed inside segment {number + 1}")
        return found

    def fields(self, number: int) -> list[bytes]:
        """All raw fields of a segment; the first is its name (for MSH: MSH-1). Not to be changed."""
        fields = self._fields[number]
        if fields is None:
            fields = self._fields[number] = self.segment_bytes(number).split(self.delimiters.field)
        return fields

    def field(self, number: int, index: int) -> bytes:
        """Raw bytes of field ``index`` (0 is the segment's name) of segment ``number``; empty when absent."""
        fields = self._fields[number]
        if fields is None:
            start, end = self._spans[number]
            if end - start > _LARGE:
                start, end = self.field_span(number, index)
                return self.body[start:end]
            fields = self.fields(number)
        return fields[index] if index < len(fields) else b""

    def field_text(self, number: int, index: int) -> str:
        """The same as text, not yet unescaped."""
        texts = self._texts[number]
        if texts is None:
            start, end = self._spans[number]
            if end - start > _LARGE:
                return self.field(number, index).decode(self.codec)
            texts = self._texts[number] = self.body[start:end].decode(self.codec).split(self.delimiters.field_text)
            if number == 0:
                texts[0] = self.delimiters.field_text
        return texts[index] if index < len(texts) else ""

    def field_span(self, number: int, index: int) -> tuple[int, int]:
        """Where a field lies in the body, without copying what goes before or after."""
        find, separator = self.body.find, self.delimiters.field
        start, end = self._spans[number]
        for _ in range(index):
            start = find(separator, start, end) + 1
            if not start:
                return end, end
        stop = find(separator, start, end)
        return start, end if stop < 0 else stop

    def span(self, number: int) -> tuple[int, int, int]:
        """Where a segment lies in ``body``: its start, its end, and where the next one (or nothing) starts."""
        spans = self._spans
        return *spans[number], spans[number + 1][0] if number + 1 < len(spans) else len(self.body)

    @property
    def terminator(self) -> bytes:
        """What ends this message's segments: CR, CRLF or LF."""
        end = self._spans[0][1]
        return self.body[end : end + 2] if self.body[end : end + 2] == b"\r\n" else self.body[end : end + 1] or b"\r"

    def ordinal(self, number: int) -> int:
        """Which one of its name a segment is, from 1."""
        return bisect_left(self._index[self.names[number]], number) + 1

    def segment_bytes(self, number: int) -> bytes:
        start, end = self._spans[number]
        return self.body[start:end]

    def text(self, value: bytes, path: Path) -> str:
        """Text of the part that ``path`` names of a raw field or repetition."""
        return self.part(value.decode(self.codec), path) if value else ""

    def part(self, value: str, path: Path) -> str:
        """The part that ``path`` names of a field or repetition, unescaped."""
        marks = self.delimiters
        if path.verbatim:
            return value
        if marks.repetition_text in value:
            value = value.split(marks.repetition_text, 1)[0]
        if path.component:
            parts = value.split(marks.component_text, path.component)
            value = parts[path.component - 1] if path.component <= len(parts) else ""
            if path.subcomponent:
                parts = value.split(marks.subcomponent_text, path.subcomponent)
                value = parts[path.subcomponent - 1] if path.subcomponent <= len(parts) else ""
        return marks.unescape(value, self.charset) if marks.escape_text in value else value

    def decode(self, value: bytes) -> str:
        """Raw bytes of one part to text: decoded, then unescaped."""
        return self.unescape(value.decode(self.codec))

    def unescape(self, text: str) -> str:
        """One part's text, its escape sequences resolved."""
        marks = self.delimiters
        return marks.unescape(text, self.charset) if marks.escape_text in text else text

    def split_value(self, value: bytes, path: Path) -> list[list[str]]:
        """Components and subcomponents of one raw repetition, below the component that ``path`` names."""
        marks = self.delimiters
        components = value.split(marks.component)
        if path.component:
            components = components[path.component - 1 : path.component]
        parts = [[self.decode(part) for part in one.split(marks.subcomponent)] for one in components]
        if path.subcomponent:
            parts = [one[path.subcomponent - 1 : path.subcomponent] for one in parts]
        return parts

    def repetitions(self, value: bytes, path: Path) -> list[tuple[int, bytes]]:
        """The repetitions of a raw field that ``path`` chooses, with their place from 0; all when it does not."""
        found = list(enumerate(value.split(self.delimiters.repetition)))
        which = path.repetition
        if isinstance(which, Match):
            return [(at, part) for at, part in found if self.text(part, which.path) == which.value]
        return found[which - 1 : which] if which else found

    def field_matches(self, value: bytes, which: Match) -> bool:
        """Whether a repetition of a raw field has the value that a segment's condition asks for."""
        return self.holds(value.decode(self.codec), which)

    def holds(self, text: str, which: Match) -> bool:
        """The same of a field's text."""
        marks = self.delimiters
        if which.value not in text and marks.escape_text not in text:
            return False
        return any(self.part(one, which.path) == which.value for one in text.split(marks.repetition_text))

    @property
    def kind(self) -> tuple[str, str]:
        """Message code and trigger event (MSH-9.1, MSH-9.2). Up to version 2.2 the event may stand in EVN-1 alone, or
        go without saying where the code has just one."""
        code, event = (*self.field(0, 8).split(self.delimiters.component, 2), b"")[:2]
        text = self.decode(code)
        return text, self.decode(event) or self.get("EVN-1") or _ONLY_EVENTS.get(text, "")

    @property
    def header(self) -> Header:
        """What the engine needs to store, route and sequence the message; computed once."""
        if self._header is None:
            self._header = read_header(self, self._index)
        return self._header

    def edit(self) -> Editor:
        """An editor over a copy; this message stays as it is."""
        from bridge.codecs.editor import Editor

        return Editor(self)


def _message_start(raw: bytes) -> int:
    start = 3 if raw.startswith(_BOM) else 0
    while raw[start : start + 1] in (b"\r", b"\n"):
        start += 1
    head = raw[start : start + 3]
    if head in (b"FHS", b"BHS"):
        fix = "send its messages one by one, and no empty batch"
        raise CodecError("a batch, not a message", at=head.decode(), fix=fix, kind="message_type")
    if head == b"MSH":
        return start
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or raw[:6] in (b"M\0S\0H\0", b"\0M\0S\0H"):
        raise CodecError("UTF-16 text", at="MSH", fix="send UTF-8 and declare UNICODE UTF-8 in MSH-18")
    if not raw.strip():
        raise CodecError("an empty message", at="MSH", fix=_MSH_FIX)
    raise CodecError("the message does not begin with MSH", at="MSH", fix=_MSH_FIX)


def _read_msh(raw: bytes, start: int, hidden: re.Pattern[bytes] | None = None) -> list[bytes]:
    """The fields of MSH, from MSH-1, the separator, on; what is ``hidden`` after it left out."""
    end = _line_end(raw, start)
    separator = raw[start + 3 : start + 4]
    if start + 4 >= end:
        raise CodecError("the message ends before its delimiters", at="MSH-1", fix=_MSH_FIX)
    line = raw[start:end]
    if hidden and b"\x1b" in line:
        line = line[:4] + hidden.sub(b"", line[4:])
    fields = line.split(separator)
    fields[0] = separator
    return fields


def _without_shifts(raw: bytes, start: int, default_charset: str) -> list[bytes] | None:
    """The fields of MSH with its text of ISO 2022 left out, if what they declare is ISO 2022."""
    msh = _read_msh(raw, start, charsets.SHIFTED)
    try:
        codec = charsets.codec_for(_declared(msh)) or charsets.codec_for(default_charset)
    except CodecError:
        return None
    return msh if codec == charsets.ISO_2022 else None


def _declared(msh: list[bytes]) -> str:
    """MSH-18, its repetitions parted by ``~`` whatever the message parts them by."""
    if len(msh) < 18:
        return ""
    return msh[17].replace(msh[1][1:2] or b"~", b"~").decode("ascii", "replace")


def _line_end(raw: bytes, start: int) -> int:
    end = raw.find(b"\r", start)
    if end < 0:
        end = len(raw)
    feed = raw.find(b"\n", start, end)
    return end if feed < 0 else feed


def _lines(body: bytes, start: int) -> list[tuple[int, int]]:
    """Start and end of each line that is not empty.

    CR ends a segment. LF ends one in a message without CR, or whose first segment ends in LF; right after CR it
    belongs to the terminator; elsewhere it is text.
    """
    find, size = body.find, len(body)
    feeds = find(b"\n", start) >= 0
    if feeds and body.startswith(b"\n", _line_end(body, start)):
        found = [match.span() for match in islice(_LINE.finditer(body, start), _MOST)]
        if len(found) == _MOST:
            raise _too_many()
        return found
    found = []
    for _ in range(_MOST):
        if start >= size:
            return found
        end = find(b"\r", start)
        if end < 0:
            end = size
        if feeds and body[start] == 10:
            start += 1
        if end > start:
            found.append((start, end))
        start = end + 1
    raise _too_many()


def _too_many() -> CodecError:
    return CodecError(f"{_MOST} lines", at="MSH", fix="send shorter messages")


def _name(segment: bytes, separator: bytes, known: dict[bytes, str]) -> str:
    """A segment's name, a capital and two capitals or digits, remembered in ``known``; empty when it has none."""
    name = segment[:3]
    if segment[3:4] not in (separator, b"") or len(name) < 3 or not name[:1].isalpha():
        return ""
    if not (name.isascii() and name.isalnum() and name.isupper()):
        return ""
    if len(known) < 1000:
        known[name + separator] = name.decode()
    return name.decode()


def _place(raw: bytes, offset: int, marks: Delimiters) -> str:
    """The field in which a byte lies, for an error: ``PID-5``; or the line, when that is no segment."""
    start = max(raw.rfind(b"\r", 0, offset), raw.rfind(b"\n", 0, offset)) + 1
    name = "MSH" if raw.startswith(_BOM, start) else _name(raw[start : start + 4], marks.field, {})
    if not name:
        return f"line {sum(1 for _ in _LINE.finditer(raw, 0, start)) + 1}"
    count = raw.count(marks.field, start, offset)
    return f"{name}-{count + 1 if name == 'MSH' else count}"
