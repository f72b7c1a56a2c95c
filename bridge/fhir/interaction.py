"""What a client asks to be written: the entries of a transaction Bundle, and what became of each (R4 http.html)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from bridge.errors import CodecError

Json = dict[str, Any]

TYPES = (
    *("Patient", "Encounter", "ServiceRequest", "Appointment", "Task", "ImagingStudy", "DiagnosticReport"),
    *("Observation", "Procedure", "DocumentReference", "Binary", "Practitioner", "Organization", "Location"),
    *("Device", "Endpoint", "Provenance", "AuditEvent", "Subscription"),
)
"""The types that the facade keeps."""

_URL = re.compile(r"([A-Z][A-Za-z]+)(?:/([A-Za-z0-9.-]{1,64}))?(?:\?(.+))?")
_VERSION = re.compile(r'(?:W/)?"?([^"]+)"?')


@dataclass(frozen=True, slots=True)
class Interaction:
    """One write. Without ``id`` and ``search`` a POST creates; ``search`` is the query of a conditional one."""

    method: Literal["POST", "PUT", "DELETE"]
    type: str
    id: str = ""
    search: str = ""
    """URL-encoded, what stands after ``?``."""
    if_none_exist: str = ""
    """URL-encoded query; a create only where nothing matches."""
    if_match: str = ""
    """The version that has to be there, bare."""
    if_none_match: str = ""
    """``*``: only where there is none."""
    resource: Json | None = None
    full_url: str = ""
    at: str = ""
    """Its place, for errors: ``Bundle.entry[2]``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an interaction."""

    status: Literal[200, 201, 204]
    type: str
    id: str = ""
    """Empty where a conditional delete found nothing."""
    version: str = ""
    modified: int = 0
    """Milliseconds since the epoch."""
    changed: bool = False
    """False where the resource already was as asked."""

    @property
    def location(self) -> str:
        """``Type/id/_history/version``."""
        return f"{self.type}/{self.id}/_history/{self.version}"


def interactions(bundle: Json) -> list[Interaction]:
    """The writes of a batch or transaction Bundle, in its sequence.

    Raises CodecError, with the element's path as ``at``, for an entry that is none: no request, another method (reads
    are requests of their own, patches come as updates), a URL of another shape, a body missing or of another type.
    """
    entries = bundle.get("entry", [])
    if bundle.get("resourceType") != "Bundle" or not isinstance(entries, list):
        raise CodecError("not a Bundle of entries", at="Bundle", fix="send a Bundle with `entry`")
    return [_interaction(entry, f"Bundle.entry[{index}]") for index, entry in enumerate(entries)]


def _interaction(entry: Any, at: str) -> Interaction:
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict):
        raise CodecError("an entry without a request", at=f"{at}.request", kind="required")
    method = request.get("method")
    if method not in ("POST", "PUT", "DELETE"):
        fix = "in a bundle, write with POST, PUT or DELETE; read by a request of its own"
        raise CodecError("this method is not done here", at=f"{at}.request.method", fix=fix, kind="unsupported")
    where = _URL.fullmatch(str(request.get("url", "")).lstrip("/"))
    if where is None:
        raise CodecError("not a URL of a resource", at=f"{at}.request.url", fix="write Type, Type/id or Type?search")
    kind, identifier, search = where[1], where[2] or "", where[3] or ""
    _check_url(method, kind, identifier, search, at)
    resource = entry.get("resource")
    if method != "DELETE":
        _check_body(resource, kind, identifier, at)
    return Interaction(
        method=method,
        type=kind,
        id=identifier,
        search=search,
        if_none_exist=str(request.get("ifNoneExist", "")).lstrip("?"),
        if_match=version_of(str(request.get("ifMatch", ""))),
        if_none_match=str(request.get("ifNoneMatch", "")),
        resource=resource if method != "DELETE" else None,
        full_url=str(entry.get("fullUrl", "")),
        at=at,
    )


def _check_url(method: str, kind: str, identifier: str, search: str, at: str) -> None:
    if kind not in TYPES:
        raise CodecError("this resource type is not kept here", at=f"{at}.request.url", kind="unsupported")
    aims = bool(identifier) + bool(search)
    if aims != (0 if method == "POST" else 1):
        fix = "POST to the type; PUT and DELETE name an id or a search"
        raise CodecError("the URL does not fit its method", at=f"{at}.request.url", fix=fix)


def _check_body(resource: Any, kind: str, identifier: str, at: str) -> None:
    if not isinstance(resource, dict):
        raise CodecError("a write without a resource", at=f"{at}.resource", kind="required")
    if resource.get("resourceType") != kind:
        raise CodecError("the resource is not of the URL's type", at=f"{at}.resource.resourceType")
    if identifier and resource.get("id") != identifier:
        raise CodecError("the resource's id is not the URL's", at=f"{at}.resource.id", fix="write the URL's id there")


def version_of(etag: str) -> str:
    """The bare version of an entity tag: ``W/"3"`` is 3. Empty for an empty one."""
    tag = _VERSION.fullmatch(etag.strip())
    return tag[1] if tag else ""
