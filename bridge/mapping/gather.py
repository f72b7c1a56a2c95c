"""Source lines that look through the slices of their view: ``each: OBX`` with ``when:`` for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge.codecs.paths import Path
from bridge.mapping.conditions import Check
from bridge.mapping.fields import Field
from bridge.mapping.refs import Ref
from bridge.mapping.scope import Scope


@dataclass(frozen=True, slots=True)
class EachRef:
    """A place in every slice of the view that begins with the segment ``anchor`` and meets ``check``."""

    anchor: str
    check: Check | None
    ref: Ref

    def _scopes(self, scope: Scope) -> Iterator[Scope]:
        for number, view in enumerate(scope.split(scope.view, self.anchor), start=1):
            inner = scope.inner(view, number)
            if self.check is None or self.check(inner):
                yield inner

    def value(self, scope: Scope) -> Any:
        """What the first slice that has something has there."""
        found = (self.ref.value(inner) for inner in self._scopes(scope))
        return next((one for one in found if one not in ("", None, [], {})), "")

    def texts(self, scope: Scope) -> list[str]:
        """The texts of all slices; an empty one for a slice that has nothing there."""
        return [text for inner in self._scopes(scope) for text in self.ref.texts(inner) or [""]]

    def fields(self, scope: Scope) -> list[Field]:
        """The field's repetitions in all slices, taken apart."""
        return [one for inner in self._scopes(scope) for one in self.ref.fields(inner)]

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        return [found for inner in self._scopes(scope) for found in self.ref.paths(inner)] or self.ref.paths(scope)
