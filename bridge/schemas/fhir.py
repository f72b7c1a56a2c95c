"""Schema of a mapping's FHIR ``resources:``, with the elements of the types that imaging mappings write most."""

from __future__ import annotations

from typing import Any

from bridge.codecs.fhir_models import model
from bridge.mapping.targets.fhir import _COMMON, _KEYS
from bridge.schemas.lines import EACH, LET, LINE, WHEN
from bridge.schemas.parts import Json, block, choice, chosen, has, text

_INSIDE = r"^[A-Za-z_][A-Za-z0-9]*(\[\d+\])?\."
_REPEATED = r"^[A-Za-z_][A-Za-z0-9]*\[\d+\]$"


def resource_schema() -> Json:
    types: Json = {"anyOf": [{"enum": list(_COMMON)}, {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"}]}
    words: Json = {
        "include": text("The mapping that has this resource, by the same `as` (else type); what is here changes it."),
        "resource": {**types, "description": "The type of resource; one, or one for each repetition."},
        "as": text("Its local name, for references; without it the type, its first letter small."),
        "each": EACH,
        "when": WHEN,
        "let": LET,
        "identify": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": LINE,
            "description": "The search parameter and the source of the token that find the resource again.",
        },
        "about": choice(["all"], "all: a Provenance of all the others. It is written with those of them that are."),
        "write": choice(
            ["create", "update", "never"],
            "create: only if none matches; update: also change the one that does; never: not made.",
        ),
        "whole": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Elements of which the message says all: what it does not repeat goes.",
        },
        "reopens": LINE,
        "repeats": choice(["join"], "join: what repeats one resource adds to it; without this it is refused."),
        "set": {"type": "object", "description": "Elements and their source lines; paths may have dots."},
    }
    kinds = [(has("resource", kind), {"properties": {"set": _elements(kind)}}) for kind in _COMMON]
    item = {**block(("include", *_KEYS), words), **chosen(kinds, {})}
    item["anyOf"] = [{"required": ["include"]}, {"required": ["resource", "write"]}]
    return {"type": "array", "minItems": 1, "items": item, "description": "The resources of the bundle, in sequence."}


def _elements(kind: str) -> Json:
    """The elements at the front of a type, with what FHIR says of them. Longer paths are left to `radbridge check`."""
    fields: Any = model(kind).model_fields
    told = {field.alias or name: field.description or field.title or "" for name, field in fields.items()}
    known = {name: {"description": " ".join(about.split())} for name, about in told.items() if name.isidentifier()}
    return {"properties": known, "patternProperties": {_INSIDE: {}, _REPEATED: {}}, "additionalProperties": False}
