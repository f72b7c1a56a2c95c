"""One request to a ``fhir-server`` and its answer: what was asked, and how FHIR JSON goes out (R4 http.html)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import Response

from bridge.codecs.fhir import encode
from bridge.errors import BridgeError
from bridge.fhir import media, outcome
from bridge.fhir.rights import Forbidden
from channels.fhir_access import Caller

PAIR = tuple[str, str]


@dataclass(slots=True)
class Asked:
    """What a client asked."""

    method: str
    kind: str
    """The resource type in the URL; empty for what is of the whole system."""
    id: str
    version: str
    query: list[PAIR]
    search: str
    """The query as it stands in the URL."""
    headers: Headers
    body: bytes
    base: str
    """Absolute URL of the service, without a slash at its end."""
    path: str
    """What follows the base."""
    peer: str
    caller: Caller
    prefer: media.Prefer = field(default_factory=media.Prefer)
    shown: list[PAIR] = field(default_factory=list)
    """Type and id of what goes out or was written, for the record of this access."""
    searched: list[PAIR] = field(default_factory=list)
    """What was looked for; the same."""
    told: list[BridgeError] = field(default_factory=list)
    """Of what was written: what profiles say of it, though it is taken."""

    @property
    def pretty(self) -> bool:
        return ("_pretty", "true") in self.query

    @property
    def request_id(self) -> str:
        """X-Request-Id, apart for each client: another's answer is not for this one."""
        given = self.header("x-request-id")
        return f"{self.caller.client}:{given}" if given and self.caller.client else given

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def url(self, kind: str, identifier: str) -> str:
        return f"{self.base}/{kind}/{identifier}"

    def link(self, query: Sequence[PAIR]) -> str:
        """This request's URL with another query."""
        text = urlencode(query)
        return f"{self.base}/{self.path}?{text}" if text else f"{self.base}/{self.path}"


def pairs(text: str) -> list[PAIR]:
    """A query or form, decoded. Raises BridgeError for more than a thousand parameters."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise BridgeError("too many parameters", at="http.query", fix="send fewer", kind="search") from None


def moment(millis: int) -> str:
    """A FHIR instant."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told(
    content: bytes | Mapping[str, Any] | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    pretty: bool = False,
) -> Response:
    """An answer in FHIR JSON; without content, none."""
    if content is None:
        return Response(status_code=status, headers=dict(headers or {}))
    if not isinstance(content, bytes):
        content = encode(dict(content), pretty=pretty)
    elif pretty:
        content = encode(json.loads(content, parse_float=Decimal), pretty=True)
    return Response(content, status, dict(headers or {}), media_type=f"{media.FHIR}; charset=utf-8")


def problem(error: BridgeError, *, pretty: bool = False) -> Response:
    """An error as OperationOutcome, with its status."""
    status = outcome.status_of(error)
    headers = dict(error.headers) if isinstance(error, outcome.HttpFault) else {}
    if isinstance(error, Forbidden) and error.scope:
        headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.scope}"'
    if status == 503:
        headers["Retry-After"] = str(round(getattr(error, "retry_after", None) or 5))
    return told(outcome.outcome(error), status=status, headers=headers, pretty=pretty)


def stamps(version: str, modified: int) -> dict[str, str]:
    """The headers that name a version."""
    return {"ETag": media.etag(version), "Last-Modified": media.http_date(modified)}


def bundle(
    asked: Asked, kind: str, entries: Sequence[bytes], links: Mapping[str, str], total: int | None = None
) -> Response:
    """A Bundle of entries that are JSON already."""
    head: dict[str, Any] = {"resourceType": "Bundle", "type": kind, "timestamp": moment(_now()), "total": total}
    head["link"] = [{"relation": relation, "url": url} for relation, url in links.items()]
    text = encode({key: value for key, value in head.items() if value is not None and value != []})
    if entries:
        text = text[:-1] + b',"entry":[' + b",".join(entries) + b"]}"
    return told(text, pretty=asked.pretty)


def entry(parts: Mapping[str, Any], resource: bytes = b"") -> bytes:
    """One entry of a Bundle, its resource as it is stored."""
    text = encode(dict(parts))
    return text[:-1] + b',"resource":' + resource + b"}" if resource else text


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
