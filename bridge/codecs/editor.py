"""Edits to an HL7 v2 message: only what is named changes, every other byte stays as received."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.codecs.charset import OPAQUE, codec_for
from bridge.codecs.er7 import NULL
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.paths import EVERY, Match, Path, compile_path
from bridge.errors import CodecError

_FEED = ord("\n")
"""A line can begin with it after CRLF: after a CR alone, where a segment was removed, it would be part of its end."""
_CHARSET = compile_path("MSH-18")


@dataclass(slots=True, eq=False)
class _Line:
    name: str
    number: int
    """Place in the message, or -1 for a new segment."""
    fields: list[bytes] | None
    """Split at the field separator once it was asked for."""


class Editor:
    """Collects edits to one message; :meth:`encode` returns the result.

    A path without an occurrence means the first segment of that name; a path that stops at a field without choosing
    a repetition means the whole field, with all its repetitions; one that goes on to a component means the first
    repetition. ``[*]`` and ``(*)`` mean each. Groups are those of the message as it came: a segment that was added is
    in none. Every method raises CodecError naming the path.
    """

    def __init__(self, message: Hl7Message) -> None:
        self._edited = False
        self._take(message)

    def _take(self, message: Hl7Message) -> None:
        self._message = message
        self._marks = message.delimiters
        self._lines = [_Line(name, number, None) for number, name in enumerate(message.names)]
        self._named: dict[str, list[_Line]] = {}

    def set(self, path: str, text: str) -> None:
        """Put ``text`` at ``path``, escaped; a segment that is too short gets the delimiters needed.

        Setting MSH-18 re-encodes the whole message. Raises CodecError if the segment is absent, a condition matches
        nothing, or the message's character set lacks a character of the text.
        """
        place = compile_path(path)
        try:
            value = self._marks.escape_value(text)
        except CodecError as error:
            raise CodecError(error.what, at=path, fix=error.fix) from None
        self._put(place, self._encoded(value, path))
        if place.segment == "MSH" and place.field == 18:
            self._recode(codec_for(self._value(_CHARSET).decode(self._message.codec)))

    def set_er7(self, path: str, er7: str) -> None:
        """Put a value that is already ER7, in the message's own delimiters, at ``path``."""
        place = compile_path(path)
        self._put_raw(place, self._encoded(er7, path))

    def set_null(self, path: str) -> None:
        """Put HL7's null (``""``: delete the value you have) at ``path``."""
        self._put(compile_path(path), NULL.encode())

    def copy(self, source: str, target: str) -> None:
        """Put the value at ``source``, as its bytes are, at ``target``; nothing happens when it is empty."""
        value = self._value(compile_path(source))
        if value:
            self._put_raw(compile_path(target), value)

    def delete(self, path: str) -> None:
        """Empty the value at ``path``; take the repetition out if the path ends at one. Absent: nothing to do."""
        place = compile_path(path)
        for line in self._matching(place):
            fields = self._open(line)
            if place.index < len(fields):
                fields[place.index] = self._without(fields[place.index], place)

    def remove_segment(self, name: str, occurrence: int = EVERY) -> None:
        """Take out the segments called ``name``: every one, or the one numbered from 1."""
        if name == "MSH":
            raise CodecError("a message cannot be without MSH", at=name, fix="remove another segment")
        doomed = [line for line in self._lines if line.name == name]
        if occurrence:
            doomed = doomed[occurrence - 1 : occurrence]
        self._edited = self._edited or bool(doomed)
        gone = set(doomed)
        self._lines = [line for line in self._lines if line not in gone]
        self._named = {}

    def add_segment(self, name: str, after: str = "") -> None:
        """Add an empty segment after the last one called ``after``, or at the end."""
        if len(name) != 3 or not name.isascii() or not name.isalnum() or not name[0].isalpha() or name.upper() != name:
            raise CodecError("not a segment name", at=name, fix="write three capitals or digits, for example ZDS")
        at = len(self._lines)
        if after:
            at = max((place + 1 for place, line in enumerate(self._lines) if line.name == after), default=0)
            if not at:
                raise CodecError("no such segment in the message", at=after, fix="name a segment that is there")
        self._edited = True
        self._lines.insert(at, _Line(name, -1, [name.encode()]))
        self._named = {}

    def encode(self) -> bytes:
        """The message with its edits; the original bytes themselves when there were none."""
        return self._as_charset(self._joined()) if self._edited else self._message.raw

    # parts

    def _encoded(self, text: str, path: str) -> bytes:
        message = self._message
        try:
            text.encode(message.charset)
            return text.encode(message.codec)
        except UnicodeEncodeError as error:
            what = f"the message's character set {message.charset} has no character U+{ord(text[error.start]):04X}"
            raise CodecError(what, at=path, fix="change the text, or set MSH-18 to UNICODE UTF-8 first") from None

    def _as_charset(self, data: bytes) -> bytes:
        message = self._message
        if message.codec == message.charset:
            return data
        if written(message.body.decode(message.codec), message.charset) != message.raw:
            what = f"this {message.charset} text cannot be written back byte for byte"
            raise CodecError(what, at="MSH-18", fix="set MSH-18 to UNICODE UTF-8 as well")
        return written(data.decode(message.codec), message.charset)

    def _joined(self) -> bytes:
        message = self._message
        original, separator = message.body, self._marks.field
        body = memoryview(original)
        pieces: list[bytes | memoryview] = [body[: message.span(0)[0]]]
        pending: bytes | memoryview = b""
        for line in self._lines:
            if line.number < 0:
                pieces += (message.terminator, separator.join(line.fields or ()))
                continue
            start, end, following = message.span(line.number)
            if original[start] == _FEED:
                pending = body[message.span(line.number - 1)[1] : start]
            pieces += (pending, body[start:end] if line.fields is None else separator.join(line.fields))
            pending = body[end:following]
        return b"".join((*pieces, pending))

    def _recode(self, charset: str) -> None:
        """Go on with the message as it stands, written in another character set."""
        message = self._message
        if not charset or charset == message.charset:
            return
        text = self._joined().decode(message.codec).removeprefix("\ufeff")
        self._take(parse(written(text, charset), charset))

    def _open(self, line: _Line) -> list[bytes]:
        self._edited = True
        if line.fields is None:
            line.fields = self._message.segment_bytes(line.number).split(self._marks.field)
        return line.fields

    def _field(self, line: _Line, index: int) -> bytes:
        if line.fields is None:
            return self._message.field(line.number, index)
        return line.fields[index] if index < len(line.fields) else b""

    def _matching(self, path: Path) -> list[_Line]:
        if path.verbatim:
            raise CodecError("the delimiters cannot be changed", at=path.text, fix="name another field")
        lines = self._lines_of(path.segment)
        if path.groups:
            inside = set(self._message.places(path))
            lines = [line for line in lines if line.number in inside]
        which = path.occurrence
        if which is None:
            return lines[:1]
        if isinstance(which, Match):
            index, matches = which.path.index, self._message.field_matches
            return [line for line in lines if matches(self._field(line, index), which)]
        return lines if which == EVERY else lines[which - 1 : which]

    def _lines_of(self, name: str) -> list[_Line]:
        """The lines of a name, found once for many edits. Not to be changed."""
        if not self._named:
            for line in self._lines:
                self._named.setdefault(line.name, []).append(line)
        return self._named.get(name, [])

    def _value(self, path: Path) -> bytes:
        """Raw bytes at a path, as they stand after the edits so far."""
        marks = self._marks
        for line in self._matching(path):
            value = self._field(line, path.index)
            if path.repetition is None and not path.component:
                return value
            for _, part in self._message.repetitions(value, path):
                if path.component:
                    part = _part(part, marks.component, path.component)
                return _part(part, marks.subcomponent, path.subcomponent) if path.subcomponent else part
        return b""

    def _put_raw(self, path: Path, value: bytes) -> None:
        marks = self._marks
        barred = [marks.field, b"\r", b"\n", b"\x0b", b"\x1c"]
        barred += [marks.repetition] if path.component or path.repetition is not None else []
        barred += [marks.component] if path.component else []
        barred += [marks.subcomponent] if path.subcomponent else []
        if any(mark in value for mark in barred):
            raise CodecError("the value has parts that do not fit here", at=path.text, fix="name a field to put it in")
        self._put(path, value)

    def _put(self, path: Path, value: bytes) -> None:
        if value and path.subcomponent > 1 and self._marks.subcomponent == b"\r":
            fix = "have the sender declare a subcomponent delimiter in MSH-2"
            raise CodecError("the message has no delimiter for subcomponents", at=path.text, fix=fix)
        lines = self._matching(path)
        if not lines:
            what = "the condition matches no segment" if isinstance(path.occurrence, Match) else "no such segment"
            raise CodecError(what, at=path.text, fix=f"add the segment {path.segment} first", kind="required")
        for line in lines:
            fields = self._open(line)
            old = fields[path.index] if path.index < len(fields) else b""
            _store(fields, path.index, self._in_field(old, path, value))

    def _in_field(self, field: bytes, path: Path, value: bytes) -> bytes:
        if path.repetition is None and not path.component:
            return value
        repetitions = field.split(self._marks.repetition)
        for at in self._chosen(field, path):
            old = repetitions[at] if at < len(repetitions) else b""
            _store(repetitions, at, self._in_repetition(old, path, value))
        return self._marks.repetition.join(repetitions)

    def _chosen(self, field: bytes, path: Path) -> list[int]:
        if path.repetition is None:
            return [0]
        if isinstance(path.repetition, int) and path.repetition != EVERY:
            return [path.repetition - 1]
        chosen = [at for at, _ in self._message.repetitions(field, path)]
        if not chosen:
            fix = "choose a repetition by its number, or a condition that holds"
            raise CodecError("the condition matches no repetition", at=path.text, fix=fix, kind="required")
        return chosen

    def _in_repetition(self, repetition: bytes, path: Path, value: bytes) -> bytes:
        if not path.component:
            return value
        components = repetition.split(self._marks.component)
        if path.subcomponent:
            parts = _part(repetition, self._marks.component, path.component).split(self._marks.subcomponent)
            _store(parts, path.subcomponent - 1, value)
            value = self._marks.subcomponent.join(parts)
        _store(components, path.component - 1, value)
        return self._marks.component.join(components)

    def _without(self, field: bytes, path: Path) -> bytes:
        if path.repetition is None and not path.component:
            return b""
        repetitions = field.split(self._marks.repetition)
        chosen = {0} if path.repetition is None else {at for at, _ in self._message.repetitions(field, path)}
        if path.component:
            repetitions = [
                self._in_repetition(part, path, b"") if at in chosen else part for at, part in enumerate(repetitions)
            ]
        else:
            repetitions = [part for at, part in enumerate(repetitions) if at not in chosen]
        return self._marks.repetition.join(repetitions)


def written(text: str, charset: str) -> bytes:
    """A whole message in a character set, from which it is read again as it was."""
    fix = "choose a larger one, for example UNICODE UTF-8"
    try:
        data = text.encode(charset)
        same = charset not in OPAQUE or data.decode(charset) == text
    except UnicodeEncodeError as error:
        what = f"the character set {charset} has no character U+{ord(text[error.start]):04X} of the message"
        raise CodecError(what, at="MSH-18", fix=fix) from None
    except UnicodeDecodeError:
        same = False
    if not same:
        what = f"the message holds control characters that mean something else in {charset}"
        raise CodecError(what, at="MSH-18", fix=fix)
    return data


def _store(parts: list[bytes], at: int, value: bytes) -> None:
    """Put ``value`` at a place from 0, lengthening the list unless there is nothing to put there."""
    if at < len(parts):
        parts[at] = value
    elif value:
        parts.extend([b""] * (at - len(parts)))
        parts.append(value)


def _part(value: bytes, separator: bytes, number: int) -> bytes:
    parts = value.split(separator)
    return parts[number - 1] if number <= len(parts) else b""
