"""The OpenAPI document of the facade: a path for each type and interaction, schemas from the models that check.

The schemas say of a resource what JSON Schema can: elements, types, cardinality, required codes, formats. Choices
between elements and what a date has to be in the calendar are checked, and not in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from bridge import __version__
from bridge.codecs.fhir_check import Element, Release, elements, model_of
from bridge.fhir.interaction import TYPES
from bridge.fhir.media import FHIR, JSON_PATCH, VERSIONS
from bridge.fhir.parameters import PARAMETERS

Json = dict[str, Any]

_ID = {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]+$"
_ANSWERS = "Bundle", "OperationOutcome", "CapabilityStatement", "Parameters"
_ETAG = {"schema": {"type": "string", "pattern": '^W/"[0-9]+"$'}, "description": "The version"}
_PATTERNS = {
    "Date": r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$",
    "Time": r"^([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?$",
    "Id": r"^[A-Za-z0-9.-]{1,64}$",
    "Code": r"^[^\s]+( [^\s]+)*$",
    "Oid": r"^urn:oid:[0-2](\.(0|[1-9][0-9]*))+$",
}


_SEARCHED = {
    "date": "^(eq|ne|gt|lt|ge|le|sa|eb|ap)?[12][0-9]{3}(-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8]))?)?$",
    "quantity": r"^(eq|ne|gt|lt|ge|le|sa|eb|ap)?-?[0-9]{1,9}(\.[0-9]{1,9})?(\|[^|]*\|[^|]*)?$",
}
"""What a value of a search parameter begins with; the rest of R4's syntax (lists, modifiers, chains) is served too."""


def document(release: Release, base: str) -> Json:
    """OpenAPI 3.1 of the service at ``base``."""
    paths: Json = {
        "/metadata": {"get": _operation("What is served", {"200": _told("CapabilityStatement")})},
        "/_history": {"get": _operation("Every version of everything", _bundle(), _HISTORY)},
        "/": {"post": _operation("Transaction or batch", _bundle(), body=_body("Bundle"))},
        "/Patient/{id}/$everything": {
            "get": _operation("A patient and all about him", _bundle(), [_path("id"), *_PAGE])
        },
    }
    for kind in TYPES:
        paths |= _paths(kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Radbridge FHIR {VERSIONS[release]}", "version": __version__},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"schemas": _schemas(release)},
    }


def _paths(kind: str) -> Json:
    parameters = [_query("_id", "token"), _query("_lastUpdated", "date")]
    parameters += [_query(one.name, one.type) for one in PARAMETERS[kind].values()]
    one, version = [_path("id")], [_path("id"), _path("version")]
    written = {"200": _told(kind, changed=True), "201": _told(kind, changed=True)}
    condition = [_header("If-None-Exist", r"^_id=[A-Za-z0-9.-]{1,64}$")]
    guard = [_header("If-Match", r'^(W/)?"[A-Za-z0-9.-]{1,64}"$')]
    return {
        f"/{kind}": {
            "get": _operation(f"Search for {kind}", _bundle(), [*_PAGE, *parameters]),
            "post": _operation(f"Create a {kind}", written, condition, _body(kind)),
        },
        f"/{kind}/_history": {"get": _operation(f"Every version of every {kind}", _bundle(), _HISTORY)},
        f"/{kind}/{{id}}": {
            "get": _operation(f"Read a {kind}", {"200": _told(kind, changed=True)}, one),
            "put": _operation(f"Write a {kind}", written, [*one, *guard], _body(kind)),
            "patch": _operation(f"Change a {kind}", {"200": written["200"]}, [*one, *guard], _PATCHES),
            "delete": _operation(f"Delete a {kind}", {"204": {"description": "Gone"}}, [*one, *guard]),
        },
        f"/{kind}/{{id}}/_history": {"get": _operation(f"Every version of a {kind}", _bundle(), [*one, *_HISTORY])},
        f"/{kind}/{{id}}/_history/{{version}}": {
            "get": _operation(f"A version of a {kind}", {"200": _told(kind, changed=True)}, version)
        },
        f"/{kind}/$validate": {
            "post": _operation(f"Judge a {kind}", {"200": _told("OperationOutcome")}, body=_body("Resource"))
        },
    }


def _operation(summary: str, answers: Json, parameters: list[Json] | None = None, body: Json | None = None) -> Json:
    problem = {"description": "Why not", "content": {FHIR: {"schema": _ref("OperationOutcome")}}}
    made: Json = {"summary": summary, "parameters": parameters or [], "responses": {**answers, "default": problem}}
    if body:
        made["requestBody"] = body
    return made


