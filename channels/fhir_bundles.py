"""Transactions and batches (R4 http.html 3.1.0.11): a transaction is one message, of a batch each write is one."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import Response

from bridge.codecs.fhir import encode
from bridge.errors import BridgeError, CodecError
from bridge.fhir import media, outcome
from bridge.fhir.interaction import interactions
from channels.fhir_exchange import Asked, bundle, entry, moment
from channels.fhir_writes import Writes

Handle = Callable[[Asked], Awaitable[Response]]
"""Answers one request; never raises."""
Json = dict[str, Any]

_IN_A_RESOURCE = re.compile(r"Bundle\.entry\[\d+\]\.resource\b")
_SINGLE = ("ifMatch", "ifNoneMatch", "ifModifiedSince", "ifNoneExist")
_HEADERS = ("if-match", "if-none-match", "if-modified-since", "if-none-exist")
_OWN = frozenset({*_HEADERS, "content-type", "content-length", "content-encoding", "x-request-id", "accept"})


@dataclass(frozen=True, slots=True)
class Bundles:
    writes: Writes
    handle: Handle
    """Answers an entry as a request of its own."""

    async def take(self, asked: Asked) -> Response:
        """POST [base]."""
        media.check_content(asked.header("content-type"), self.writes.release)
        value, faults = await self.writes.checked(asked, asked.body)
        kind = value.get("type") if isinstance(value, dict) and value.get("resourceType") == "Bundle" else ""
        if kind == "transaction":
            return await self._transaction(asked, value, faults)
        if kind == "batch":  # what is wrong in a resource is told of its own entry
            faults = [one for one in faults if not _IN_A_RESOURCE.match(one.at)]
        if kind == "batch" and not faults:
            return await self._batch(asked, value)
        if faults:
            await self.writes.submit(asked, asked.body, outcome.RefusedResource(faults))
        raise CodecError("not a transaction or batch", at="Bundle.type", fix="post a Bundle of one of these types")

    async def _batch(self, asked: Asked, value: Json) -> Response:
        answers = []
        for number, one in enumerate(value.get("entry", [])):
            response = await self.handle(_request(asked, one, number))
            answers.append(_answer(response.status_code, response.headers, bytes(response.body)))
        return bundle(asked, "batch-response", answers, {})

    async def _transaction(self, asked: Asked, value: Json, faults: list[BridgeError]) -> Response:
        """Writes in one go; then the reads, which see them."""
        entries = value.get("entry", [])
        written = [number for number, one in enumerate(entries) if _method(one) not in ("GET", "HEAD")]
        wanted: Any
        try:
            if faults:
                raise outcome.RefusedResource(faults)
            found = interactions({**value, "entry": [entries[number] for number in written]})
            wanted = [replace(one, at=f"Bundle.entry[{at}]") for one, at in zip(found, written, strict=True)]
            for one in wanted:
                asked.caller.check("write", one.type)
        except BridgeError as error:
            wanted = error
        done = await self.writes.submit(asked, _identified(asked), wanted)
        outcomes = dict(zip(written, done, strict=True))
        answers = []
        for number, one in enumerate(entries):
            if number in outcomes:
                response = await self.writes.answer(asked, outcomes[number])
            else:
                response = await self.handle(_request(asked, one, number))
            answers.append(_answer(response.status_code, response.headers, bytes(response.body)))
        return bundle(asked, "transaction-response", answers, {})


def _method(one: Any) -> str:
    return str(one.get("request", {}).get("method", ""))


def _request(asked: Asked, one: Json, number: int) -> Asked:
    """An entry as the request that it stands for."""
    request = one.get("request", {})
    url = str(request.get("url", "")).removeprefix(asked.base).lstrip("/")
    path, _, search = url.partition("?")
    headers = {name: value for name, value in asked.headers.items() if name not in _OWN}
    headers |= {header: str(request[name]) for name, header in zip(_SINGLE, _HEADERS, strict=True) if name in request}
    if control_id := asked.header("x-request-id"):
        headers["x-request-id"] = f"{control_id}.{number}"
    resource = one.get("resource")
    body, kind = encode(resource) if resource else b"", media.FHIR
    if request.get("method") == "PATCH" and resource and resource.get("resourceType") == "Binary":
        body, kind = b64decode(resource.get("data", "")), media.JSON_PATCH
    headers["content-type"] = kind
    return replace(
        asked,
        method=str(request.get("method", "")),
        path=unquote(path),
        search=search,
        headers=Headers(headers),
        body=body,
        kind="",
        id="",
        version="",
        query=[],
        shown=[],
        searched=[],
        told=[],
    )


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    response: Json = {"status": str(status)}
    for name, key in (("location", "location"), ("etag", "etag")):
        if name in headers:
            response[key] = headers[name]
    if "last-modified" in headers:
        response["lastModified"] = moment(media.millis_of(headers["last-modified"]))
    if not body:
        return entry({"response": response})
    if status >= 400 or b'"resourceType":"OperationOutcome"' in body[:40]:
        response["outcome"] = json.loads(body)
        return entry({"response": response})
    return entry({"response": response}, body)


def _identified(asked: Asked) -> bytes:
    """The transaction as it came; with X-Request-Id as its identifier if it has none."""
    control_id, body = asked.request_id, asked.body.removeprefix(b"\xef\xbb\xbf")
    start = body.find(b"{") + 1
    if not control_id or not start or b'"identifier"' in body[:200]:
        return body
    identifier = encode({"system": "urn:radbridge:request", "value": control_id})
    return body[:start] + b'"identifier":' + identifier + b"," + body[start:]
