"""Reading from a ``fhir-server``: read, vread, history, search, $everything (R4 http.html, search.html)."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from starlette.responses import Response

from bridge.codecs.fhir import decode
from bridge.errors import BridgeError
from bridge.fhir import media, outcome
from bridge.fhir.interaction import TYPES
from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.query import parse
from bridge.fhir.summary import shaped
from channels.fhir_exchange import PAIR, Asked, bundle, entry, moment, pairs, stamps, told

_EVERYTHING = tuple(kind for kind in TYPES if kind != "Patient" and "patient" in PARAMETERS[kind])
"""Types whose resources belong to a patient."""
_PAGE = 50
_AT_ONCE = 3
"""Searches at a time: each takes the processor from acknowledgements, and a thread from deliveries."""


class Reads:
    """Reads of the projection ``store``; at most ``most`` matches on a page."""

    def __init__(self, store: Any, most: int) -> None:
        self._store, self._most = store, most
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def _ask(self, question: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Of the store what may take long."""
        async with self._turns:
            return await asyncio.to_thread(question, *arguments, **more)

    async def read(self, asked: Asked) -> Response:
        asked.caller.check("read", asked.kind)
        found = await asyncio.to_thread(self._store.read, asked.kind, asked.id, asked.version, sight=asked.caller)
        if found.deleted:
            raise outcome.HttpFault(
                410,
                "the resource was deleted",
                at=f"{asked.kind}/{asked.id}",
                headers=stamps(found.version, found.modified),
            )
        asked.shown.append((found.type, found.id))
        known = stamps(found.version, found.modified)
        if unchanged(asked, found.version, found.modified):
            return Response(status_code=304, headers=known)
        if asked.kind == "Binary" and not _wants_resource(asked):
            return _raw(decode(found.body), known)
        part = [one for one in asked.query if one[0] in ("_summary", "_elements")]
        body = shaped(found.body, parse(asked.kind, part)) if part else found.body
        return told(body, headers=known, pretty=asked.pretty)

    async def search(self, asked: Asked) -> Response:
        """By URL, or as a form (POST _search); what stands in both counts together."""
        asked.caller.check("search", asked.kind)
        parameters = list(asked.query)
        if asked.method == "POST" and asked.body:
            parameters += self._form(asked)
        asked.searched += parameters
        page = await self._ask(
            self._store.search,
            asked.kind,
            self._counted([one for one in parameters if one[0] != "_cursor"]),
            strict=asked.prefer.strict,
            sight=asked.caller,
            cursor=next((value for name, value in parameters if name == "_cursor"), ""),
        )
        asked.shown += [(one.type, one.id) for one in (*page.matches, *page.included)]
        asked.path = asked.path.removesuffix("/_search")
        links = {"self": asked.link(page.used)}
        if page.cursor:
            links["next"] = asked.link([*page.used, ("_cursor", page.cursor)])
        entries = [_found(asked, one, "match") for one in page.matches]
        entries += [_found(asked, one, "include") for one in page.included]
        if page.ignored:
            text = f"parameters that are not served: {', '.join(page.ignored)}"
            remark = outcome.remark(text, severity="warning", code="not-supported")
            entries.append(entry({"resource": remark, "search": {"mode": "outcome"}}))
        return bundle(asked, "searchset", entries, links, page.total)

    async def history(self, asked: Asked) -> Response:
        asked.caller.check("read" if asked.id else "search", asked.kind)
        said = dict(asked.query)
        page = await self._ask(
            self._store.history,
            asked.kind,
            asked.id,
            since=_since(said.get("_since", "")),
            count=self._count(said.get("_count", "")),
            cursor=said.get("_cursor", ""),
            sight=asked.caller,
        )
        asked.shown += [(one.type, one.id) for one in page.matches]
        kept = [(name, value) for name, value in asked.query if name in ("_since", "_count")]
        links = {"self": asked.link(kept)}
        if page.cursor:
            links["next"] = asked.link([*kept, ("_cursor", page.cursor)])
        return bundle(asked, "history", [_version(asked, one) for one in page.matches], links, page.total)

    async def everything(self, asked: Asked) -> Response:
        """A patient and all that refers to him as its patient, page by page (R4 patient-operation-everything.html)."""
        asked.caller.check("read", "Patient")
        patient = await asyncio.to_thread(self._store.read, "Patient", asked.id, "", sight=asked.caller)
        if patient.deleted:
            raise outcome.HttpFault(410, "the resource was deleted", at=f"Patient/{asked.id}")
        asked.shown.append(("Patient", patient.id))
        said = dict(asked.query)
        wanted = [kind for kind in said.get("_type", "").split(",") if kind] or [
            kind for kind in ("Patient", *_EVERYTHING) if asked.caller.may("search", kind)
        ]
        where, _, cursor = said.get("_cursor", "").partition("~")
        entries, left = [], self._count(said.get("_count", ""))
        if "Patient" in wanted and not where:
            entries.append(_found(asked, patient, "match"))
        started = _EVERYTHING.index(where) if where in _EVERYTHING else 0
        ahead = ""
        for kind in _EVERYTHING[started:]:
            if kind not in wanted:
                continue
            if len(entries) >= left:
                ahead = f"{kind}~"
                break
            page = await self._of(asked, kind, left - len(entries), cursor, said.get("_since", ""))
            entries += [_found(asked, one, "match") for one in page.matches]
            asked.shown += [(one.type, one.id) for one in page.matches]
            cursor = ""
            if page.cursor:
                ahead = f"{kind}~{page.cursor}"
                break
        kept = [one for one in asked.query if one[0] in ("_type", "_count", "_since")]
        links = {"self": asked.link(kept)}
        if ahead:
            links["next"] = asked.link([*kept, ("_cursor", ahead)])
        return bundle(asked, "searchset", entries, links)

    async def _of(self, asked: Asked, kind: str, count: int, cursor: str, since: str) -> Any:
        asked.caller.check("search", kind)
        wanted: list[PAIR] = [("patient", f"Patient/{asked.id}"), ("_count", str(count))]
        if since:
            wanted.append(("_lastUpdated", f"ge{since}"))
        sight = asked.caller
        return await self._ask(self._store.search, kind, wanted, strict=True, sight=sight, cursor=cursor)

    def _form(self, asked: Asked) -> list[PAIR]:
        form = "application/x-www-form-urlencoded"
        if asked.header("content-type").partition(";")[0].strip().lower() != form:
            raise outcome.HttpFault(415, "a search is posted as a form", at="http.Content-Type", fix=f"send {form}")
        return pairs(asked.body.decode("utf-8", "replace"))

    def _counted(self, parameters: Sequence[PAIR]) -> list[PAIR]:
        """With a page size that is not above what is allowed."""
        return [
            (name, str(min(int(value), self._most)) if name == "_count" and _is_number(value) else value)
            for name, value in parameters
        ]

    def _count(self, text: str) -> int:
        if text and not (_is_number(text) and int(text) > 0):
            raise BridgeError("not a number of entries", at="_count", fix="write 1 or more", kind="search")
        return min(int(text or _PAGE), self._most)


