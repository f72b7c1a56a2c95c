"""The routes of a ``fhir-server``: from an HTTP request, or an entry of a batch, to what is done (R4 http.html)."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bridge.errors import BridgeError
from bridge.fhir import media, outcome
from bridge.fhir.interaction import TYPES
from bridge.ports import HostPort
from channels.fhir_access import Authorise, anyone
from channels.fhir_audit import Recorder
from channels.fhir_exchange import Asked, pairs, problem

log = structlog.get_logger(__name__)

Handler = Callable[[Asked], Awaitable[Response]]
Table = Mapping[str, Mapping[str, Handler]]
"""Path -> method -> what is done. Paths hold ``{kind}``, ``{id}`` and ``{version}``."""

OPEN = ("metadata", "openapi.json", ".well-known/smart-configuration")
"""What is told to everybody: how to ask, and where tokens are to be had."""
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")


class Routes:
    """Answers requests by ``table``. What goes wrong is told as OperationOutcome, whatever it is."""

    def __init__(
        self,
        channel: str,
        table: Table,
        *,
        base: str,
        release: str,
        max_size: int,
        authorise: Authorise,
        recorder: Recorder,
        patience: float = 30.0,
    ) -> None:
        """``patience``: seconds without anything of a body, after which the request ends."""
        self._channel, self._base, self._max_size, self._patience = channel, base, max_size, patience
        self._release: Any = release
        self._authorise, self._recorder = authorise, recorder
        self._patterns = [(_pattern(path), handlers) for path, handlers in table.items()]
        self.application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        # as a plain route: FastAPI's own looks for parameters and models that no handler has
        self.application.add_route("/{path:path}", self._serve, methods=_METHODS)
        self.application.add_exception_handler(HTTPException, _no_route)
        self.application.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=4)

    async def handle(self, asked: Asked) -> Response:
        """Answer one request and record that; never raises."""
        response = await self._done(asked)
        if asked.path not in OPEN:
            self._recorder.note(asked, response.status_code)
        return response

    async def _done(self, asked: Asked) -> Response:
        try:
            self._recorder.check_room()
            handlers, names = self._find(asked.path)
            handler = handlers.get("GET" if asked.method == "HEAD" else asked.method)
            if handler is None:
                allowed = ", ".join(sorted({*handlers, *(["HEAD"] if "GET" in handlers else [])}))
                what = "this method is not done here"
                raise outcome.HttpFault(405, what, fix=f"use {allowed}", headers={"Allow": allowed})
            known = {"kind": "", "id": "", "version": "", **names}
            asked.kind, asked.id, asked.version = known["kind"], known["id"], known["version"]
            asked.query = pairs(asked.search)
            self._check(asked)
            return await handler(asked)
        except BridgeError as error:
            return problem(error, pretty="_pretty=true" in asked.search)
        except Exception:
            log.exception("channel_failed", channel=self._channel)
            return problem(BridgeError("internal error", fix="see the log"))

    def _find(self, path: str) -> tuple[Mapping[str, Handler], dict[str, str]]:
        for pattern, handlers in self._patterns:
            if found := pattern.fullmatch(path):
                return handlers, found.groupdict()
        raise outcome.HttpFault(404, "nothing here", at="http.path", fix="see the CapabilityStatement: GET metadata")

    def _check(self, asked: Asked) -> None:
        if asked.kind and asked.kind not in TYPES:
            raise outcome.HttpFault(404, "this resource type is not kept here", at="http.path", fix="GET metadata")
        for value in (asked.id, asked.version):
            if value and not _ID.fullmatch(value):
                raise outcome.HttpFault(404, "no resource has such an id", at="http.path")
        if asked.kind != "Binary" or asked.method not in ("GET", "HEAD"):
            media.check_accept(asked.header("accept"), dict(asked.query).get("_format", ""), self._release)

    async def _serve(self, request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except BridgeError as error:
            response = problem(error)
            path = request.path_params["path"]
            self._recorder.note_unknown(_peer(request), request.method, path, _kind(request), response.status_code)
        if given := request.headers.get("x-request-id"):
            response.headers["X-Request-Id"] = given
        response.headers["Cache-Control"] = "no-store" if request.method == "POST" else "no-cache"
        response.headers["Vary"] = "Accept, Authorization"
        ms = round((time.perf_counter() - started) * 1000, 1)
        log.info(
            "fhir_request_answered",
            channel=self._channel,
            peer=_peer(request),
            method=request.method,
            kind=_kind(request),
            status=response.status_code,
            ms=ms,
        )
        return response

    async def _answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        caller = await anyone(request) if path in OPEN else await self._authorise(request)
        scope = request.scope
        asked = Asked(
            method=request.method,
            kind="",
            id="",
            version="",
            query=[],
            search=scope["query_string"].decode("latin-1"),
            headers=request.headers,
            body=await self._body(request),
            base=self._base or f"{request.url.scheme}://{request.url.netloc}{scope['root_path']}",
            path=path,
            peer=f"{_peer(request)} {caller.client}".strip(),
            caller=caller,
            prefer=media.prefer(request.headers.get("prefer", "")),
        )
        return await self.handle(asked)

    async def _body(self, request: Request) -> bytes:
        """The request's body, unpacked. What is too large is read on for as much again: a client that is cut off while
        it writes does not see the answer. Raises HttpFault 408, 413 and 415."""
        packed = request.headers.get("content-encoding", "identity").lower()
        if packed not in ("identity", "gzip", "x-gzip"):
            raise outcome.HttpFault(415, "this encoding is not taken", at="http.Content-Encoding", fix="use gzip")
        limit, read = self._max_size, 0
        body = bytearray()
        try:
            async with asyncio.timeout(self._patience) as patience:
                async for part in request.stream():
                    patience.reschedule(asyncio.get_running_loop().time() + self._patience)
                    read += len(part)
                    body += part[: limit + 1 - len(body)]
                    if read > 2 * limit:
                        break
        except TimeoutError:
            raise outcome.HttpFault(408, "the body does not come", headers={"Connection": "close"}) from None
        if len(body) <= limit and packed != "identity":
            body = _unpacked(body, limit)
        if len(body) > limit:
            fix = f"send {limit} bytes at most, or have `max_size` raised"
            raise outcome.HttpFault(413, "the body is too large", fix=fix, headers={"Connection": "close"})
        return bytes(body)


def _unpacked(body: bytearray, limit: int) -> bytearray:
    """At most a byte more than ``limit``. Raises HttpFault 400 for what is not gzip, or not all of it."""
    reader = zlib.decompressobj(wbits=31)
    try:
        made = reader.decompress(body, limit + 1)
    except zlib.error:
        raise outcome.HttpFault(400, "the body is not gzip", at="http.Content-Encoding") from None
    if not reader.eof and len(made) <= limit:
        raise outcome.HttpFault(400, "the body ends too early", at="http.Content-Encoding")
    if reader.unused_data:
        raise outcome.HttpFault(
            400, "the body goes on after its gzip", at="http.Content-Encoding", fix="send one member"
        )
    return bytearray(made)


def _pattern(path: str) -> re.Pattern[str]:
    literal = re.split(r"(\{\w+\})", path.lstrip("/"))
    return re.compile("".join(f"(?P<{one[1:-1]}>[^/]+)" if one[:1] == "{" else re.escape(one) for one in literal))


def _kind(request: Request) -> str:
    kind: str = request.path_params["path"].partition("/")[0]
    return kind if kind in TYPES else ""


def _peer(request: Request) -> str:
    return str(HostPort(request.client.host, request.client.port)) if request.client else ""


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(outcome.HttpFault(error.status_code, str(error.detail), at="http.path", headers=error.headers or {}))
