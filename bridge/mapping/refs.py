"""What a source line names after ``from``: a path into the message, a ``$name``, or a ``context.`` value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bridge.codecs.dicom_message import DicomView
from bridge.codecs.dicom_values import compile_value_path, is_value_path
from bridge.codecs.fhir_paths import compile_fhir_path, is_fhir_path
from bridge.codecs.fhir_view import FhirView
from bridge.codecs.hl7v2 import NULL, compile_path
from bridge.codecs.paths import Path
from bridge.codecs.views import View, reader
from bridge.errors import CodecError
from bridge.mapping.fields import Field
from bridge.mapping.place import Findings, Place
from bridge.mapping.scope import Scope
from bridge.mapping.tables import Tables
from bridge.mapping.watch import Watch
from bridge.yamlfile import suggest

if TYPE_CHECKING:
    from bridge.mapping.sources import Source as Line

_NAME = re.compile(r"\$([a-z][a-z0-9_]*)")
_CONTEXT = re.compile(r"context((?:\.[A-Za-z_][A-Za-z0-9_-]*)+)")
_SEPARATOR = re.compile(r"\s*\|\s*")
Source = Literal["hl7v2", "dicom", "fhir", ""]
INDEX = "index"
"""``$index``: the number of the current order, step or resource among its siblings, from 1."""


class Ref(Protocol):
    """One place that a value may come from."""

    def value(self, scope: Scope) -> Any:
        """What is there: text, or for ``$name`` whatever the named value is; empty when there is nothing."""
        ...

    def texts(self, scope: Scope) -> list[str]:
        """Every repetition of every occurrence."""
        ...

    def fields(self, scope: Scope) -> list[Field]:
        """The field's repetitions, taken apart; none of what is not a path."""
        ...

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        """The paths in the message that the value depends on."""
        ...


@dataclass(frozen=True, slots=True)
class PathRef:
    """A value in the message."""

    path: Path
    text: str
    get: Callable[[View], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "get", reader(self.path))

    def value(self, scope: Scope) -> str:
        return self.get(scope.view)

    def texts(self, scope: Scope) -> list[str]:
        return ["" if found == NULL else found.strip() for found in scope.view.all(self.text)]

    def fields(self, scope: Scope) -> list[Field]:
        return scope.fields(self.path)

    def er7(self, scope: Scope) -> str:
        """What is there as sent, with components and repetitions."""
        return scope.view.bytes_at(self.text).decode(scope.message.codec)

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        return [(scope, self.path)]


@dataclass(frozen=True, slots=True)
class ForeignRef:
    """A value in a message of DICOM or FHIR, whose views are of ``kind``; nothing in any other."""

    text: str
    kind: type[DicomView] | type[FhirView]

    def value(self, scope: Scope) -> str:
        return scope.view.get(self.text) if isinstance(scope.view, self.kind) else ""

    def texts(self, scope: Scope) -> list[str]:
        return scope.view.all(self.text) if isinstance(scope.view, self.kind) else []

    def fields(self, scope: Scope) -> list[Field]:
        return [Field.read(text) for text in self._repetitions(scope)]

    def er7(self, scope: Scope) -> str:
        """What is there in the form in which HL7 has it, with components and repetitions."""
        return "~".join(self._repetitions(scope))

    def _repetitions(self, scope: Scope) -> list[str]:
        return scope.view.er7(self.text, scope.site) if isinstance(scope.view, self.kind) else []

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        return [(scope, Path(self.text, re.split(r"[^A-Za-z0-9]", self.text)[0], None, 0, None, 0, 0))]


