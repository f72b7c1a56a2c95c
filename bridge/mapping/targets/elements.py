"""Which elements a FHIR R4B resource has, so that a mapping's targets are checked when it is compiled."""

from __future__ import annotations

from bridge.codecs.fhir_models import elements, model
from bridge.yamlfile import suggest


def problem(kind: str, path: list[str | int]) -> tuple[str, str] | None:
    """What is wrong with an element's path below a resource, and the fix; None if it exists.

    ``path`` holds names and, after an element that repeats, the number of the repetition.
    """
    owner, parts = model(kind), list(path)
    while parts and owner is not None:
        name = str(parts.pop(0))
        known = elements(owner)
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
