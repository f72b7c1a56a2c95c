"""Reading from a message, or from one order of it, by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from bridge.codecs import groups
from bridge.codecs.er7 import NULL
from bridge.codecs.paths import EVERY, Match, Path, compile_path

if TYPE_CHECKING:
    from bridge.codecs.hl7v2 import Hl7Message


class Numbers(dict[str, Sequence[int]]):
    """Where the segments of each name stand; nowhere for a name that is absent."""

    __slots__ = ()

    def __missing__(self, name: str) -> Sequence[int]:
        return ()


class View:
    """Some of a message's segments, in an order of its own: the whole message, one order of it, or one segment."""

    __slots__ = ("_index", "_numbers", "_tree", "message")

    def __init__(self, message: Hl7Message, numbers: Sequence[int]) -> None:
        self.message = message
        self._numbers = numbers
        self._tree: groups.Node | None = None
        index: dict[str, list[int]] = {}
        for number in numbers:
            index.setdefault(message.names[number], []).append(number)
        self._index = Numbers(index)

    def get(self, path: str) -> str:
        """Text of the first value that ``path`` names, decoded and unescaped; empty when it is absent or empty.

        Without a choice in the path: the first occurrence and the first repetition. NULL (``""``) is returned as it
        is. A value that has parts below the path comes whole, with its delimiters; use :meth:`parts` to take it apart.
        """
        compiled = compile_path(path)
        message = self.message
        if compiled.plain:
            numbers = self._index[compiled.segment]
            return message.part(message.field_text(numbers[0], compiled.index), compiled) if numbers else ""
        for value in self._values(compiled):
            return message.text(value, compiled)
        return ""

    def all(self, path: str) -> list[str]:
        """Text at ``path`` for every repetition of every occurrence, unless the path chooses; empty values included,
        so that two lists over the same segments run in step."""
        compiled = compile_path(path)
        return [self.message.text(value, compiled) for value in self._values(compiled, every=True)]

    def parts(self, path: str) -> list[list[str]]:
        """The first value at ``path`` taken apart: components, each a list of its subcomponents, unescaped."""
        compiled = compile_path(path)
        for value in self._values(compiled):
            return self.message.split_value(value, compiled)
        return []

    def all_parts(self, path: str) -> list[list[list[str]]]:
        """As :meth:`parts`, for every repetition of every occurrence, unless the path chooses."""
        compiled = compile_path(path)
        return [self.message.split_value(value, compiled) for value in self._values(compiled, every=True)]

    def bytes_at(self, path: str) -> bytes:
        """The bytes that :meth:`get` reads, as sent; of a field all repetitions, unless the path chooses one."""
        compiled = compile_path(path)
        message, marks = self.message, self.message.delimiters
        for number in self.occurrences(compiled):
            value = message.field(number, compiled.index)
            if compiled.verbatim or (compiled.repetition is None and not compiled.component):
                return value
            for _, repetition in message.repetitions(value, compiled):
                component = _part(repetition, marks.component, compiled.component)
                return _part(component, marks.subcomponent, compiled.subcomponent)
        return b""

    @property
    def own(self) -> Sequence[int]:
        """Where its segments stand in the message; of a slice only its own, without those before it."""
        return self._numbers

    def segments(self, name: str = "") -> list[Segment]:
        """The segments called ``name``, or all, in this view's order."""
        numbers = self._index[name] if name else self._all()
        return [Segment(self.message, number) for number in numbers]

    def numbers(self, name: str) -> Sequence[int]:
        """Where the segments called ``name`` stand in the message, in this view's order."""
        return self._index[name]

    def places(self, path: Path) -> Sequence[int]:
        """The numbers of a path's segments, in its groups if it names any, before it chooses among them."""
        if not path.groups:
            return self._index[path.segment]
        names = self.message.names
        return [number for number in self._in_groups(path.groups) if names[number] == path.segment]

    def occurrences(self, path: Path, every: bool = False) -> Sequence[int]:
        """The numbers of the segments that a path means; all of them, with ``every``, when it does not choose."""
        numbers = self.places(path)
        which = path.occurrence
        if which is None:
            return numbers if every else numbers[:1]
        if isinstance(which, Match):
            message, index = self.message, which.path.index
            return [number for number in numbers if message.holds(message.field_text(number, index), which)]
        return numbers if which == EVERY else numbers[which - 1 : which]

    def split(self, anchor: str) -> list[View]:
        """One view for each slice that starts at a segment called ``anchor``; none when there is no such segment.

        A view sees its slice first, then the segments before the first slice (patient and visit), then what the view
        it was split from saw beyond its own slice. A slice for ``OBR`` starts at the ORC that goes before that OBR.
        """
        own = self._numbers
        names = self.message.names
        starts: list[int] = []
        head = -1
        for place, number in enumerate(own):
            if anchor == "OBR" and names[number] == "ORC":
                head = place
            elif names[number] == anchor:
                starts.append(head if head >= 0 else place)
                head = -1
        if not starts:
            return []
        before = self._before(own[: starts[0]])
        ends = [*starts[1:], len(own)]
        return [_Slice(self.message, own[a:b], before) for a, b in zip(starts, ends, strict=True)]

    def _all(self) -> Sequence[int]:
        return self._numbers

    def _before(self, head: Sequence[int]) -> View:
        """What every slice sees after its own: the segments before the first slice."""
        return View(self.message, head)

    def _in_groups(self, wanted: Sequence[tuple[str, int]]) -> list[int]:
        if self._tree is None:
            structure = groups.structure_of(*self.message.kind)
            if structure is None:
                return []
            self._tree = groups.tree(structure, self.message.names, sorted(self._all()))
        return groups.chosen(self._tree, wanted)

    def _values(self, path: Path, every: bool = False) -> Iterator[bytes]:
        """The raw repetitions that a path names (or would, with ``every``, when it does not choose)."""
        message = self.message
        for number in self.occurrences(path, every):
            value = message.field(number, path.index)
            if path.verbatim:
                yield value
            elif path.repetition is None and not every:
                yield value.split(message.delimiters.repetition, 1)[0]
            else:
                yield from (part for _, part in message.repetitions(value, path))


