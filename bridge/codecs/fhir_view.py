"""Reading FHIR resources as mappings read an HL7 message: by path, and split into slices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from bridge.codecs.fhir_fields import Escape, Site, er7_of
from bridge.codecs.fhir_paths import TIME, Filter, Step, compile_fhir_path, is_fhir_path
from bridge.codecs.foreign import Foreign

if TYPE_CHECKING:
    from bridge.codecs.fhir_message import FhirMessage

Json = dict[str, Any]
_REFERENCE = re.compile(r"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_SEARCH = re.compile(r"[A-Z][A-Za-z]+\?identifier=\S+")
_MOMENT = re.compile(r"(\d{4}(?:-\d\d(?:-\d\d)?)?)(?:T(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?)?")
_WORDS = ("value", "code", "reference", "start", "text")
"""What says most of a data type, when it is read as one text: of an identifier its value, of a coding its code..."""


class Node(NamedTuple):
    """A value in a resource."""

    value: Any
    kind: str
    """Its data type: ``Identifier``; TIME for dates and times, empty for other simple values."""
    resource: Json
    """What it stands in; of a contained resource, what that is contained in."""


class FhirView(Foreign):
    """A message's resources, or a slice of them: paths begin at what it is ``bound`` to, else at every resource."""

    message: FhirMessage
    bound: Mapping[tuple[str, ...], Node]

    def all(self, path: str) -> list[str]:
        """Every value at ``path``; times as HL7 has them, of a code its code, of an identifier its value."""
        return [text for node in self.nodes(path) for text in texts_of(node)] if is_fhir_path(path) else []

    def er7(self, path: str, site: Site) -> list[str]:
        """Every value at ``path`` in the form in which HL7 has it, in ER7 with the usual delimiters: see
        :mod:`bridge.codecs.fhir_fields`."""
        people, escape = compile_fhir_path(path).people, self.delimiters.escape_value
        nodes = (self._person(node) for node in self.nodes(path))
        found = [_er7(node, people, site, escape) for node in nodes]
        return [one for one in found if one]

    def split(self, anchor: str) -> list[FhirView]:
        """One view for each value at the path ``anchor``: its paths begin there, all others where they did before."""
        names = compile_fhir_path(anchor).names
        return [_Slice(self, names, node) for node in self.nodes(anchor)]

    def has(self, name: str) -> bool:
        return (name,) in self.bound or any(self.message.of_type(name))

    def nodes(self, path: str) -> list[Node]:
        """What is at ``path``."""
        steps = compile_fhir_path(path).steps
        found, rest = self._start(steps)
        for step in rest:
            found = _chosen([after for node in found for after in self._next(step, node)], step.filters)
        return found

    def _start(self, steps: Sequence[Step]) -> tuple[list[Node], Sequence[Step]]:
        """Where a path begins: the deepest value that this view is bound to, else the resources of the type. A step
        with a choice is never bound: it chooses among all."""
        names: tuple[str, ...] = ()
        begun: tuple[list[Node], Sequence[Step]] | None = None
        for at, step in enumerate(steps):
            if step.how not in ("root", "child") or step.filters:
                break
            names = (*names, step.name)
            if names in self.bound:
                begun = [self.bound[names]], steps[at + 1 :]
        if begun is not None:
            return begun
        root = steps[0]
        return _chosen([Node(one, root.name, one) for one in self.message.of_type(root.name)], root.filters), steps[1:]

    def _next(self, step: Step, node: Node) -> Iterator[Node]:
        if step.how == "child":
            for key, kind in step.keys:
                inside = node.value.get(key) if isinstance(node.value, dict) else None
                yield from (Node(one, kind, node.resource) for one in listed(inside))
        elif step.how == "follow":
            found = self.message.resolve(node, step.name)
            yield from [found] if found is not None else []
        else:
            yield from self.message.referring(node, step.name, step.via)

    def _person(self, node: Node) -> Node:
        """Of a reference to a person, the person, where the message or what is known besides has them."""
        if node.kind != "Reference":
            return node
        role = self.message.resolve(node, "PractitionerRole")
        if role is not None:
            node = Node(role.value.get("practitioner") or node.value, "Reference", role.resource)
        people = (self.message.resolve(node, kind) for kind in ("Practitioner", "RelatedPerson", "Patient"))
        return next((one for one in people if one is not None and "name" in one.value), node)


class _Slice(FhirView):
    def __init__(self, outer: FhirView, names: tuple[str, ...], node: Node) -> None:
        self.message, self.header = outer.message, outer.header
        kept = outer.bound.items()
        self.bound = {**{one: at for one, at in kept if one[: len(names)] != names}, names: node}


def _er7(node: Node, people: bool, site: Site, escape: Escape) -> str:
    return hl7_time(str(node.value)) if node.kind == TIME else er7_of(node.kind, node.value, people, site, escape)


def listed(value: Any) -> list[Any]:
    """A repeating element's values, the one value of another, none of what is absent."""
    return value if isinstance(value, list) else [] if value is None else [value]


def referred(reference: Any) -> str:
    """The literal reference ``Patient/123``, without a version, or the conditional one ``Patient?identifier=...``;
    empty for any other."""
    if not isinstance(reference, str):
        return ""
    match = _REFERENCE.fullmatch(reference)
    return match[1] if match else reference if _SEARCH.fullmatch(reference) else ""


def searched(reference: str) -> list[tuple[str, str]]:
    """System and value of each identifier that a conditional reference means."""
    given = parse_qs(reference.partition("?")[2]).get("identifier", [])
    tokens = [one.partition("|") for text in given for one in text.split(",")]
    return [(system, value) for system, _, value in tokens]


def texts_of(node: Node) -> list[str]:
    """A value as text; of a concept, the code of each coding."""
    return [hl7_time(text) if node.kind == TIME else text for text in _texts(node.value)]


def _texts(value: Any) -> list[str]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str | int | float | Decimal):
        return [str(value)]
    if not isinstance(value, dict):
        return []
    if "resourceType" in value:
        return [f"{value['resourceType']}/{value['id']}" if "id" in value else str(value["resourceType"])]
    if "coding" in value:
        return [text for one in listed(value["coding"]) for text in _texts(one)]
    inside = [value[word] for word in _WORDS if word in value] or list(value.values())
    return next((found for one in inside for item in listed(one) if (found := _texts(item))), [])


def hl7_time(text: str) -> str:
    """A FHIR date, dateTime, instant or time as HL7 has it (DTM): with its offset, four digits of a second at most."""
    match = _MOMENT.fullmatch(text)
    if not match:
        return text.replace(":", "")
    day, time, offset = match.groups()
    if not time:
        return day.replace("-", "")
    whole, _, fraction = time.replace(":", "").partition(".")
    offset = "+0000" if offset == "Z" else (offset or "").replace(":", "")
    return day.replace("-", "") + whole + (f".{fraction[:4]}" if fraction else "") + offset


def _chosen(found: list[Node], filters: Sequence[Filter]) -> list[Node]:
    for one in filters:
        if one.number is not None:
            found = found[one.number : one.number + 1]
        else:
            found = [node for node in found if _is(one.value, _below(node.value, one.names)) != one.other]
    return found


def _is(wanted: str, texts: list[str]) -> bool:
    return wanted in texts if wanted else not any(texts)


def _below(value: Any, names: Sequence[str]) -> list[str]:
    if not names:
        return _texts(value)
    inside = value.get(names[0]) if isinstance(value, dict) else None
    return [text for one in listed(inside) for text in _below(one, names[1:])]
