"""FHIR R4 transaction bundles: built from entries, and every resource checked.

Pure: the same entries give the same bytes. What is compared with the server before it goes out: ``fhir_plan.py``.

A bundle is a list of :class:`Entry`. One entry names another of the same bundle by ``{"reference": "entry:<name>"}``.
Resources are checked against the R4B (4.3.0) models of ``fhir.resources``; the resources written here are the same in
R4 (4.0.1). See docs/fhir.md.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Literal
from urllib.parse import quote

from bridge.errors import CodecError, MappingError

_NAMESPACE = uuid.UUID("6f1d5a0e-6a0b-5c0e-9d7c-2f6a8b1f4c3d")
_REFERENCE = "entry:"
_NUMBER = "\x00"
_MARKED = '"\\u0000'
_NUMBER_MARK = re.compile(r'"\\u0000([^"\\]+)\\u0000"')
_SPECIAL = re.compile(r"([\\$,|])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


_At = tuple[str] | tuple["_At", str | int]
"""A place in a resource: its type, and step by step what is below."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of a transaction."""

    name: str
    """Local name, unique in the bundle: what ``entry:<name>`` references point at, and what errors say."""
    resource: dict[str, Any]
    """The resource as JSON values; numbers as int or Decimal (kept as written). Empty values are left out."""
    write: Literal["create", "update"]
    """``create``: only if no resource matches; ``update``: create, or replace the one that matches."""
    match: str
    """The search that finds the resource by business identifier: ``identifier=<token>``, not URL-encoded; several
    tokens, separated by commas, mean any of them. Tokens are made by :func:`token`."""


def token(system: str, value: str) -> str:
    """A search token ``system|value`` with FHIR's own escapes (R4 search, 3.1.1.3.1); for :attr:`Entry.match`.

    Raises MappingError without a system: a bare value matches every system's identifiers.
    """
    if not system or not value:
        raise MappingError("an identifier to match by needs a system and a value", fix="name its assigning authority")
    return f"{_escape(system)}|{_escape(value)}"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text) if _SPECIAL.search(text) else text


def full_url(resource_type: str, match: str) -> str:
    """The ``urn:uuid:`` that stands for this resource inside a bundle: the same for the same type and ``match``."""
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{resource_type}?{match}')}"


def build_bundle(entries: Iterable[Entry]) -> bytes:
    """A transaction Bundle, UTF-8 JSON; entries keep their sequence.

    ``create`` becomes POST with ifNoneExist, ``update`` becomes PUT on the search. A ``create`` of what an earlier
    entry is about adds nothing. Raises MappingError, with the element's path as ``at``, for a resource that R4 does not
    allow, a reference to no entry, and two entries that write the same resource.
    """
    urls: dict[str, str] = {}
    wanted: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in urls:
            raise MappingError("two entries have one name", at=entry.name)
        url = urls[entry.name] = full_url(str(entry.resource.get("resourceType")), entry.match)
        if wanted.setdefault(url, entry) is not entry and entry.write == "update":
            raise MappingError("two entries write the same resource", at=entry.name, fix="make `match` tell them apart")
    if not wanted:
        raise MappingError("the mapping made no resource", fix="check its `when` conditions")
    made = [_entry(entry, urls) for entry in wanted.values()]
    return encode({"resourceType": "Bundle", "type": "transaction", "entry": made})


def _entry(entry: Entry, urls: Mapping[str, str]) -> dict[str, Any]:
    resource = _clean(entry.resource, (str(entry.resource.get("resourceType")),), urls)
    validate(resource)
    kind = resource["resourceType"]
    parameter, _, value = entry.match.partition("=")
    if parameter != "identifier" or not value:
        raise MappingError("`match` is not an identifier search", at=entry.name, fix="write identifier=system|value")
    query = f"{parameter}={quote(value, safe='')}"
    if entry.write == "create":
        request = {"method": "POST", "url": kind, "ifNoneExist": query}
    else:
        request = {"method": "PUT", "url": f"{kind}?{query}"}
    return {"fullUrl": urls[entry.name], "resource": resource, "request": request}


