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
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

from bridge.codecs import fhir_check
from bridge.errors import CodecError, MappingError

REOPENS = "urn:radbridge:reopens"
"""Extension of an entry's request: the resource's status may go back. Only ``fhir_plan`` reads it; it never leaves."""
WHOLE = "urn:radbridge:whole"
"""The same for an element of which the entry says all."""
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
    tokens, separated by commas, mean any of them. Tokens are made by :func:`token`. Empty for a Provenance, which has
    no identifier: it is made with what it is about."""
    reopens: bool = False
    """Whether it undoes something: its status may go back (see ``fhir_changes.CHANGES``)."""
    whole: tuple[str, ...] = ()
    """Elements of which it says all: where it has none, none may stay."""
    join: bool = False
    """Whether it is joined to an earlier entry that writes the same resource: a step of the same order."""


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
    entry is about adds nothing; one with ``join`` adds what that one lacks. Raises MappingError, with the element's
    path as ``at``, for a resource that R4 does not allow, a reference to no entry, and two entries that write the same
    resource.
    """
    urls: dict[str, str] = {}
    wanted: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in urls:
            raise MappingError("two entries have one name", at=entry.name)
        url = urls[entry.name] = full_url(str(entry.resource.get("resourceType")), entry.match)
        first = wanted.setdefault(url, entry)
        if first is not entry and entry.join:
            wanted[url] = replace(first, resource=_joined(first.resource, entry.resource))
        elif first is not entry and entry.write == "update":
            raise MappingError("two entries write the same resource", at=entry.name, fix="make `match` tell them apart")
    if not wanted:
        raise MappingError("the mapping made no resource", fix="check its `when` conditions")
    made = [_entry(entry, urls) for entry in wanted.values()]
    return encode({"resourceType": "Bundle", "type": "transaction", "entry": made})


def _joined(first: Any, second: Any) -> Any:
    """``first`` with the elements, and the items of lists, that only ``second`` has."""
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: _joined(first[key], second[key]) if isinstance(first[key], list) else first[key]
                for key in first.keys() & second.keys()}  # fmt: skip
        return {**second, **first, **both}
    return [*first, *(one for one in second if one not in first)] if isinstance(second, list) else first


def _entry(entry: Entry, urls: Mapping[str, str]) -> dict[str, Any]:
    resource = _clean(entry.resource, (str(entry.resource.get("resourceType")),), urls)
    fhir_check.validate(resource)
    kind = resource["resourceType"]
    if kind == "Provenance" and not entry.match:
        return {"fullUrl": urls[entry.name], "resource": resource, "request": {"method": "POST", "url": kind}}
    parameter, _, value = entry.match.partition("=")
    if parameter != "identifier" or not value:
        raise MappingError("`match` is not an identifier search", at=entry.name, fix="write identifier=system|value")
    query = f"{parameter}={quote(value, safe='')}"
    if entry.write == "create":
        request: dict[str, Any] = {"method": "POST", "url": kind, "ifNoneExist": query}
    else:
        request = {"method": "PUT", "url": f"{kind}?{query}"}
    said: list[dict[str, Any]] = [{"url": WHOLE, "valueCode": name} for name in entry.whole]
    said += [{"url": REOPENS, "valueBoolean": True}] if entry.reopens else []
    if said:
        request["extension"] = said
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
    """A place in a resource as :func:`bridge.codecs.fhir_check.path` writes it."""
    location: list[str | int] = []
    while len(at) == 2:
        at, step = at
        location.insert(0, step)
    return fhir_check.path(at[0], location)


def encode(value: Any, *, pretty: bool = False) -> bytes:
    """JSON in UTF-8, for people on lines of its own; a Decimal keeps its digits (``12.50`` stays ``12.50``)."""

    def mark(item: Any) -> str:
        if isinstance(item, Decimal):
            return f"{_NUMBER}{item}{_NUMBER}"
        raise TypeError(type(item).__name__)

    looks: dict[str, Any] = {"indent": 2} if pretty else {"separators": (",", ":")}
    text = json.dumps(value, ensure_ascii=False, default=mark, **looks)
    return (_NUMBER_MARK.sub(r"\1", text) if _MARKED in text else text).encode()


def decode(data: bytes) -> dict[str, Any]:
    """A JSON object as encode() writes it. Raises CodecError for anything else."""
    try:
        value = json.loads(data, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise CodecError("not JSON") from None
    if not isinstance(value, dict):
        raise CodecError("not a FHIR resource", fix="expected a JSON object")
    return value
