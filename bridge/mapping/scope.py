"""What a compiled source reads from: a view of the message, the context, and the values named so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from bridge.codecs.hl7v2 import Hl7Message, View
from bridge.codecs.paths import Path
from bridge.mapping.fields import Field, read_fields
from bridge.model import Unmapped


class Made(NamedTuple):
    """What a target makes of a message."""

    data: bytes
    control_id: str = ""
    """MSH-10 of the outgoing message; empty where it is the original's."""


class Read(Protocol):
    def __call__(self, scope: Scope, /) -> Any: ...


class Scope:
    """One level of reading: the message, one order of it, one step of that order...

    ``view`` is what paths look in; ``names`` keeps what ``let:`` values of this level were found to be; ``index``
    counts from 1 among the siblings; ``notes`` tells people what was decided on the way, without patient content;
    ``unmapped`` has the codes that a table has no row for.
    """

    __slots__ = (
        "_fields", "_slices", "context", "index", "level", "message", "names", "notes", "outer", "site", "unmapped",
        "view",
    )  # fmt: skip

    def __init__(self, message: Hl7Message, context: Mapping[str, Any]) -> None:
        self.message = message
        self.view: View = message
        self.context: Mapping[str, Any] = context
        self.site: Mapping[str, Any] = context.get("site") or {}
        self.outer: Scope | None = None
        self.level, self.index = 0, 1
        self.names: dict[str, Any] = {}
        self.notes: list[str] = []
        self.unmapped: list[Unmapped] = []
        self._fields: dict[str, list[Field]] = {}
        self._slices: dict[tuple[View, str], list[View]] = {}

    def inner(self, view: View, index: int = 1) -> Scope:
        """The next level down, reading from ``view``."""
        scope = Scope.__new__(Scope)
        scope.message, scope.view, scope.context, scope.site = self.message, view, self.context, self.site
        scope.outer, scope.level, scope.index, scope.names = self, self.level + 1, index, {}
        scope.notes, scope.unmapped, scope._fields, scope._slices = self.notes, self.unmapped, {}, self._slices
        return scope

    def at(self, level: int) -> Scope:
        """This scope's ancestor of ``level``, or itself."""
        scope = self
        while scope.level > level and scope.outer is not None:
            scope = scope.outer
        return scope

    def fields(self, path: Path) -> list[Field]:
        """Every repetition of the field that a path names, taken apart; found once in each scope."""
        found = self._fields.get(path.text)
        if found is None:
            found = self._fields[path.text] = read_fields(self.message, self.view.places(path), path)
        return found

    def split(self, view: View, anchor: str) -> list[View]:
        """``view.split(anchor)``, done once for all scopes of a message."""
        found = self._slices.get((view, anchor))
        if found is None:
            found = self._slices[view, anchor] = view.split(anchor)
        return found

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


Make = Callable[[Scope], Made]
"""A compiled target: raises MappingError with place and fix."""
