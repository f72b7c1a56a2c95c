"""Paths into FHIR resources: ``Patient.birthDate``, ``ServiceRequest.subject -> Patient.identifier[type=PI].value``.

A path begins with a type of resource and goes down by element. In brackets: which one, by number from 0 as in
FHIRPath, or by the value of something in it. ``-> Patient`` follows a reference, ``<- Appointment[basedOn]`` goes to
what refers here in that element (``<- Bundle[entry]``: to the entry that it is in). An element of several types goes by
its common name (``Observation.value``) or by each one's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from bridge.codecs.dicom import entry
from bridge.codecs.fhir_models import RESOURCES, choices, elements, is_time, model
from bridge.errors import CodecError
from bridge.yamlfile import suggest

PATTERN = re.compile(
    r"[A-Z][A-Za-z]+(?:\[[^\[\]|]+\])*(?:(?:\.[a-z]|\s*->\s*[A-Z]|\s*<-\s*[A-Z])[A-Za-z0-9]*(?:\[[^\[\]|]+\])*)*"
)
_STEP = re.compile(r"(\.|\s*->\s*|\s*<-\s*)?([A-Za-z0-9]+)((?:\[[^\[\]]+\])*)")
_FILTER = re.compile(r"\[([^\[\]]+)\]")
_WHERE = re.compile(r"([a-z][A-Za-z0-9]*(?:\.[a-z][A-Za-z0-9]*)*)(!?=)(.*)")
_FIX = "write a path as Patient.birthDate, Patient.name[use=official].family or ServiceRequest.subject -> Patient.name"
_PEOPLE = frozenset({"Account", "Encounter", "EpisodeOfCare", "Location", "Organization", "Patient", "Person",
                     "Practitioner", "PractitionerRole", "RelatedPerson"})  # fmt: skip
"""Resources whose identifiers are CX in HL7; those of all others are EI."""
_NOT_PEOPLE = frozenset({"basedOn", "focus", "replaces", "imagingStudy", "result", "supportingInfo"})
"""References whose logical identifiers are EI."""
_ANY = "Resource"
TIME = "time"
"""The kind of an element that is a date or time."""
How = Literal["root", "child", "follow", "back"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of several: by number from 0, or by the value at the names below each of them; an empty one is absent."""

    number: int | None
    names: tuple[str, ...] = ()
    value: str = ""
    other: bool = False
    """Any other value than this one."""


@dataclass(frozen=True, slots=True)
class Step:
    """A type of resource, or an element with the names and kinds that it may go by."""

    how: How
    name: str
    keys: tuple[tuple[str, str], ...] = ()
    """Of an element: each name in JSON, and its data type (TIME, or empty for another simple value)."""
    filters: tuple[Filter, ...] = ()
    via: str = ""
    """The element in which the resources that are gone back to refer here."""


@dataclass(frozen=True, slots=True)
class FhirPath:
    """A compiled path."""

    text: str
    steps: tuple[Step, ...]
    people: bool
    """An identifier here is of a person, a place or a visit: CX, not EI."""

    @property
    def root(self) -> str:
        return self.steps[0].name

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types that it may lead to: of a resource its name, TIME, or empty for another simple value."""
        last = self.steps[-1]
        return tuple(kind for _, kind in last.keys) if last.how == "child" else (last.name,)

    @property
    def names(self) -> tuple[str, ...]:
        """What slices that the path cuts go by: the resource that it leads to, or the elements below its last one."""
        last = max(at for at, step in enumerate(self.steps) if step.how != "child")
        return tuple(step.name for step in self.steps[last:])


def is_fhir_path(text: str) -> bool:
    """Whether this is written as a path into FHIR resources."""
    if not PATTERN.fullmatch(text):
        return False
    if text.isalpha():
        return text in RESOURCES and entry(text) is None
    return re.match(r"[A-Z][A-Za-z]+(?:\[[^\[\]]+\])*(?:\.[a-z]|\s*(?:->|<-))", text) is not None


@lru_cache(maxsize=4096)
def compile_fhir_path(text: str) -> FhirPath:
    """The path written as ``text``. Raises CodecError, with the nearest name that there is."""
    if not PATTERN.fullmatch(text):
        raise CodecError("not a path into FHIR resources", at=text, fix=_FIX)
    steps: list[Step] = []
    owners: list[Any] = []
    people = False
    for arrow, name, filters in _STEP.findall(text):
        how: How = {"": "root", ".": "child", "->": "follow", "<-": "back"}[arrow.strip()]  # type: ignore[assignment]
        if how == "child":
            if name == "identifier":
                people = _of_people(steps)
            keys, owners = _keys(owners, name, text)
            chosen = _filters(filters, owners, text)
            steps.append(Step(how, name, keys, chosen))
            continue
        if name not in RESOURCES:
            raise CodecError(f"R4 has no resource `{name}`", at=text, fix=suggest(name, RESOURCES) or _FIX)
        if how == "follow" and not any(kind in ("Reference", "") for _, kind in steps[-1].keys):
            raise CodecError(f"`{steps[-1].name}` is no reference: there is nothing to follow", at=text, fix=_FIX)
        owners, via = [model(name)], ""
        if how == "back":
            via, _, filters = filters.removeprefix("[").partition("]")
            _, inside = _keys(owners, via, text)
            owners = inside if name == "Bundle" else owners
        steps.append(Step(how, name, (), _filters(filters, owners, text), via))
    return FhirPath(text, tuple(steps), people)


def _of_people(before: Sequence[Step]) -> bool:
    last = before[-1]
    if last.how != "child":
        return last.name in _PEOPLE
    return any(kind == "Reference" for _, kind in last.keys) and last.name not in _NOT_PEOPLE


def _keys(owners: Sequence[Any], name: str, text: str) -> tuple[tuple[tuple[str, str], ...], list[Any]]:
    """The names that an element goes by in these types, each with its kind, and the types of what is below."""
    found: dict[str, str] = {}
    below = []
    known: dict[str, None] = {}
    for owner in owners:
        if owner is None or owner.__name__.endswith(_ANY):
            return ((name, ""),), [None]
        known |= dict.fromkeys([one for one in elements(owner) if one.isalnum()] + list(choices(owner)))
        if name == "resourceType":
            return ((name, ""),), []
        for key in choices(owner).get(name, (name,)):
            if key in elements(owner):
                inner = elements(owner)[key][1]
                found[key] = inner.__name__ if inner is not None else TIME if is_time(owner, key) else ""
                below += [inner] if inner is not None else []
    if not found:
        what = f"{owners[0].__name__} has no element `{name}`" if owners else f"nothing is below: `{name}`"
        raise CodecError(what, at=text, fix=suggest(name, known) or _FIX)
    return tuple(found.items()), below


def _filters(written: str, owners: Sequence[Any], text: str) -> tuple[Filter, ...]:
    found = []
    for one in _FILTER.findall(written):
        if one.isdecimal():
            found.append(Filter(int(one)))
            continue
        match = _WHERE.fullmatch(one)
        if not match:
            fix = "write a number from 0, or a value as [use=official] or [status!=cancelled]"
            raise CodecError(f"`[{one}]` chooses nothing", at=text, fix=fix)
        names, inside = tuple(match[1].split(".")), owners
        for name in names:
            _, inside = _keys(inside, name, text)
        found.append(Filter(None, names, match[3], match[2] == "!="))
    return tuple(found)
