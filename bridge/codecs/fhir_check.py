"""Whether a FHIR resource is one: elements, cardinality, JSON types, value formats, choices and required codes.

Checked with the models of ``fhir.resources``. That package has R4B (4.3.0) and no R4 (4.0.1): where the two differ for
the types that are served or written here, what R4 has goes (:data:`_CODES`, :data:`_ONLY_R4B`, ``valueMeta``). R5 is
5.0.0. Invariants: ``fhir_rules.py``; profiles: ``fhir_profile.py``. Codes of bindings that are not required are not
checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Literal, get_args, get_origin

from bridge.codecs import fhir_rules
from bridge.codecs.fhir_sure import surely_valid
from bridge.errors import MappingError

Release = Literal["R4", "R5"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")
"""What may be an element's name; anything else might be content."""
MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:;[ -~]*)?")
_NUMBER = (int, Decimal, float)
_COMPARATORS = "< <= >= >"
_CODES = {
    "DiagnosticReport.status": "registered partial preliminary final amended corrected appended cancelled "
    "entered-in-error unknown",
    "Observation.status": "registered preliminary final amended corrected cancelled entered-in-error unknown",
    "Encounter.status": "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown",
    "EncounterStatusHistory.status": "planned arrived triaged in-progress onleave finished cancelled entered-in-error "
    "unknown",
    "Task.status": "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed "
    "entered-in-error",
    **{f"{kind}.comparator": _COMPARATORS for kind in ("Quantity", "Age", "Count", "Distance", "Duration")},
    "TimingRepeat.when": "MORN MORN.early MORN.late NOON AFT AFT.early AFT.late EVE EVE.early EVE.late NIGHT PHS HS "
    "WAKE C CM CD CV AC ACM ACD ACV PC PCM PCD PCV",
    "DeviceUdiCarrier.entryType": "barcode rfid manual card self-reported unknown",
    "AuditEvent.action": "C R U D E",
    "AuditEvent.outcome": "0 4 8 12",
    "OperationOutcomeIssue.code": "invalid structure required value invariant security login unknown expired forbidden "
    "suppressed processing not-supported duplicate multiple-matches not-found deleted too-long code-invalid extension "
    "too-costly business-rule conflict transient lock-error no-store exception timeout incomplete throttled "
    "informational",
    "AuditEventAgentNetwork.type": "1 2 3 4 5",
}
"""Required value sets of R4 that the models abridge, or leave out."""
_ONLY_R4B = {"Extension": {"valueCodeableReference", "valueRatioRange"}}
"""Elements that came with R4B."""


@dataclass(frozen=True, slots=True)
class Element:
    """What may stand in a resource under one name."""

    repeats: bool
    parts: Any
    """The model of what is in it; None for a primitive."""
    json: tuple[type, ...]
    codes: frozenset[str]
    required: bool = False
    pattern: re.Pattern[str] | None = None
    """Of a value whose format the models do not know."""
    field: Any = None
    """The model's own description of it."""


def validate(resource: dict[str, Any]) -> None:
    """Raises MappingError for the first fault of an R4 resource that a mapping made."""
    for fault in faults(resource):
        fix = "mend the table" if fault.kind == "code" else "see the mapping's target"
        raise MappingError(fault.what, at=fault.at, fix=fix, kind=fault.kind)


def faults(resource: dict[str, Any], release: Release = "R4") -> list[MappingError]:
    """All that is wrong with a resource: kind ``required``, ``code``, ``datatype`` or ``syntax``, ``at`` the element's
    path (``Patient.name[0].use``). Values are judged where every element is one that the type has."""
    kind = resource.get("resourceType")
    model = _resource(kind, release) if isinstance(kind, str) else None
    if model is None:
        what = f"no {release} resource has this name" if kind else "there is no resourceType"
        return [MappingError(what, at="resourceType", kind="code" if kind else "required")]
    return (
        list(_shape(model, resource, str(kind), release))
        or list(_values(model, resource, str(kind)))
        or [MappingError(f"{one.what} ({one.rule})", at=one.at) for one in fhir_rules.broken(resource)]
    )


def load(kinds: Iterable[str], release: Release) -> None:
    """Have all ready that judging resources of these types needs: it takes a second, once."""
    for kind in kinds:
        faults({"resourceType": kind}, release)


def path(kind: str, location: Iterable[str | int]) -> str:
    """``Patient``, ``name``, 0, ``use`` -> ``Patient.name[0].use``."""
    return kind + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def repeats(kind: str, place: Iterable[str | int], release: Release = "R4") -> bool:
    """Whether the element at this place in a resource is a list; False for one that the type does not have."""
    model, element = _resource(kind, release), None
    for step in place:
        if isinstance(step, str):
            element = elements(model, release).get(step) if model is not None else None
            model = element.parts if element else None
    return element is not None and element.repeats


def _values(model: Any, resource: dict[str, Any], kind: str) -> Iterator[MappingError]:
    """What the models find."""
    from pydantic import ValidationError

    if surely_valid(model, resource):
        return
    try:
        model.model_validate(resource)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False, include_context=False):
            if one["type"] == "extra_forbidden":  # R4's valueMeta, the only element that _shape() takes and they lack
                continue
            what, problem = _PROBLEMS.get(one["type"], ("the value is not of its type", "datatype"))
            yield MappingError(what, at=path(kind, one["loc"]), kind=problem)


_PROBLEMS = {
    "missing": ("a required element is missing", "required"),
    "model_field_validation.missing": ("a required element is missing", "required"),
}


