"""Which elements a FHIR R4B resource has, so that a mapping's targets are checked when it is compiled."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin

from bridge.yamlfile import suggest


@cache
def model(kind: str) -> Any:
    """The model class of a resource type; None if there is no such type."""
    from fhir.resources.R4B import get_fhir_model_class

    try:
        return get_fhir_model_class(kind)
    except (KeyError, ValueError):
        return None


@cache
def _elements(owner: Any) -> dict[str, tuple[bool, Any]]:
    """Element -> whether it repeats, and the model class of its parts (None for a primitive)."""
    return {field.alias or name: _shape(field.annotation) for name, field in owner.model_fields.items()}


def _shape(annotation: Any) -> tuple[bool, Any]:
    if hasattr(annotation, "get_model_klass"):
        return False, annotation.get_model_klass()
    repeats, inner = get_origin(annotation) is list, None
    for part in get_args(annotation):
        if isinstance(part, type) or get_args(part):
            deeper, found = _shape(part)
            repeats, inner = repeats or deeper, inner or found
    return repeats, inner


def problem(kind: str, path: list[str | int]) -> tuple[str, str] | None:
    """What is wrong with an element's path below a resource, and the fix; None if it exists.

    ``path`` holds names and, after an element that repeats, the number of the repetition.
    """
    owner, parts = model(kind), list(path)
    while parts and owner is not None:
        name = str(parts.pop(0))
        known = _elements(owner)
        if name == "resourceType":
            return None
        if name not in known:
            return f"{owner.__name__} has no element `{name}`", suggest(name, known)
        repeats, owner = known[name]
        numbered = bool(parts) and isinstance(parts[0], int)
        if numbered and not repeats:
            return f"`{name}` does not repeat", f"write `{name}` without a number"
        if repeats and parts and not numbered:
            return f"`{name}` repeats", f"write `{name}[0]`"
        if numbered:
            parts.pop(0)
    return ("there is nothing below a simple value", "end the path before") if parts else None
