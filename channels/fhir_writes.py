"""Writing to a ``fhir-server``: each write is a message, a Bundle with the resource byte for byte as it came.

It is checked first; what is not valid is handed in all the same, to be kept as refused.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.responses import Response

from bridge.codecs.fhir import decode, encode
from bridge.codecs.fhir_check import Release
from bridge.errors import BridgeError, CodecError, NotFound, Refused
from bridge.fhir import media, outcome, patch
from bridge.fhir.interaction import Interaction, Outcome, interactions
from bridge.fhir.reading import read, resource_faults, revived
from bridge.fhir.rights import Forbidden
from bridge.message import Message
from bridge.ports import Answer, Apply, Inbound, Receive, Work
from channels.fhir_exchange import Asked, stamps, told
from channels.fhir_profiles import Profiles
from channels.fhir_subscribing import Subscribing

LARGE = 64 * 1024
"""Bytes from which on a body is read and checked in a process of its own."""
_PATCH = "urn:radbridge:patch"
_REQUEST = "urn:radbridge:request"
_VERBS = {200: "updated", 201: "created", 204: "deleted"}


class Writes:
    """Hands what clients write to ``receive``, and the projection's part of it to ``subscribing``."""

    def __init__(
        self,
        store: Any,
        receive: Receive,
        work: Work,
        release: Release,
        subscribing: Subscribing,
        profiles: Profiles,
    ) -> None:
        self._store, self._receive, self._work, self.release = store, receive, work, release
        self._subscribing, self._profiles = subscribing, profiles

    async def create(self, asked: Asked) -> Response:
        asked.caller.check("create", asked.kind)
        if asked.kind == "Binary":
            _wrap(asked)
        media.check_content(asked.header("content-type"), self.release)
        request = {"method": "POST", "url": asked.kind, "ifNoneExist": asked.header("if-none-exist").lstrip("?")}
        return await self._write(asked, request)

    async def update(self, asked: Asked) -> Response:
        """By id, or by a search (conditional update)."""
        asked.caller.check("update", asked.kind)
        if asked.kind == "Binary" and asked.id:
            _wrap(asked)
        media.check_content(asked.header("content-type"), self.release)
        return await self._write(asked, {"method": "PUT", **_aim(asked)})

    async def delete(self, asked: Asked) -> Response:
        """By id, or by a search (conditional delete)."""
        asked.caller.check("delete", asked.kind)
        return await self._write(asked, {"method": "DELETE", **_aim(asked)})

    async def patch(self, asked: Asked) -> Response:
        """Of the resource as it is now; what comes of it is an update of exactly that version."""
        asked.caller.check("read", asked.kind)
        asked.caller.check("update", asked.kind)
        kind = media.check_content(asked.header("content-type"), self.release, also=(media.JSON_PATCH,))
        request: dict[str, Any] = {"method": "PATCH", **_aim(asked)}
        request["extension"] = [{"url": _PATCH, "valueBase64Binary": b64encode(asked.body).decode()}]
        try:
            change = read(asked.body)
            as_json = isinstance(change, list) or kind == media.JSON_PATCH
            patch.check(change, json_patch=as_json)
            current = await self._current(asked)
            if request["ifMatch"] not in ("", media.etag(current.version)):
                raise Refused("the resource has another version", at="http.If-Match", kind="precondition")
            apply = patch.json_patch if as_json else patch.fhirpath_patch
            changed = await self._work(apply, decode(current.body), change)
            if (changed.get("resourceType"), changed.get("id")) != (asked.kind, current.id):
                raise Refused("a patch keeps type and id", at=f"{asked.kind}.id", kind="business_rule")
        except BridgeError as error:
            await self._refuse(asked, request, b"", error)
        request |= {"method": "PUT", "url": f"{asked.kind}/{current.id}", "ifMatch": media.etag(current.version)}
        asked.body = encode(changed)
        try:
            return await self._write(asked, request)
        except BridgeError as error:
            if error.kind == "precondition" and not asked.header("if-match"):
                raise _overtaken() from None
            raise

    async def judge(self, asked: Asked) -> Response:
        """$validate: what is wrong with a resource, by itself or in Parameters; nothing is stored."""
        asked.caller.check("read", asked.kind)
        body = asked.body
        if asked.method == "GET":
            body = (await self._current(asked)).body
        else:
            media.check_content(asked.header("content-type"), self.release)
        wrapped = read(body) if b'"Parameters"' in body else None
        if isinstance(wrapped, dict) and wrapped.get("resourceType") == "Parameters":
            body = encode(_named(wrapped, "resource"))
        value, found = await self.checked(asked, body)
        if value is None or not isinstance(value.get("resourceType"), str):
            raise found[0]
        if value.get("resourceType") != asked.kind:
            found.append(CodecError("the resource is not of the URL's type", at="resourceType"))
        for url in [] if found else _profiles(asked, wrapped):
            verdict = self._profiles.by(value, url)
            found += verdict.faults
            asked.told += verdict.unjudged
        told_all = outcome.outcome(outcome.RefusedResource(found)) if found else outcome.remark("no fault was found")
        told_all["issue"] += outcome.warnings(asked.told)
        return told(told_all, pretty=asked.pretty)

    async def submit(self, asked: Asked, raw: bytes, wanted: Sequence[Interaction] | BridgeError) -> list[Outcome]:
        """Hand a Bundle in as a message; what it asks for is done before the answer. Raises what it is refused for."""
        warnings = tuple(map(str, asked.told))
        reply = await self._receive(Inbound(raw, asked.peer, self._applying(wanted, asked), warnings))
        self._subscribing.bell.set()
        if reply.error is not None:
            raise wanted if isinstance(wanted, BridgeError) and reply.message else reply.error
        return [Outcome(**one) for one in json.loads(reply.body)]

    def effect(self, raw: bytes) -> Apply:
        """What a Bundle does that was not sent to the facade, but handed to its channel."""
        value, found = resource_faults(raw, self.release)
        try:
            if found:
                raise outcome.RefusedResource([revived(one) for one in found])
            if faults := self._profiles.judge(value).faults:
                raise outcome.RefusedResource(faults)
            wanted = interactions(value)
            if any(one.type == "Subscription" for one in wanted):
                raise Refused("a subscription is its client's", at="Bundle.entry", fix="send it to the facade")
            return self._applying(wanted)
        except BridgeError as error:
            return self._applying(error)

    def _applying(self, wanted: Sequence[Interaction] | BridgeError, asked: Asked | None = None) -> Apply:
        def apply(tx: Any, message: Message) -> Answer:
            if isinstance(wanted, BridgeError):
                raise wanted if isinstance(wanted, Refused) else outcome.RefusedResource(wanted.faults)
            if asked is None:
                done = self._store.write(tx, wanted, message=message.id, at=message.received_at)
            else:
                done = self._subscribing.write(tx, wanted, message, asked)
            counted = Counter(_VERBS[one.status] if one.changed else "unchanged" for one in done)
            summary = " ".join(f"{count} {verb}" for verb, count in sorted(counted.items()))
            return Answer(summary, json.dumps([asdict(one) for one in done]).encode())

        return apply

    async def checked(self, asked: Asked, body: bytes) -> tuple[Any, list[BridgeError]]:
        """A body's value and what is wrong with it as a resource; what profiles only warn of goes to ``asked.told``."""
        large = len(body) >= LARGE
        if large:
            value, found = await self._work(resource_faults, body, self.release)
        else:
            value, found = resource_faults(body, self.release)
        if found:
            return value, [revived(one) for one in found]
        judge = self._profiles
        verdict = await judge.judge_large(value, self._work) if large else judge.judge(value)
        asked.told = verdict.unjudged
        return value, verdict.faults

    async def _write(self, asked: Asked, request: Mapping[str, str]) -> Response:
        wanted: Sequence[Interaction] | BridgeError
        resource, faults = (None, []) if request["method"] == "DELETE" else await self.checked(asked, asked.body)
        raw = single(asked, request, asked.body)
        if faults:
            wanted = outcome.RefusedResource(faults)
        else:
            one = {"request": dict(request), **({"resource": resource} if resource else {})}
            try:
                wanted = interactions({"resourceType": "Bundle", "type": "batch", "entry": [one]})
            except BridgeError as error:
                wanted = _of_the_request(error)
        try:
            (done,) = await self.submit(asked, raw, wanted)
        except BridgeError as error:
            raise _of_the_request(error) from None
        return await self.answer(asked, done)

    async def _refuse(self, asked: Asked, request: Mapping[str, Any], body: bytes, error: BridgeError) -> None:
        """Keep a write as refused. Always raises."""
        await self.submit(asked, single(asked, request, body), error)

    async def answer(self, asked: Asked, done: Outcome) -> Response:
        """What a write is answered (R4 http.html 3.1.0.1.8)."""
        if done.id:
            asked.shown.append((done.type, done.id))
        headers = stamps(done.version, done.modified) if done.version else {}
        if done.status == 204:
            if asked.prefer.answer != "OperationOutcome":
                return told(None, status=204, headers={"ETag": headers["ETag"]} if headers else {})
            return told(outcome.remark("deleted" if done.changed else "nothing to delete"), pretty=asked.pretty)
        headers["Location"] = f"{asked.base}/{done.location}"
        if asked.prefer.answer == "minimal":
            return told(None, status=done.status, headers=headers)
        content: Any = outcome.remark(_VERBS[done.status] if done.changed else "unchanged")
        if asked.prefer.answer == "representation":
            try:
                stored = await asyncio.to_thread(self._store.read, done.type, done.id, done.version, sight=asked.caller)
            except (NotFound, Forbidden):  # what may be written need not be what may be read
                return told(None, status=done.status, headers=headers)
            content = stored.body
        return told(content, status=done.status, headers=headers, pretty=asked.pretty)

    async def _current(self, asked: Asked) -> Any:
        """The resource that a patch is for: by id, or the only one that a search finds."""
        if asked.id:
            found = await asyncio.to_thread(self._store.read, asked.kind, asked.id, "", sight=asked.caller)
            if found.deleted:
                raise outcome.HttpFault(410, "the resource was deleted", at=f"{asked.kind}/{asked.id}")
            return found
        _aim(asked)
        asked.caller.check("search", asked.kind)
        wanted = [*asked.query, ("_count", "2")]
        page = await asyncio.to_thread(self._store.search, asked.kind, wanted, strict=True, sight=asked.caller)
        if not page.matches:
            raise NotFound("nothing matches", at="http.query", fix="create it first")
        if len(page.matches) > 1:
            raise Refused("several resources match", at="http.query", fix="search by an identifier", kind="ambiguous")
        return page.matches[0]