def _part(value: bytes, separator: bytes, number: int) -> bytes:
    """Part ``number`` from 1, all of it for 0."""
    return b"".join(value.split(separator)[number - 1 : number]) if number else value


def reader(path: Path) -> Callable[[View], str]:
    """:meth:`View.get` for a path that is read again and again, without spaces around the text; NULL is nothing."""
    which = path.occurrence
    if path.plain:
        return first_of([path])
    if not isinstance(which, Match) or path.repetition is not None or path.groups:
        return lambda view: _text(view.get(path.text))
    segment, index, place = path.segment, path.index, which.path.index

    def read(view: View) -> str:
        for number in view._index[segment]:
            message = view.message
            if message.holds(message.field_text(number, place), which):
                return _text(message.part(message.field_text(number, index), path))
        return ""

    return read


def first_of(paths: Sequence[Path]) -> Callable[[View], str]:
    """What a :func:`reader` gives for the first of several paths that holds something."""
    if not all(path.plain for path in paths):
        readers = [reader(path) for path in paths]
        return lambda view: next((found for read in readers if (found := read(view))), "")

    def read(view: View) -> str:
        index = view._index
        for path in paths:
            numbers = index[path.segment]
            if numbers:
                message = view.message
                value = message.field_text(numbers[0], path.index)
                if value and (found := _text(message.part(value, path))):
                    return found
        return ""

    return read


def _text(value: str) -> str:
    return "" if value == NULL else value.strip()


class _Chain(Numbers):
    """The same for a slice: its own segments, then those before it, which all slices share. Found when asked for."""

    __slots__ = ("_own", "_rest")

    def __init__(self, own: Numbers, rest: Numbers) -> None:
        super().__init__()
        self._own, self._rest = own, rest

    def __missing__(self, name: str) -> Sequence[int]:
        own, rest = self._own[name], self._rest[name]
        self[name] = found = [*own, *rest] if own and rest else own or rest
        return found


class _Slice(View):
    """A view from :meth:`View.split`: its own segments, then those before. A message of n segments may be split into
    n slices, so none of them copies what it shares with the others."""

    __slots__ = ("_rest",)

    def __init__(self, message: Hl7Message, own: Sequence[int], rest: View) -> None:
        super().__init__(message, own)
        self._rest = rest
        self._index = _Chain(self._index, rest._index)

    def _all(self) -> Sequence[int]:
        return [*self._numbers, *self._rest._all()]

    def _before(self, head: Sequence[int]) -> View:
        return _Slice(self.message, head, self._rest) if head else self._rest


class Segment(View):
    """One segment; ``get("OBX-5")`` and the like read from it alone."""

    __slots__ = ("name", "number")

    def __init__(self, message: Hl7Message, number: int) -> None:
        self.name = message.names[number]
        self.number = number
        super().__init__(message, (number,))

    @property
    def raw(self) -> bytes:
        """The segment's bytes without its terminator."""
        return self.message.segment_bytes(self.number)
