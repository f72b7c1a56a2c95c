"""A compiling that watches: where each value came from, and which parts of the mappings were of use.

Given to :func:`bridge.mapping.compile_all`, a :class:`Watch` is woven into the closures that are made; without one they
are made without it, so that watching costs nothing where nobody watches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bridge.errors import MappingError
from bridge.mapping.place import Place
from bridge.mapping.scope import Scope

if TYPE_CHECKING:
    from bridge.mapping.calls import Input
    from bridge.mapping.refs import Ref
    from bridge.mapping.sources import Source
    from bridge.mapping.tables import Row, Table

C = TypeVar("C", bound=Callable[..., Any])
F = TypeVar("F")
Kind = Literal["line", "alternative", "row", "when", "rule"]
EMPTY: tuple[Any, ...] = ("", None, [], {}, ())
_HOLDS = "holds"
"""A condition that held for one of the slices that a line looks through: it was not for it that there is no value."""
_SEPARATOR = re.compile(r"\s*\|\s*")


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A part of a mapping, profile or table that a message may reach: a line, one of its alternatives, a row, a branch,
    a rule."""

    file: str
    line: int
    kind: Kind
    what: str


@dataclass(slots=True)
class Tried:
    """One alternative of ``from``, in the sequence in which they are tried."""

    source: str
    value: Any
    taken: bool


@dataclass(slots=True)
class TracedRow:
    """A row that gave a value, or (line 0) the table that has none for the key."""

    table: str
    line: int


@dataclass(slots=True)
class Traced:
    """One value on its way: what it is for, what it is, and how it came about."""

    target: str
    file: str
    line: int
    number: str
    """Which order, step or resource, from the outside in: ``2.1``; empty outside of any."""
    value: Any = ""
    tried: list[Tried] = field(default_factory=list)
    function: str = ""
    rows: list[TracedRow] = field(default_factory=list)
    rule: str = ""
    """``constant``, ``default``, or ``when`` where its condition does not hold."""
    refused: str = ""