def single(asked: Asked, request: Mapping[str, Any], body: bytes) -> bytes:
    """The message of one interaction: a batch of one entry, the resource spliced in as it came."""
    head: dict[str, Any] = {"resourceType": "Bundle"}
    if control_id := asked.request_id:
        head["identifier"] = {"system": _REQUEST, "value": control_id}
    head["type"] = "batch"
    said = encode({key: value for key, value in request.items() if value})
    resource = b',"resource":' + body.removeprefix(b"\xef\xbb\xbf") if body else b""
    return encode(head)[:-1] + b',"entry":[{"request":' + said + resource + b"}]}"


def _aim(asked: Asked) -> dict[str, str]:
    """What a write is for. Raises CodecError where neither an id nor a search says it."""
    if not asked.id and not asked.search:
        raise CodecError("a write of no resource", at="http.query", fix="write Type/id, or Type?identifier=...")
    version = media.one_etag(asked.header("if-match"), "If-Match")
    return {
        "url": f"{asked.kind}/{asked.id}" if asked.id else f"{asked.kind}?{asked.search}",
        "ifMatch": media.etag(version) if version else "",
        "ifNoneMatch": asked.header("if-none-match"),
    }


def _named(parameters: Mapping[str, Any], name: str) -> Any:
    """The resource in the parameter of this name."""
    listed = parameters.get("parameter")
    given = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    found = next((one["resource"] for one in given if one.get("name") == name and one.get("resource")), None)
    if found is None:
        raise CodecError("no resource to judge", at="Parameters.parameter", fix=f"name a parameter `{name}`")
    return found