def _told(kind: str, *, changed: bool = False) -> Json:
    made: Json = {"description": kind, "content": {FHIR: {"schema": _ref(kind)}}}
    if kind == "Binary":
        made["content"]["*/*"] = {"schema": {"type": "string", "format": "binary"}}
    return {**made, "headers": {"ETag": _ETAG}} if changed else made


def _bundle() -> Json:
    return {"200": _told("Bundle")}


def _body(kind: str) -> Json:
    return {"required": True, "content": {FHIR: {"schema": _ref(kind)}}}


_PATCH: Json = {
    "type": "object",
    "properties": {
        "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
        "path": {"type": "string"},
        "from": {"type": "string"},
        "value": {},
    },
    "required": ["op", "path"],
}
_PATCHES: Json = {"required": True, "content": {JSON_PATCH: {"schema": {"type": "array", "items": _PATCH}}}}


def _ref(kind: str) -> Json:
    return {"$ref": f"#/components/schemas/{kind}"}


def _path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": _ID}


def _header(name: str, pattern: str) -> Json:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string", "pattern": pattern}}


def _query(name: str, kind: str) -> Json:
    schema = {"type": "string", **({"pattern": _SEARCHED[kind]} if kind in _SEARCHED else {})}
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": f"{kind} search"}


_COUNT: Json = {"name": "_count", "in": "query", "schema": {"type": "integer", "minimum": 1}}
_PAGE = [_COUNT]
_HISTORY = [_COUNT]


_OPEN: Json = {
    "Extension": {
        "type": "object",
        "required": ["url"],
        "properties": {"url": {"type": "string", "minLength": 1}, "valueString": {"type": "string", "minLength": 1}},
        "description": "With any value[x] of FHIR, or extensions of its own",
    },
    "Resource": {
        "type": "object",
        "required": ["resourceType"],
        "properties": {"resourceType": {"type": "string"}},
        "description": "Any resource; its elements are those of its type",
    },
}
"""What may hold anything: a document of everything in everything helps nobody, and has no end."""


@cache
def _schemas(release: Release) -> Json:
    """By name: those of the served types, of what is answered, and of all that stands in them."""
    made: Json = {}
    ahead = [*TYPES, *_ANSWERS]
    while ahead:
        name = ahead.pop()
        if name in made:
            continue
        parts = elements(model_of(name, release), release)
        own = {key: one for key, one in parts.items() if not key.startswith("_")}
        made[name] = _OPEN.get(name) or _object(name, own, resource=name in (*TYPES, *_ANSWERS))
        ahead += [one.parts.__name__ for one in own.values() if one.parts is not None and name not in _OPEN]
    return made


def _object(name: str, parts: dict[str, Element], *, resource: bool) -> Json:
    properties = {key: _listed(one) for key, one in parts.items()}
    required = [key for key, one in parts.items() if one.required]
    if resource:
        properties = {"resourceType": {"const": name}, **properties}
        required = ["resourceType", *required]
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    made["patternProperties"] = {"^_[a-z]+[A-Za-z0-9]*$": {"type": ["object", "array"]}}
    if required:
        made["required"] = required
    return made if resource else {**made, "minProperties": 1}


def _listed(one: Element) -> Json:
    schema = _ref(one.parts.__name__) if one.parts is not None else _primitive(one)
    return {"type": "array", "items": schema, "minItems": 1} if one.repeats else schema


def _primitive(one: Element) -> Json:
    if bool in one.json:
        return {"type": "boolean"}
    kind = next(_kinds(one.field.annotation), "")
    if int in one.json:
        low = {"PositiveInt": 1, "UnsignedInt": 0}.get(kind, -(2**31))
        return {"type": "integer", "minimum": low, "maximum": 2**31 - 1}
    if str not in one.json:
        return {"type": "number"}
    if one.codes:
        return {"enum": sorted(one.codes)}
    if one.pattern:
        return {"type": "string", "pattern": f"^{one.pattern.pattern}$"}
    return {"type": "string", "pattern": _PATTERNS.get(kind, _TEXT)}


def _kinds(annotation: Any) -> Iterator[str]:
    """The FHIR names of a primitive's type."""
    for inner in get_args(annotation):
        name = type(inner).__name__
        if re.fullmatch(r"[A-Z][A-Za-z0-9]+", name) and not name.startswith("_"):
            yield name
        yield from _kinds(inner)