@dataclass(frozen=True, slots=True)
class NameRef:
    """A value named with ``let:``, found once in the scope that names it."""

    name: str
    level: int
    source: Line

    def value(self, scope: Scope) -> Any:
        while scope.level > self.level and scope.outer is not None:
            scope = scope.outer
        names = scope.names
        if self.name not in names:
            names[self.name] = self.source.read(scope)
        return names[self.name]

    def texts(self, scope: Scope) -> list[str]:
        found = self.value(scope)
        return [str(one) for one in found] if isinstance(found, list) else [str(found)]

    def fields(self, scope: Scope) -> list[Field]:
        return []

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        return self.source.paths(scope.at(self.level))


@dataclass(frozen=True, slots=True)
class ValueRef:
    """A value that is in the context, or the current number: not in the message."""

    read: Callable[[Scope], Any]

    def value(self, scope: Scope) -> Any:
        return self.read(scope)

    def texts(self, scope: Scope) -> list[str]:
        found = self.read(scope)
        return [str(one) for one in found] if isinstance(found, list | tuple) else [str(found)]

    def fields(self, scope: Scope) -> list[Field]:
        return []

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        return []


@dataclass(slots=True)
class Names:
    """What a line may refer to at one level of a mapping: tables, and the values named at this level and outside."""

    tables: Tables
    findings: Findings
    level: int = 0
    known: dict[str, NameRef] = field(default_factory=dict)
    source: Source = ""
    """What the messages are of; empty where any may come."""

    @property
    def watch(self) -> Watch | None:
        """Who watches this compiling."""
        return self.tables.watch

    def inner(self) -> Names:
        return Names(self.tables, self.findings, self.level + 1, dict(self.known), self.source)


def compile_ref(text: str, place: Place, names: Names) -> Ref | None:
    """One alternative; None, and a finding, if it is none."""
    if match := _NAME.fullmatch(text):
        name = match[1]
        if name == INDEX:
            return ValueRef(lambda scope: str(scope.index))
        if name not in names.known:
            fix = suggest(name, names.known) or "name it with `let:` before it is used"
            names.findings.report(place, f"no value is named `${name}` here", fix)
            return None
        return names.known[name]
    if match := _CONTEXT.fullmatch(text):
        return ValueRef(_context_reader(match[1][1:].split(".")))
    try:
        if names.source == "fhir" or (not names.source and is_fhir_path(text)):
            compile_fhir_path(text)
            return ForeignRef(text, FhirView)
        if names.source == "dicom" or (not names.source and is_value_path(text)):
            compile_value_path(text)
            return ForeignRef(text, DicomView)
        path = compile_path(text)
    except CodecError as error:
        names.findings.report(place, f"`{text}`: {error.what}", error.fix + ", or a $name")
        return None
    return PathRef(path, text)


def compile_refs(text: Any, place: Place, names: Names) -> list[Ref]:
    """Alternatives written ``A-1 | B-2 | $name``, in the sequence in which they are tried."""
    if not isinstance(text, str) or not text.strip():
        names.findings.report(place, "a source is written as text", "for example `IPC-1.1 | OBR-18.1`")
        return []
    found = [compile_ref(part, place, names) for part in _SEPARATOR.split(text.strip())]
    return [ref for ref in found if ref is not None]


def _context_reader(keys: list[str]) -> Callable[[Scope], Any]:
    def read(scope: Scope) -> Any:
        value: Any = scope.context
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return "" if value is None else value

    return read


def where(found: list[tuple[Scope, Path]], *, missing: bool = False) -> str:
    """The place to name in an error: the first path that holds a value (unless that is ``missing``), else the first
    whose segment is there."""
    present = [one for one in found if one[0].view.places(one[1])]
    held = (one for one in present if not missing and one[0].view.get(one[1].text).strip() not in ("", NULL))
    holding = next(held, None)
    chosen = holding or next(iter(present), None) or next(iter(found), None)
    if chosen is None:
        return ""
    scope, path = chosen
    mine = scope.view.occurrences(path)
    several = len(scope.message.numbers(path.segment)) > 1
    if mine and (path.groups or (path.occurrence is None and several)):
        return path.at(scope.message.ordinal(mine[0]))
    return path.text