def _profiles(asked: Asked, parameters: Any) -> list[str]:
    """The profiles that $validate is asked to judge by."""
    named = [value for name, value in asked.query if name == "profile"]
    listed = parameters["parameter"] if isinstance(parameters, dict) and "parameter" in parameters else ()
    said = [one for one in listed if isinstance(one, dict) and one.get("name") == "profile"]
    return [*named, *(str(one[key]) for one in said for key in ("valueUri", "valueCanonical") if key in one)]


def _wrap(asked: Asked) -> None:
    """The content of a Binary as the resource that holds it (R4 binary.html)."""
    content = asked.header("content-type") or "application/octet-stream"
    if "json" in content.partition(";")[0] and asked.body.lstrip()[:1] == b"{" and b'"Binary"' in asked.body[:4096]:
        return
    made: dict[str, Any] = {"resourceType": "Binary", **({"id": asked.id} if asked.id else {})}
    made["contentType"] = content
    if context := asked.header("x-security-context"):
        made["securityContext"] = {"reference": context}
    made["data"] = b64encode(asked.body).decode()
    asked.body = encode(made)
    asked.headers = type(asked.headers)({**dict(asked.headers), "content-type": media.FHIR})


def _of_the_request(error: BridgeError) -> BridgeError:
    """Told in the places of the request that was sent, not of the Bundle that it became."""
    if not error.at.startswith("Bundle.entry[0]"):
        return error
    at = (
        error.at.removeprefix("Bundle.entry[0]")
        .removeprefix(".")
        .removeprefix("resource.")
        .replace("request.", "http.")
    )
    return BridgeError(error.what, at=at, fix=error.fix, kind=error.kind)


def _overtaken() -> BridgeError:
    what = "somebody else changed the resource meanwhile"
    return BridgeError(what, fix="send the patch again", kind="locked")
