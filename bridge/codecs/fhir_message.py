"""A FHIR message: one resource, or a Bundle of them.

What a client does to our facade is a Bundle, too: of type ``batch`` with one entry for a single interaction, with its
method and URL in ``request``; the transaction as it came.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

from bridge.codecs.fhir import encode
from bridge.codecs.fhir_fields import Site
from bridge.codecs.fhir_header import identifiers, key_of, orders_of, patients_of, read_header, references_in
from bridge.codecs.fhir_models import RESOURCES
from bridge.codecs.fhir_view import FhirView, Json, Node, hl7_time, listed, referred, searched
from bridge.errors import CodecError
from bridge.message import Header

_Referring = dict[int, list[tuple[Json, Node]]]
_MOMENTS = ("authoredOn", "issued", "created", "recorded", "date", "effectiveDateTime")


class FhirMessage(FhirView):
    """A message: paths begin at its resources, and follow references among them and into what is ``known`` besides."""

    warnings: tuple[str, ...] = ()
    received = ""

    def __init__(self, document: Json, raw: bytes) -> None:
        self.document, self.raw = document, raw
        self.entries = list(_entries(document))
        self.known: Mapping[str, Json] = {}
        self._names, self._types = _names(self.entries), _types(self.entries)
        self._back: dict[tuple[str, str, str], _Referring] = {}
        self._numbers: dict[str, dict[tuple[str, str], Json]] = {}
        self.message = self
        self.bound: Mapping[tuple[str, ...], Node] = {}
        self.header = read_header(document, self.entries)

    def knowing(self, known: Mapping[str, Json], name: str = "", received: str = "") -> FhirMessage:
        """The same message, with resources that it refers to: by ``Patient/123``, as it calls them; ``name`` is its
        control id, and ``received`` (DTM) its time, if it has none."""
        made = FhirMessage.__new__(FhirMessage)
        made.document, made.raw, made.entries = self.document, self.raw, self.entries
        made.received = received
        made.header = replace(self.header, control_id=self.header.control_id or name)
        made._names, made._types, made.known, made.message, made.bound = self._names, self._types, known, made, {}
        made._back, made._numbers = {}, self._numbers
        return made

    def edited(self, changes: Mapping[str, Any], removed: Collection[str] = ()) -> FhirMessage:
        """The message with other values at paths that end with an element (empty: taken away), and without the
        resources of some types. Raises CodecError."""
        document: Json = deepcopy(self.document)
        message = FhirMessage(document, b"")
        for path, value in changes.items():
            above, _, element = path.rpartition(".")
            for node in message.nodes(above):
                node.value.pop(element, None)
                node.value.update({} if value in ("", None) else {element: value})
        if removed:
            kept = [one for one in message.entries if one.get("resource", {}).get("resourceType") not in removed]
            document["entry"] = kept
        return parse_fhir(encode(document))

    def header_at(self, site: Site) -> Header:
        """The header with the patients and orders of what is known besides, and with authorities as the site calls
        them."""
        everything = [*(entry["resource"] for entry in self.entries if "resource" in entry), *self.known.values()]
        return replace(self.header, patients=patients_of(everything, site), orders=orders_of(everything, site))

    def renumbered(self, instead: Mapping[str, Json], site: Site) -> FhirMessage:
        """The message with other identifiers of its patients: by ``id^issuer``, what becomes other; none twice."""
        known = deepcopy(dict(self.known))
        made = FhirMessage(deepcopy(self.document), self.raw).knowing(known, received=self.received)
        made.header = self.header
        for one in [*made.of_type("Patient"), *known.values()]:
            if one["resourceType"] == "Patient":
                others = [number | instead.get(key_of(number, site), {}) for number in identifiers(one)]
                one["identifier"] = list({key_of(number, site): number for number in others}.values())
        return made

    @property
    def kind(self) -> tuple[str, str]:
        """``ServiceRequest`` and create, update, patch or delete; ``Bundle`` and its type."""
        code, _, event = self.header.type.partition("^")
        return code, event

    def of_type(self, kind: str) -> list[Json]:
        """The message's resources of a type; the Bundle itself is one, too."""
        if kind == "Bundle":
            return [self.document] if self.document["resourceType"] == kind else []
        return self._types.get(kind, [])

    def resolve(self, node: Node, kind: str) -> Node | None:
        """The resource of a type that a reference leads to; None if it is not there.

        A logical reference, which only identifies its target, leads to the one in the message that is identified so,
        else to a resource that is nothing but this identifier.
        """
        reference = node.value if isinstance(node.value, dict) else {}
        target, identifier = reference.get("reference"), reference.get("identifier")
        if isinstance(target, str) and target.startswith("#"):
            inside = [one for one in listed(node.resource.get("contained")) if isinstance(one, dict)]
            found = next((one for one in inside if one.get("id") == target[1:]), None)
            return Node(found, kind, node.resource) if found and found.get("resourceType") == kind else None
        found = self.entry(target) if isinstance(target, str) else None
        if found is None and isinstance(identifier, dict) and reference.get("type", kind) == kind and not target:
            sought = (str(identifier.get("system", "")), str(identifier.get("value", "")))
            found = self._identified(kind, [sought]) or {"resourceType": kind, "identifier": [identifier]}
        return Node(found, kind, found) if found is not None and found.get("resourceType") == kind else None

    def referring(self, node: Node, kind: str, element: str) -> Iterator[Node]:
        """The resources of a type that refer to a resource in an element; of a Bundle, the entry that it is in."""
        target = str(node.value.get("resourceType"))
        key = (kind, element, target)
        if key not in self._back:
            self._back[key] = self._pointing(*key)
        yield from (one for value, one in self._back[key].get(id(node.value), ()) if value is node.value)

    def _pointing(self, kind: str, element: str, target: str) -> _Referring:
        """Of all resources of a type what they refer to in an element; by identity, for equal ones are not the same."""
        found: _Referring = {}
        if kind == "Bundle":
            entries = ((one["resource"], one) for one in self.entries if "resource" in one)
            return {id(resource): [(resource, Node(one, "", one))] for resource, one in entries}
        others = [one for one in self.known.values() if one.get("resourceType") == kind]
        for one in [*self.of_type(kind), *others]:
            nodes = (self.resolve(Node(given, "Reference", one), target) for given in listed(one.get(element)))
            values = {id(there.value): there.value for there in nodes if there is not None}
            for value in values.values():
                found.setdefault(id(value), []).append((value, Node(one, kind, one)))
        return found

    def entry(self, reference: str) -> Json | None:
        """What a literal or conditional reference means, in the message or among what is known."""
        named = referred(reference) or reference
        if reference in self._names or named in self._names:
            return self._names.get(reference) or self._names[named]
        if "?" in named and (found := self._identified(named.partition("?")[0], searched(named))):
            return found
        return self.known.get(named)

    def _identified(self, kind: str, sought: Sequence[tuple[Any, Any]]) -> Json | None:
        if kind not in self._numbers:
            known = self._numbers[kind] = {}
            for one in self.of_type(kind):
                for item in identifiers(one):
                    if isinstance(item.get("value"), str):
                        known.setdefault((str(item.get("system", "")), item["value"]), one)
        return next((self._numbers[kind][one] for one in sought if one in self._numbers[kind]), None)

    @property
    def references(self) -> list[str]:
        """Every ``Patient/123`` that its resources refer to, and that is not in it."""
        return self.missing([entry["resource"] for entry in self.entries if "resource" in entry])

    def missing(self, resources: list[Json]) -> list[str]:
        """The references in these resources that lead to nothing that is in the message, or known."""
        found = (referred(reference) for one in resources for reference in references_in(one))
        return [name for name in dict.fromkeys(found) if name and self.entry(name) is None]

    @property
    def named(self) -> list[tuple[str, Json]]:
        """The resources that have an id already, by ``ServiceRequest/1``."""
        known = _names([entry for entry in self.entries if not _is_new(entry)])
        return [(name, one) for name, one in known.items() if referred(name) and "?" not in name]

    def moment(self) -> str:
        resources = [entry["resource"] for entry in self.entries if "resource" in entry]
        metas = [one["meta"] for one in resources if isinstance(one.get("meta"), dict)]
        given = (
            [self.document.get("timestamp")],
            [meta.get("lastUpdated") for meta in metas],
            [one.get(name) for name in _MOMENTS for one in resources],
        )
        stamps = ([stamp for stamp in some if isinstance(stamp, str)] for some in given)
        return next((hl7_time(max(some)) for some in stamps if some), self.received)


