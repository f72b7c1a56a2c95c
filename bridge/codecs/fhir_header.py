"""The header of a FHIR message: what the engine stores, routes and sequences by, read without a mapping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from bridge.codecs.fhir_fields import Site, issuer_of
from bridge.codecs.fhir_models import RESOURCES
from bridge.codecs.fhir_view import Json, listed, referred
from bridge.errors import CodecError
from bridge.message import Header

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PATIENT = ("subject", "patient", "for", "beneficiary", "individual")
_ORDERED = ("basedOn", "focus", "replaces")
_ORDERS = {"PLAC": "placer", "FILL": "filler"}
_ACCESSION = "ACSN"
_DEEPEST = 100
"""Levels of lists and objects in a message."""


def read_header(document: Json, entries: list[Json]) -> Header:
    """The header of a message with these entries. Raises CodecError for what is nested too deeply."""
    resources = [entry["resource"] for entry in entries if "resource" in entry]
    return Header(
        type=_type(document, entries),
        control_id=_control_id(document, resources),
        sender=_sender(resources),
        charset="utf-8",
        patients=patients_of(resources, {}),
        orders=orders_of(resources, {}),
        accession=next((one for resource in resources for one in _accessions(resource)), ""),
        digest=blake2b(_canonical(document), digest_size=16).digest(),
    )


def _type(document: Json, entries: list[Json]) -> str:
    if document["resourceType"] != "Bundle":
        return str(document["resourceType"])
    kind = document.get("type", "")
    request = entries[0].get("request", {}) if kind == "batch" and len(entries) == 1 else {}
    verb = _VERBS.get(str(request.get("method")), "")
    named = str(request.get("url", "")).partition("?")[0].partition("/")[0]
    if verb and named in RESOURCES:
        return f"{named}^{verb}"
    return f"Bundle^{_text(kind)}" if kind else "Bundle"


def _control_id(document: Json, resources: list[Json]) -> str:
    """Of the Bundle, of the MessageHeader that a message begins with, or the version of a resource alone as its server
    names it (``ServiceRequest/12/_history/3``); empty if the sender gave none."""
    meta = document.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    if document["resourceType"] != "Bundle" and version and document.get("id"):
        return _text(f"{document['resourceType']}/{document['id']}/_history/{version}")
    identifier = document.get("identifier") if document["resourceType"] == "Bundle" else None
    if isinstance(identifier, dict) and identifier.get("value"):
        return _text(identifier["value"])
    first = resources[0] if resources and resources[0]["resourceType"] == "MessageHeader" else {}
    return _text(first.get("id", ""))


def _sender(resources: list[Json]) -> str:
    first = resources[0] if resources and resources[0]["resourceType"] == "MessageHeader" else {}
    source = first.get("source")
    return _text(source.get("endpoint", "")) if isinstance(source, dict) else ""


def patients_of(resources: list[Json], site: Site) -> tuple[str, ...]:
    """``id^issuer`` of each identifier; of a patient who is not in the message, what a reference says: its identifier,
    else ``Patient/123^``."""
    found: dict[str, None] = {}
    present = {f"Patient/{one.get('id')}" for one in resources if one["resourceType"] == "Patient"}
    for resource in resources:
        given = []
        if resource["resourceType"] == "Patient":
            own = [named for one in identifiers(resource) if (named := key_of(one, site))]
            unnumbered = [f"Patient/{_text(resource['id'])}^"] if "id" in resource else []
            found |= dict.fromkeys(own or unnumbered)
            given += [one.get("other") for one in listed(resource.get("link")) if isinstance(one, dict)]
        given += [one for name in _PATIENT for one in listed(resource.get(name))]
        actors = [one.get("actor") for one in listed(resource.get("participant")) if isinstance(one, dict)]
        given += [one for one in actors if _is_of(one, "Patient")]
        for reference in given:
            if isinstance(reference, dict) and (named := _told(reference, site)) and named[:-1] not in present:
                found[named] = None
    return tuple(found)


def references_in(value: Any) -> Iterator[str]:
    """Every literal reference below a value, those of contained resources included."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from references_in(one)


def identifiers(resource: Json) -> list[Json]:
    """The identifiers of a resource."""
    return [one for one in listed(resource.get("identifier")) if isinstance(one, dict)]


def _told(reference: Json, site: Site) -> str:
    """Who a reference says that a patient is."""
    target = referred(reference.get("reference"))
    return key_of(reference.get("identifier"), site) or (f"{target}^" if target.startswith("Patient/") else "")


def _is_of(reference: Any, kind: str) -> bool:
    if not isinstance(reference, dict):
        return False
    return reference.get("type") == kind or str(reference.get("reference", "")).startswith(f"{kind}/")


def orders_of(resources: list[Json], site: Site) -> tuple[str, ...]:
    """``placer:number^issuer`` and ``filler:number^issuer`` of the orders that resources are or name."""
    return tuple(dict.fromkeys(one for resource in resources for one in _orders(resource, site)))


def _orders(resource: Json, site: Site) -> Iterator[str]:
    """``placer:number^issuer`` and ``filler:number^issuer``; an order's number of no type is its placer's."""
    own = resource["resourceType"] == "ServiceRequest"
    given = [*listed(resource.get("identifier")), *(listed(resource.get("requisition")) if own else ())]
    given += [one.get("identifier") for name in _ORDERED for one in listed(resource.get(name)) if isinstance(one, dict)]
    for one in given:
        kinds = _types(one)
        kind = next((_ORDERS[code] for code in kinds if code in _ORDERS), "placer" if own and not kinds else "")
        if kind and (named := key_of(one, site)):
            yield f"{kind}:{named}"


def _accessions(resource: Json) -> Iterator[str]:
    for one in listed(resource.get("identifier")):
        if _ACCESSION in _types(one) and one.get("value"):
            yield _text(one["value"])


def _types(identifier: Any) -> list[str]:
    kind = identifier.get("type") if isinstance(identifier, dict) else None
    codings = listed(kind.get("coding")) if isinstance(kind, dict) else []
    return [str(one.get("code")) for one in codings if isinstance(one, dict)]


def key_of(identifier: Any, site: Site) -> str:
    """``value^issuer``: as a header of HL7 has it, where the system is one that our mappings made of the issuer."""
    if not isinstance(identifier, dict) or not identifier.get("value"):
        return ""
    return f"{_text(identifier['value']).strip()}^{issuer_of(_text(identifier.get('system', '')), site)}"


def _text(value: Any) -> str:
    """Text that every database can hold: NUL as its picture."""
    return str(value).replace("\0", "\u2400")


def _canonical(document: Json) -> bytes:
    """The content without what a resend changes: ``meta.lastUpdated`` and ``Bundle.timestamp``."""
    kept = {key: value for key, value in document.items() if key != "timestamp"}
    text = json.dumps(_unstamped(kept), ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return text.encode()


def _unstamped(value: Any, level: int = 0) -> Any:
    if level > _DEEPEST:
        raise CodecError("nested too deeply", fix=f"send at most {_DEEPEST} levels")
    if isinstance(value, dict):
        meta = value.get("meta")
        if isinstance(meta, dict) and "lastUpdated" in meta:
            value = {**value, "meta": {key: one for key, one in meta.items() if key != "lastUpdated"}}
        return {key: _unstamped(one, level + 1) for key, one in value.items()}
    return [_unstamped(one, level + 1) for one in value] if isinstance(value, list) else value