def unchanged(asked: Asked, version: str, modified: int) -> bool:
    """Whether the client has this version already (RFC 9110, 13.2.2: the entity tag goes before the date)."""
    if known := asked.header("if-none-match"):
        return version in media.etags(known) or "*" in media.etags(known)
    since = asked.header("if-modified-since")
    return bool(since) and not media.is_since(since, modified)


def _wants_resource(asked: Asked) -> bool:
    """Whether a Binary is wanted as a resource and not as its content (R4 binary.html)."""
    accepted = f"{asked.header('accept')} {dict(asked.query).get('_format', '')}".lower()
    return "json" in accepted


def _raw(binary: dict[str, Any], headers: dict[str, str]) -> Response:
    """The content of a Binary; a browser neither guesses its type nor runs it."""
    safe = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
    response = Response(b64decode(binary.get("data", "")), headers={**headers, **safe})
    response.headers["Content-Type"] = str(binary["contentType"])
    return response


def _found(asked: Asked, stored: Any, mode: str) -> bytes:
    parts = {"fullUrl": asked.url(stored.type, stored.id), "search": {"mode": mode}}
    return entry(parts, stored.body)


def _version(asked: Asked, stored: Any) -> bytes:
    status = "204" if stored.deleted else "201" if stored.version == "1" else "200"
    url = stored.type if stored.method == "POST" else f"{stored.type}/{stored.id}"
    parts = {
        "fullUrl": asked.url(stored.type, stored.id),
        "request": {"method": stored.method, "url": url},
        "response": {
            "status": status,
            "etag": media.etag(stored.version),
            "lastModified": moment(stored.modified),
        },
    }
    return entry(parts, b"" if stored.deleted else stored.body)


def _since(text: str) -> int:
    if not text:
        return 0
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BridgeError("not an instant", at="_since", fix="write 2030-01-31T08:00:00Z", kind="search")
    return int(found.timestamp() * 1000)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