def parse_fhir(raw: bytes) -> FhirMessage:
    """The message of these bytes. Raises CodecError with place and fix: what is no JSON, and no resource or Bundle."""
    try:
        document = json.loads(raw, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise CodecError("not JSON", fix="send a FHIR resource or Bundle as JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise CodecError("not a FHIR resource", fix="send a JSON object with `resourceType`")
    _check_type(document, "")
    try:
        return FhirMessage(document, raw)
    except UnicodeEncodeError:
        raise CodecError("the text is not Unicode", fix="send JSON in UTF-8") from None


def is_fhir(raw: bytes) -> bool:
    """Whether a JSON text is of FHIR: its object has a ``resourceType``."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "resourceType" in document


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _check_type(resource: Any, at: str) -> None:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(kind, str) or kind not in RESOURCES:
        what = "this is no FHIR resource" if kind is None else "no resource of R4 has this name"
        place = f"{at}.resourceType" if at else "resourceType"
        raise CodecError(what, at=place, fix="send an object with `resourceType`", kind="code" if kind else "required")


def _entries(document: Json) -> Iterator[Json]:
    """Every entry of a Bundle; a resource alone is one entry."""
    if document["resourceType"] != "Bundle":
        yield {"resource": document}
        return
    entries = document.get("entry", [])
    if not isinstance(entries, list):
        raise CodecError("not a list of entries", at="Bundle.entry", fix="send a JSON array")
    for number, entry in enumerate(entries):
        at = f"Bundle.entry[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("request", {}), dict):
            raise CodecError("not an entry", at=at, fix="send a JSON object with `resource` or `request`")
        if "resource" in entry:
            _check_type(entry["resource"], f"{at}.resource")
        yield entry


def _names(entries: list[Json]) -> dict[str, Json]:
    """What the resources of a message are referred to by: their full URL, and ``Patient/123``; not a name that two
    servers use."""
    found: dict[str, Json] = {}
    urls: dict[str, str] = {}
    for entry in entries:
        if "resource" in entry:
            resource, request = entry["resource"], entry.get("request", {})
            own = f"{resource['resourceType']}/{resource['id']}" if "id" in resource else ""
            url = str(entry.get("fullUrl") or "")
            asked = str(request.get("url")) if request.get("method") in ("PUT", "PATCH") else ""
            named = "" if _is_new(entry) and not url.endswith(f"/{own}") else own
            found |= {name: resource for name in (asked, named, url) if name}
            if urls.setdefault(own, url) != url:
                found.pop(own, None)
    return found


def _is_new(entry: Json) -> bool:
    """Whether its server is asked to make the resource: then the id in it says nothing."""
    return bool(entry.get("request", {}).get("method") == "POST")


def _types(entries: list[Json]) -> dict[str, list[Json]]:
    """The resources of a message by their types."""
    found: dict[str, list[Json]] = {}
    for entry in entries:
        if "resource" in entry:
            found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found
