"""One repetition of an HL7 field with its components, for functions that need more than one text of it."""

from __future__ import annotations

from collections.abc import Callable

from bridge.codecs.er7 import delimiters
from bridge.codecs.hl7v2 import NULL, Hl7Message
from bridge.codecs.paths import EVERY, Choice, Match, Path

_NONE: list[bytes] = []
_TEXT = {bytes([code]): chr(code) for code in range(128)}
_USUAL = delimiters(b"|^~\\&")


class Field:
    """One repetition of a field, or one component of it, whose subcomponents then stand as components.

    Numbers count from 1; what is not there is an empty text, and so is HL7's null.
    """

    __slots__ = ("_decode", "_escape", "_inner", "_parts", "_texts")

    def __init__(self, raw: bytes, outer: bytes, inner: bytes, escape: bytes, decode: Callable[[bytes], str]) -> None:
        self._inner, self._escape, self._decode = inner, escape, decode
        if inner in raw or escape in raw:
            self._parts, self._texts = raw.split(outer), None
        else:
            self._parts, self._texts = _NONE, decode(raw).split(_TEXT[outer])

    @classmethod
    def read(cls, text: str) -> Field:
        """From text with the usual delimiters."""
        return cls(text.encode(), _USUAL.component, _USUAL.subcomponent, _USUAL.escape, lambda raw: raw.decode())

    def text(self, component: int, subcomponent: int = 1) -> str:
        """The text of a component's subcomponent, without spaces around it."""
        texts = self._texts
        if texts is not None:
            if subcomponent > 1 or component > len(texts):
                return ""
            found = texts[component - 1].strip()
        else:
            found = self._decode(self._part(component, subcomponent)).strip()
        return "" if found == NULL else found

    def run(self, start: int, count: int) -> list[str]:
        """The texts (first subcomponents) of ``count`` components from ``start`` on."""
        if self._texts is None:
            return [self.text(number) for number in range(start, start + count)]
        found = ["" if text == NULL else text.strip() for text in self._texts[start - 1 : start - 1 + count]]
        return found if len(found) == count else found + [""] * (count - len(found))

    def _part(self, component: int, subcomponent: int) -> bytes:
        parts = self._parts[component - 1].split(self._inner) if component <= len(self._parts) else []
        return parts[subcomponent - 1] if subcomponent <= len(parts) else b""

    def nested(self, component: int) -> bool:
        """Whether a component has subcomponents."""
        return component <= len(self._parts) and self._inner in self._parts[component - 1]

    def component(self, component: int) -> Field:
        """A component as a field of its own: its subcomponents stand as components."""
        if self._texts is not None:
            return Field(self.text(component).encode(), self._inner, b"\r", b"\r", lambda raw: raw.decode())
        part = self._parts[component - 1] if component <= len(self._parts) else b""
        return Field(part, self._inner, b"\r", self._escape, self._decode)


def read_fields(message: Hl7Message, numbers: list[int], path: Path) -> list[Field]:
    """The repetitions that hold something of a field (or of a component of it) in the segments the path chooses."""
    marks, decode, found = message.delimiters, message.decode, []
    for number in chosen(message, numbers, path.occurrence):
        raw = message.field(number, path.index)
        if not raw:
            continue
        if path.repetition is None:
            repetitions = raw.split(marks.repetition)
        else:
            repetitions = [part for _, part in message.repetitions(raw, path)]
        for repetition in repetitions:
            if repetition:
                field = Field(repetition, marks.component, marks.subcomponent, marks.escape, decode)
                found.append(field.component(path.component) if path.component else field)
    return found


def chosen(message: Hl7Message, numbers: list[int], which: Choice) -> list[int]:
    """Of the segments called ``numbers``, those that a path's occurrence means; all when it does not say."""
    if which is None or which == EVERY:
        return numbers
    if isinstance(which, Match):
        index = which.path.index
        return [number for number in numbers if message.field_matches(message.field(number, index), which)]
    return numbers[which - 1 : which]
