"""Resources that the models of ``fhir.resources`` are sure to take, found without making an instance of them.

Each value is judged by the type that its model gives it, and the models' own rules - required elements, choices - by
what they say of themselves: the same verdict at a tenth of the cost. Where that is not everything, the models decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Annotated, Any, get_args

_RULES = {"reject_null_complex_elements", "validate_after_model_construction"}
"""What the models check beyond their elements' types: no null among elements with parts, required elements, choices."""
_ANY = ("Element",)
"""Models that stand for others: which one, only the value says."""


@dataclass(slots=True)
class _Plan:
    """What a model asks of the object that it is made of."""

    required: set[str] = field(default_factory=set)
    choices: dict[str, tuple[set[str], bool]] = field(default_factory=dict)
    """The elements of which there may be one, and whether there has to be."""
    values: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """What raises ValidationError for a primitive, or a list of them, that is none."""
    parts: dict[str, Any] = field(default_factory=dict)
    """The models of elements with parts."""


def surely_valid(model: Any, raw: dict[str, Any]) -> bool:
    """Whether ``model`` takes ``raw``, of which every element is known, and is a list where it repeats.

    False where only the model itself can tell.
    """
    from pydantic import ValidationError

    try:
        return _fits(model, raw)
    except ValidationError:
        return False


def _fits(model: Any, raw: dict[str, Any]) -> bool:
    if model.__name__ == "Resource":
        return _fits_named(model, raw)
    plan = _plan(model)
    if plan is None or not plan.required <= raw.keys():
        return False
    for names, needed in plan.choices.values():
        count = len(names & raw.keys())
        if count > 1 or (needed and not count):
            return False
    for key, value in raw.items():
        if key == "resourceType":
            continue
        if check := plan.values.get(key):
            check(value)
        elif inner := plan.parts.get(key):
            for item in value if isinstance(value, list) else (value,):
                if not isinstance(item, dict) or not _fits(inner, item):
                    return False
        else:
            return False
    return True


def _fits_named(model: Any, raw: dict[str, Any]) -> bool:
    """A resource in another one is of the type that it names."""
    kind = raw.get("resourceType")
    found = _resource(model.__module__.rpartition(".")[0], kind) if isinstance(kind, str) else None
    return found is not None and found.__name__ != "Resource" and _fits(found, raw)


@cache
def _resource(package: str, kind: str) -> Any:
    """The model that this release of FHIR has for a type; None for a name that is none."""
    try:
        return import_module(package).get_fhir_model_class(kind)
    except (KeyError, ValueError, AttributeError):
        return None


@cache
def _plan(model: Any) -> _Plan | None:
    """None for a model with rules that are not known here."""
    from pydantic import TypeAdapter

    own = model.__pydantic_decorators__
    if model.__name__ in _ANY or own.field_validators or set(own.model_validators) != _RULES:
        return None
    plan = _Plan()
    for name, found in model.model_fields.items():
        key, says = found.alias or name, found.json_schema_extra or {}
        if key in ("resourceType", "resource_type", "fhir_comments") or found.exclude:
            continue
        if found.is_required() or says.get("element_required"):
            plan.required.add(key)
        if choice := says.get("one_of_many"):
            names, _ = plan.choices.setdefault(choice, (set(), bool(says.get("one_of_many_required"))))
            names.add(key)
        if parts := _model_in(found.annotation):
            plan.parts[key] = parts
        else:
            kind: Any = Annotated[found.annotation, *found.metadata] if found.metadata else found.annotation
            plan.values[key] = TypeAdapter(kind).validate_python
    return plan


def _model_in(annotation: Any) -> Any:
    """The model of an element's parts; None for a primitive."""
    if hasattr(annotation, "get_model_klass"):
        return annotation.get_model_klass()
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
