"""What FHIR R4 requires and allows, as far as the models of fhir.resources know it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from bridge.codecs.fhir_models import elements, model

_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)(?:\[\d+\])?")


@cache
def allowed(label: str) -> tuple[str, ...]:
    """The codes of an element (``Patient.gender``) that is bound to a short list of them; empty for any other."""
    kind, _, rest = label.partition(".")
    owner, names = model(kind), _STEP.findall(f".{rest}")
    for name in names[:-1]:
        owner = elements(owner).get(name, (False, None))[1] if owner is not None else None
    found = _field(owner, names[-1]) if owner is not None and names else None
    extra = found.json_schema_extra if found is not None else None
    codes = extra.get("enum_values") if isinstance(extra, dict) else None
    return tuple(codes) if codes and all(re.fullmatch(r"[a-z][a-z-]*", str(code)) for code in codes) else ()


@cache
def required(kind: str) -> tuple[str, ...]:
    """The elements that every resource of a type has, but for choices of several types."""
    owner = model(kind) if kind else None
    fields: dict[str, Any] = owner.model_fields if owner is not None else {}
    return tuple(field.alias or name for name, field in fields.items() if _is_required(field))


def _field(owner: Any, name: str) -> Any:
    return next((field for key, field in owner.model_fields.items() if (field.alias or key) == name), None)


def _is_required(field: Any) -> bool:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return bool(extra.get("element_property")) and (field.is_required() or bool(extra.get("element_required")))