def _shape(model: Any, raw: dict[str, Any], at: str, release: Release) -> Iterator[MappingError]:
    """What the models let pass, or choke on: unknown, empty and single or repeated elements, JSON types, codes."""
    known = elements(model, release)
    for key, value in raw.items():
        if key == "resourceType":
            continue
        here = f"{at}.{key}"
        element = known.get(key)
        if element is None:
            named = here if _NAME.fullmatch(key) else at
            yield MappingError("the resource has no such element", at=named, kind="syntax")
        elif element.repeats is not isinstance(value, list):
            what = "the element repeats: write an array" if element.repeats else "the element does not repeat"
            yield MappingError(what, at=here, kind="syntax")
        elif not element.repeats:
            yield from _item(element, value, here, release)
        elif not value:
            yield MappingError("an empty array, which FHIR does not allow", at=here, kind="syntax")
        else:
            for index, item in enumerate(value):
                if item is not None or not _sibling(raw, key, index):
                    yield from _item(element, item, f"{here}[{index}]", release)


def _sibling(raw: dict[str, Any], key: str, index: int) -> bool:
    """Whether an item that is null has its value, or what extends it, in the other array of a repeated primitive."""
    other = raw.get(key[1:] if key.startswith("_") else f"_{key}")
    return isinstance(other, list) and len(other) > index and other[index] is not None


def _item(element: Element, value: Any, at: str, release: Release) -> Iterator[MappingError]:
    if element.parts is not None:
        if not isinstance(value, dict) or not value:
            yield MappingError("not an object with elements", at=at, kind="syntax")
        else:
            yield from _parts(element.parts, value, at, release)
    elif not isinstance(value, element.json) or (isinstance(value, bool) and bool not in element.json):
        yield MappingError(f"the value is not {_TYPES[element.json]}", at=at, kind="datatype")
    elif element.codes and value not in element.codes:
        yield MappingError("the code is not in its required value set", at=at, kind="code")
    elif element.pattern and isinstance(value, str) and not element.pattern.fullmatch(value):
        yield MappingError("the value is not of its type", at=at, kind="datatype")
    elif isinstance(value, str) and (not value or (not value.isprintable() and _CONTROL.search(value))):
        what = "a control character, which FHIR does not allow" if value else "an empty value"
        yield MappingError(what, at=at, kind="datatype")


_TYPES = {(bool,): "a boolean", (int,): "a whole number", _NUMBER: "a number", (str,): "text"}


def _parts(model: Any, value: dict[str, Any], at: str, release: Release) -> Iterator[MappingError]:
    if model.__name__ == "Resource":
        kind = value.get("resourceType")
        model = _resource(kind, release) if isinstance(kind, str) else None
        if model is None:
            what = f"no {release} resource has this name"
            yield MappingError(what, at=f"{at}.resourceType", kind="code")
            return
    elif "resourceType" in value:
        yield MappingError("the element has no resourceType", at=f"{at}.resourceType", kind="syntax")
    yield from _shape(model, value, at, release)


@cache
def _resource(kind: str, release: Release) -> Any:
    """The model of a resource type; None if there is no such type."""
    try:
        found = model_of(kind, release)
    except (KeyError, ValueError, AttributeError):
        return None
    return found if issubclass(found, model_of("Resource", release)) else None


def model_of(kind: str, release: Release) -> Any:
    """The model of a resource or data type. Raises KeyError for a name that is none."""
    if release == "R4":
        from fhir.resources.R4B import get_fhir_model_class
    else:
        from fhir.resources import get_fhir_model_class
    return get_fhir_model_class(kind)


@cache
def elements(model: Any, release: Release) -> dict[str, Element]:
    """Every element of a model, by the name that it has in JSON."""
    found = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in ("resourceType", "resource_type", "fhir_comments") or field.exclude:
            continue
        listed, parts = _annotation(field.annotation)
        listed_codes = (field.json_schema_extra or {}).get("enum_values") or []
        codes = [] if {"+", "mime"} & set(listed_codes) else listed_codes
        if release == "R4":
            codes = _CODES.get(f"{model.__name__}.{key}", "").split() or codes
        required = field.is_required() or bool((field.json_schema_extra or {}).get("element_required"))
        json_types = _json(field.annotation)
        pattern = MEDIA_TYPE if (model.__name__, key) == ("Binary", "contentType") else None
        found[key] = Element(listed, parts, json_types, frozenset(codes), required, pattern, field)
    if release == "R4":
        for key in _ONLY_R4B.get(model.__name__, ()):
            found.pop(key, None)
        if model.__name__ == "Extension":
            found["valueMeta"] = Element(False, model_of("Meta", release), (), frozenset())
    return found


def _annotation(annotation: Any) -> tuple[bool, Any]:
    """Whether an element repeats, and the model of its parts."""
    if hasattr(annotation, "get_model_klass"):
        return False, annotation.get_model_klass()
    listed, parts = get_origin(annotation) is list, None
    for inner in get_args(annotation):
        deeper, found = _annotation(inner)
        listed, parts = listed or deeper, parts or found
    return listed, parts


def _json(annotation: Any) -> tuple[type, ...]:
    """How a primitive is written in JSON."""
    leaves = set(_leaves(annotation))
    if bool in leaves:
        return (bool,)
    if int in leaves:
        return (int,)
    return _NUMBER if Decimal in leaves else (str,)


def _leaves(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type):
        yield annotation
    for inner in get_args(annotation):
        yield from _leaves(inner)
