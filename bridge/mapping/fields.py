"""One repetition of an HL7 field with its components, for functions that need more than one text of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.codecs.er7 import Delimiters, delimiters
from bridge.codecs.hl7v2 import NULL, Hl7Message
from bridge.codecs.paths import EVERY, Choice, Match, Path

_USUAL = delimiters(b"|^~\\&")
_NOTHING = "\r"
"""What no text of a field has in it."""


class Field:
    """One repetition of a field, or one component of it, whose subcomponents then stand as components.

    Numbers count from 1; what is not there is an empty text, and so is HL7's null.
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    @classmethod
    def read(cls, text: str) -> Field:
        """From text with the usual delimiters."""
        return take_apart(text, _USUAL, lambda raw: _USUAL.unescape(raw, "utf-8"))

    def text(self, component: int, subcomponent: int = 1) -> str:
        """The text of a component's subcomponent, without spaces around it."""
        texts = self._texts
        if subcomponent > 1 or component > len(texts):
            return ""
        found = texts[component - 1].strip()
        return "" if found == NULL else found

    def run(self, start: int, count: int) -> list[str]:
        """The texts (first subcomponents) of ``count`` components from ``start`` on."""
        found = ["" if text == NULL else text.strip() for text in self._texts[start - 1 : start - 1 + count]]
        return found if len(found) == count else found + [""] * (count - len(found))

    def nested(self, component: int) -> bool:
        """Whether a component has subcomponents."""
        return False

    def component(self, component: int) -> Field:
        """A component as a field of its own: its subcomponents stand as components."""
        return Field([self.text(component)])


class _Nested(Field):
    """One that has subcomponents or escape sequences: its components are raw, and taken apart when asked for."""

    __slots__ = ("_inner", "_unescape")

    def __init__(self, texts: list[str], inner: str, unescape: Callable[[str], str]) -> None:
        super().__init__(texts)
        self._inner, self._unescape = inner, unescape

    def text(self, component: int, subcomponent: int = 1) -> str:
        parts = self._texts[component - 1].split(self._inner) if component <= len(self._texts) else []
        found = self._unescape(parts[subcomponent - 1]).strip() if subcomponent <= len(parts) else ""
        return "" if found == NULL else found

    def run(self, start: int, count: int) -> list[str]:
        return [self.text(number) for number in range(start, start + count)]

    def nested(self, component: int) -> bool:
        return component <= len(self._texts) and self._inner in self._texts[component - 1]

    def component(self, component: int) -> Field:
        part = self._texts[component - 1] if component <= len(self._texts) else ""
        return _Nested(part.split(self._inner), _NOTHING, self._unescape)


def take_apart(text: str, marks: Delimiters, unescape: Callable[[str], str]) -> Field:
    """One repetition as it stands in a message."""
    texts = text.split(marks.component_text)
    if marks.subcomponent_text in text or marks.escape_text in text:
        return _Nested(texts, marks.subcomponent_text, unescape)
    return Field(texts)


def read_fields(message: Hl7Message, numbers: Sequence[int], path: Path) -> list[Field]:
    """The repetitions that hold something of a field (or of a component of it) in the segments the path chooses."""
    marks = message.delimiters
    found: list[Field] = []
    for number in chosen(message, numbers, path.occurrence):
        text = message.field_text(number, path.index)
        if not text:
            continue
        if path.repetition is None:
            repetitions = text.split(marks.repetition_text)
        else:
            chosen_ones = message.repetitions(message.field(number, path.index), path)
            repetitions = [part.decode(message.codec) for _, part in chosen_ones]
        fields = [take_apart(repetition, marks, message.unescape) for repetition in repetitions if repetition]
        found += [field.component(path.component) for field in fields] if path.component else fields
    return found


def chosen(message: Hl7Message, numbers: Sequence[int], which: Choice) -> Sequence[int]:
    """Of the segments called ``numbers``, those that a path's occurrence means; all when it does not say."""
    if which is None or which == EVERY:
        return numbers
    if isinstance(which, Match):
        index = which.path.index
        return [number for number in numbers if message.holds(message.field_text(number, index), which)]
    return numbers[which - 1 : which]
