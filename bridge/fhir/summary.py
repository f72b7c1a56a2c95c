"""A part of a resource, where a client asks for no more: `_summary` and `_elements` (R4 search, 3.1.1.5.8 and .9)."""

from __future__ import annotations

from functools import cache
from typing import Any

from bridge.codecs import fhir_check
from bridge.codecs.fhir import decode, encode
from bridge.fhir.query import Query

_ALWAYS = frozenset(("resourceType", "id", "meta"))
_SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}


def shaped(body: bytes, query: Query, *, match: bool = True) -> bytes:
    """``body`` with the elements that ``query`` asks for, marked as a part of it; `_elements` only shapes matches.

    Elements stand or fall with all that is below them. Required ones stay.
    """
    wanted = _wanted(query, match)
    if not wanted:
        return body
    resource = decode(body)
    kept = wanted(resource)
    part = {key: value for key, value in resource.items() if key in kept or key.removeprefix("_") in kept}
    meta = part["meta"]
    return encode({**part, "meta": {**meta, "tag": [*meta.get("tag", []), _SUBSETTED]}})


def _wanted(query: Query, match: bool) -> Any:
    """Which elements of a resource to keep, as a function; None for all."""
    if query.elements and match:
        return lambda resource: _ALWAYS | set(query.elements) | _required(resource["resourceType"])
    if query.summary == "true":
        return lambda resource: _ALWAYS | _summary(resource["resourceType"])
    if query.summary == "text":
        return lambda resource: _ALWAYS | {"text"} | _required(resource["resourceType"])
    if query.summary == "data":
        return lambda resource: resource.keys() - {"text"}
    return None


@cache
def _summary(kind: str) -> frozenset[str]:
    return _required(kind) | frozenset(fhir_check.model_of(kind, "R4").summary_elements_sequence())


@cache
def _required(kind: str) -> frozenset[str]:
    fields = fhir_check.model_of(kind, "R4").model_fields.items()
    return frozenset(
        field.alias or name
        for name, field in fields
        if field.is_required() or (field.json_schema_extra or {}).get("element_required")
    )
