"""Pages of a search (Bundle of type searchset): each resource with its bytes as the server wrote them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.errors import CodecError

Json = dict[str, Any]
_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Found:
    """One resource of a page."""

    resource: Json
    raw: bytes
    """Its bytes, cut out of the page."""
    url: str
    """The entry's fullUrl; empty if the server gives none."""
    included: bool
    """It came along with a match."""

    @property
    def name(self) -> str:
        """``ServiceRequest/12``."""
        return f"{self.resource.get('resourceType')}/{self.resource.get('id')}"

    @property
    def version(self) -> str:
        return str(_meta(self.resource).get("versionId", ""))

    @property
    def updated(self) -> datetime | None:
        """``meta.lastUpdated``; None if the server does not tell it."""
        try:
            stamp = datetime.fromisoformat(str(_meta(self.resource).get("lastUpdated")))
        except ValueError:
            return None
        return stamp.astimezone(UTC) if stamp.tzinfo else None


@dataclass(frozen=True, slots=True)
class Page:
    matches: Sequence[Found]
    included: Sequence[Found]
    following: str
    """Address of the next page as the server gives it; empty on the last one."""
    total: int | None
    """How many matches the search has, if the server tells."""


def read_page(raw: bytes, kind: str) -> Page:
    """A page of a search for resources of type ``kind``. Raises CodecError for what is no searchset."""
    try:
        return _page(raw.decode("utf-8-sig"), kind)
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError):
        fix = "check `base_url` and `search`, and see the server's log"
        raise CodecError("the answer is no Bundle of search results", fix=fix) from None


def _page(text: str, kind: str) -> Page:
    bundle = json.loads(text)
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "searchset":
        raise ValueError
    found, total = list(_found(text, kind)), bundle.get("total")
    return Page(
        matches=[one for one in found if not one.included],
        included=[one for one in found if one.included],
        following=next((str(one["url"]) for one in bundle.get("link", []) if one.get("relation") == "next"), ""),
        total=total if isinstance(total, int) else None,
    )


def collection(match: Found, included: Sequence[Found]) -> bytes:
    """A Bundle of a match and of what it refers to among ``included``, directly or through another; every resource's
    bytes as they came. Identified by the match's version."""
    by_name = {name: one for one in included for name in (one.name, one.url) if name}
    wanted, left = {match.name: match}, [match]
    while left:
        for reference in _references(left.pop().resource):
            one = by_name.get(reference) or by_name.get(reference.partition("/_history/")[0])
            if one and one.name not in wanted:
                wanted[one.name] = one
                left.append(one)
    identifier = {"system": "urn:ietf:rfc:3986", "value": f"{match.name}/_history/{match.version}"}
    head = json.dumps({"resourceType": "Bundle", "identifier": identifier, "type": "collection"})
    return head[:-1].encode() + b', "entry": [' + b", ".join(map(_entry, wanted.values())) + b"]}"


def _entry(one: Found) -> bytes:
    url = f'"fullUrl": {json.dumps(one.url)}, ' if one.url else ""
    return f'{{{url}"resource": '.encode() + one.raw + b"}"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "reference" and isinstance(one, str):
                yield one
            else:
                yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _meta(resource: Json) -> Json:
    meta = resource.get("meta")
    return meta if isinstance(meta, dict) else {}


def _found(text: str, kind: str) -> Iterator[Found]:
    for key, start, _ in _members(text, _skip(text, 0)):
        if key == "entry":
            for at, _ in _items(text, start):
                yield from _resource(text, at, kind)


def _resource(text: str, at: int, kind: str) -> Iterator[Found]:
    parts = {key: (start, end) for key, start, end in _members(text, at)}
    if "resource" in parts:
        start, end = parts.pop("resource")
        rest = {key: json.loads(text[begin:stop]) for key, (begin, stop) in parts.items()}
        search = rest.get("search")
        mode = search.get("mode") if isinstance(search, dict) else None
        resource = json.loads(text[start:end])
        included = mode != "match" if mode else resource.get("resourceType") != kind
        yield Found(resource, text[start:end].encode(), str(rest.get("fullUrl", "")), included)


def _members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of each value of the object at ``at``, in valid JSON."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        end = _DECODER.raw_decode(text, start)[1]
        yield name, start, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _items(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Start and end of each item of the array at ``at``, in valid JSON."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        yield at, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