def _clean(value: Any, at: _At, urls: Mapping[str, str]) -> Any:
    """``value`` without what is empty, references resolved; None when nothing is left."""
    if isinstance(value, str):
        if not value.isprintable() and _CONTROL.search(value):
            raise MappingError("a control character, which FHIR does not allow", at=_written(at), kind="datatype")
        return value or None
    if isinstance(value, dict):
        target = value.get("reference")
        if isinstance(target, str) and target.startswith(_REFERENCE):
            name = target.removeprefix(_REFERENCE)
            if name not in urls:
                fix = "name one that is made"
                raise MappingError(f"no entry is called `{name}`", at=f"{_written(at)}.reference", fix=fix)
            value = {**value, "reference": urls[name]}
        kept = {}
        for key, item in value.items():
            cleaned = _clean(item, (at, key), urls)
            if cleaned is not None:
                kept[key] = cleaned
        return kept or None
    if isinstance(value, list | tuple):
        items = [_clean(item, (at, index), urls) for index, item in enumerate(value)]
        return [item for item in items if item is not None] or None
    return value


def _written(at: _At) -> str:
    """A place in a resource as :func:`_path` writes it."""
    location: list[str | int] = []
    while len(at) == 2:
        at, step = at
        location.insert(0, step)
    return _path(at[0], location)


def encode(value: Any) -> bytes:
    """JSON in UTF-8; a Decimal keeps its digits (``12.50`` stays ``12.50``)."""

    def mark(item: Any) -> str:
        if isinstance(item, Decimal):
            return f"{_NUMBER}{item}{_NUMBER}"
        raise TypeError(type(item).__name__)

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=mark)
    return (_NUMBER_MARK.sub(r"\1", text) if _MARKED in text else text).encode()


def decode(data: bytes) -> dict[str, Any]:
    """A JSON object as encode() writes it. Raises CodecError for anything else."""
    try:
        value = json.loads(data, parse_float=Decimal)
    except ValueError:
        raise CodecError("not JSON") from None
    if not isinstance(value, dict):
        raise CodecError("not a FHIR resource", fix="expected a JSON object")
    return value


_STATUS = {
    "DiagnosticReport": "registered partial preliminary final amended corrected appended cancelled entered-in-error "
    "unknown",
    "Observation": "registered preliminary final amended corrected cancelled entered-in-error unknown",
    "Encounter": "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown",
}
"""Required value sets of ``status`` that the models abridge."""


def validate(resource: dict[str, Any]) -> None:
    """Check a resource against its R4B model and the required codes.

    Raises MappingError for the first fault: kind ``required``, ``code``, ``datatype`` or ``syntax``, ``at`` the
    element's path (``Patient.birthDate``).
    """
    from pydantic import ValidationError

    kind = str(resource.get("resourceType"))
    try:
        model = _model(kind).model_validate(resource)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        what, problem = _PROBLEMS.get(first["type"], ("the value is not of its type", "datatype"))
        raise MappingError(what, at=_path(kind, first["loc"]), fix="see the mapping's target", kind=problem) from None
    _check_codes(model, resource, kind)


_PROBLEMS = {
    "missing": ("a required element is missing", "required"),
    "model_field_validation.missing": ("a required element is missing", "required"),
    "extra_forbidden": ("the resource has no such element", "syntax"),
}


def _path(kind: str, location: Iterable[str | int]) -> str:
    return kind + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


@cache
def _model(kind: str) -> Any:
    from fhir.resources.R4B import get_fhir_model_class

    try:
        return get_fhir_model_class(kind)
    except (KeyError, ValueError):
        raise MappingError("no R4 resource has this name", at="resourceType", kind="code") from None


@cache
def _attributes(model: Any) -> dict[str, tuple[str, frozenset[str]]]:
    """Element -> the model's attribute for it, and its required codes (empty: none)."""
    found = {}
    for name, field in model.model_fields.items():
        codes = (field.json_schema_extra or {}).get("enum_values") or []
        if "+" in codes:
            codes = _STATUS.get(model.__name__, "").split() if name == "status" else []
        found[field.alias or name] = (name, frozenset(codes))
    return found


def _check_codes(model: Any, raw: dict[str, Any], at: str) -> None:
    """What the models let pass: codes outside required value sets, numbers written as text."""
    attributes = _attributes(model.__class__)
    for key, value in raw.items():
        if key == "resourceType":
            continue
        name, codes = attributes[key]
        if codes and value not in codes:
            what = "the code is not in its required value set"
            raise MappingError(what, at=f"{at}.{key}", fix="mend the table", kind="code")
        parsed = getattr(model, name)
        if isinstance(value, str):
            if isinstance(parsed, Decimal | int | float):
                raise MappingError("a number or boolean is written as text", at=f"{at}.{key}", kind="datatype")
        elif isinstance(value, dict):
            _check_codes(parsed, value, f"{at}.{key}")
        elif isinstance(value, list) and isinstance(value[0], dict):
            for index, item in enumerate(value):
                _check_codes(parsed[index], item, f"{at}.{key}[{index}]")