class Watch:
    """What one compiling is told, and what its mappings do afterwards. For one thread."""

    def __init__(self) -> None:
        self.known: dict[Spot, set[str]] = {}
        """Every part that there is, in the sequence of compiling, and the files that have it: what is taken over from
        another mapping is written there."""
        self.reached: set[Spot] = set()
        self.ran: set[str] = set()
        """Files of mappings and profiles that were used."""
        self.values: list[Traced] = []
        """What was read since the last :meth:`clear`, each value after those that it is made of."""
        self.keys: dict[str, int] = {}
        """Name of each table that is used, and how many of its columns are keys."""
        self._open: list[Traced] = []
        self._silent = False

    def clear(self) -> None:
        """Forget the values; what was reached stays."""
        self.values = []

    # hooks, called while compiling

    def line(self, source: Source, inputs: Sequence[Input], data: dict[str, Any], place: Place, label: str) -> None:
        """A source line: watch what it reads."""
        target = _target(place, label)
        plain = source.read
        choices = [_choices(one, place, data, at) for at, one in enumerate(inputs)]
        spots = [[self._know("alternative", here, text) for text, here in some] for some in choices if len(some) > 1]
        spot = self._know("line", place, target)
        by_text = {one.what: one for some in spots for one in some}

        def read(scope: Scope) -> Any:
            with self._value(target, place, scope, spot) as traced:
                traced.function = str(data.get("as", ""))
                try:
                    traced.value = plain(scope)
                finally:
                    for one, some in zip(inputs, choices, strict=True) if traced.rule != "when" else ():
                        traced.tried += self._try(one, [text for text, _ in some], scope)
                    taken = [one for one in traced.tried if one.taken]
                    self.reached |= {by_text[one.source] for one in taken if one.source in by_text}
                    if traced.rule != "when":
                        traced.rule = _rule(data, traced, bool(taken))
            return traced.value

        source.read = read

    def act(self, place: Place, target: str, word: str, call: C, look: Callable[..., tuple[Scope, Any]]) -> C:
        """Anything else that makes a part of the result. ``look`` gets what was returned and the arguments, and gives
        the scope, and the texts made so far or the value itself (None before there is any)."""
        spot = self._know("line", place, target)

        def watched(*arguments: Any) -> Any:
            scope, before = look(None, *arguments)
            with self._value(target, place, scope, spot) as traced:
                traced.function = word
                made = call(*arguments)
                _, after = look(made, *arguments)
                traced.value = list((Counter(after) - Counter(before)).elements()) if before is not None else after
            return made

        return watched  # type: ignore[return-value]

    def rule(self, test: Callable[[Scope], Iterator[F]], place: Place, what: str) -> Callable[[Scope], Iterator[F]]:
        """A rule of a profile: reached when a message breaks it."""
        spot = self._know("rule", place, what)

        def watched(scope: Scope) -> Iterator[F]:
            self.ran.add(place.file.name)
            for fault in test(scope):
                self.reached.add(spot)
                yield fault

        return watched

    def lookups(self, table: Table, keys: int) -> Callable[[Sequence[str]], Row | None]:
        """What finds a table's rows for one line."""
        self.keys[table.name] = max(keys, self.keys.get(table.name, 0))
        rows = {cells: self._know_row(table, line, cells) for line, cells in reversed(table.rows)}

        def find(key: Sequence[str]) -> Row | None:
            row = table.find(key)
            spot = rows[tuple(row.values())] if row is not None else None
            if spot is not None:
                self.reached.add(spot)
            if self._open:
                self._open[-1].rows.append(TracedRow(table.file, spot.line if spot else 0))
            return row

        return find

    def condition(self, check: Callable[[Scope], bool], place: Place) -> Callable[[Scope], bool]:
        """A ``when:``, of a line or of all that stands beside it."""
        holds, fails = self._know("when", place, "holds"), self._know("when", place, "does not hold")

        def watched(scope: Scope) -> bool:
            held = check(scope)
            self.reached.add(holds if held else fails)
            if self._silent:
                return held
            if self._open and (held or self._open[-1].rule != _HOLDS):
                self._open[-1].rule = _HOLDS if held else "when"
            elif not self._open:
                self.values.append(Traced("when", *_at(place), _number(scope), held))
            return held

        return watched

    # while mappings run

    @contextmanager
    def _value(self, target: str, place: Place, scope: Scope, spot: Spot) -> Iterator[Traced]:
        traced = Traced(target, *_at(place), _number(scope))
        self.ran.add(place.file.name)
        self._open.append(traced)
        try:
            yield traced
        except MappingError as error:
            traced.refused = str(error)
            self.reached.add(spot)
            raise
        finally:
            self._open.pop()
            traced.rule = "" if traced.rule == _HOLDS else traced.rule
            if not self._silent:
                self.values.append(traced)
        if traced.value not in EMPTY or any(row.line for row in traced.rows):
            self.reached.add(spot)

    def _try(self, one: Input, texts: list[str], scope: Scope) -> Iterator[Tried]:
        """The alternatives up to the one that is taken, as :class:`bridge.mapping.calls.Input` goes through them."""
        before, self._silent = self._silent, True
        try:
            for text, ref in zip(texts, one.refs, strict=True):
                found = _held(ref, scope)
                fits = found not in EMPTY and (one.fits is None or one.fits(str(found)))
                yield Tried(text, found, fits)
                if fits:
                    return
        except MappingError:
            return
        finally:
            self._silent = before

    def _know(self, kind: Kind, place: Place, what: str) -> Spot:
        spot = Spot(*_at(place), kind, what)
        self.known.setdefault(spot, set()).add(place.file.name)
        return spot

    def _know_row(self, table: Table, line: int, cells: Sequence[str]) -> Spot:
        spot = Spot(table.file, line, "row", ",".join(cells))
        self.known[spot] = {table.file}
        return spot


def _at(place: Place) -> tuple[str, int]:
    found = place.finding("")
    return found.file, found.line


def _target(place: Place, label: str) -> str:
    """What a line makes, as people call it."""
    path = [str(key) for key in place.path]
    if path[-2:-1] == ["let"]:
        return f"${path[-1]}"
    if path[-2:-1] in (["identify"], ["identifiers"]):
        return ".".join(path[-2:])
    return path[-1] if path[-1].endswith(f".{label}") else label


def _choices(one: Input, place: Place, data: dict[str, Any], at: int) -> list[tuple[str, Place]]:
    """The alternatives as the line writes them, each with its place."""
    given, here = data["from"], place.child("from")
    if isinstance(given, list):
        given, here = given[at], here.child(at)
    texts = _SEPARATOR.split(str(given).strip())
    return [(text, here) for text in texts] if len(texts) == len(one.refs) else [("", here)] * len(one.refs)


def _held(ref: Ref, scope: Scope) -> Any:
    found = ref.value(scope)
    if found in EMPTY:
        texts = ref.texts(scope)
        return texts if any(texts) else ""
    return found


def _rule(data: dict[str, Any], traced: Traced, taken: bool) -> str:
    if "value" in data:
        return "constant"
    if "default" not in data or traced.value != data["default"] or traced.value in EMPTY:
        return ""
    return "" if taken and not data.get("table") else "default"


def _number(scope: Scope) -> str:
    numbers = []
    inner: Scope | None = scope
    while inner is not None and inner.level:
        numbers.append(str(inner.index))
        inner = inner.outer
    return ".".join(reversed(numbers))
