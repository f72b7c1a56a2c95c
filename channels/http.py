"""Messages over plain HTTP: ``http-in`` takes each POST as a message, ``http-out`` posts each delivery.

Bodies and answers as HL7 over HTTP has them: the message as ``application/hl7-v2``, its acknowledgement in return.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import structlog
from pydantic import ByteSize, Field, HttpUrl, SecretStr

from bridge.asgi import AsgiServer
from bridge.codecs.ack import Ack, read_ack
from bridge.errors import BridgeError, CodecError
from bridge.ports import (
    Address,
    Answer,
    ChannelType,
    Duration,
    HostPort,
    Inbound,
    LocalPath,
    Outgoing,
    Receive,
    Reply,
    Services,
    SinkSettings,
    SourceSettings,
)
from channels import http_client
from channels.ack_policy import AckPolicy, judge

log = structlog.get_logger(__name__)

_Scope = MutableMapping[str, Any]
_Get = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_Response = tuple[int, dict[str, str], bytes]

_HL7 = "application/hl7-v2"


class HttpInSettings(SourceSettings):
    listen: Address
    """Where senders connect, such as 127.0.0.1:8081."""
    path: str = Field(default="/hl7", pattern=r"^/[!-~]*$")
    """The path that senders post to."""
    token: SecretStr = SecretStr("")
    """If set, senders must show it as bearer token."""
    max_size: ByteSize = Field(default=ByteSize(64 * 1024 * 1024), gt=0)
    """Larger messages are answered 413 and not stored."""
    connections: int = Field(default=256, ge=1)
    """Connections at a time; further ones are answered 503."""


class HttpIn:
    """Answers 201 when a message is committed, 200 when it was known already, else the error's own status.

    The body of the answer is the HL7 acknowledgement, or for other formats the stored message's id as JSON.
    """

    def __init__(self, settings: HttpInSettings, services: Services) -> None:
        self._settings, self._channel = settings, services.name
        self._token = settings.token.get_secret_value()
        self._server = AsgiServer(self._application, settings.listen, connections=settings.connections)
        self._receive: Receive | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self._server.address}{self._settings.path}"

    async def start(self, receive: Receive) -> None:
        self._receive = receive
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def _application(self, scope: _Scope, get: _Get, send: _Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = self._turn_away(scope) or await self._take(scope, get)
        except Exception:
            log.exception("channel_failed", channel=self._channel)
            answer = _problem(500, BridgeError("internal error", fix="see the log"))
        if answer:
            await _answer(send, *answer)

    def _turn_away(self, scope: _Scope) -> _Response | None:
        """The answer to what is no message for us, before its body is read."""
        headers = dict(scope["headers"])
        if scope["path"] != self._settings.path:
            return _problem(404, BridgeError("nothing here", at=scope["path"], fix=f"post to {self._settings.path}"))
        if scope["method"] != "POST":
            return _problem(405, BridgeError("messages are posted", fix="use POST"), {"allow": "POST"})
        shown = headers.get(b"authorization", b"")
        if self._token and not hmac.compare_digest(shown, f"Bearer {self._token}".encode()):
            error = BridgeError("no valid token", at="Authorization", fix="send Authorization: Bearer ...")
            return _problem(401, error, {"www-authenticate": "Bearer"})
        return None

    async def _take(self, scope: _Scope, get: _Get) -> _Response | None:
        body = await self._body(get)
        if body is None:
            return None
        if len(body) > self._settings.max_size:
            error = BridgeError("the message is too large", at="max_size", fix="send less, or raise max_size")
            return _problem(413, error, {"connection": "close"})
        if not body:
            return _problem(400, BridgeError("there is no message", at="body", fix="post the message as the body"))
        assert self._receive is not None
        client = scope.get("client") or ("", 0)
        return _reply(await self._receive(Inbound(body, str(HostPort(client[0], client[1])))))

    async def _body(self, get: _Get) -> bytes | None:
        """The request's body, or a little more than ``max_size`` of it; None if the sender hung up.

        What is too large is read on for as much again and dropped: a sender that is cut off while it writes does not
        see the answer.
        """
        limit, read, more = self._settings.max_size, 0, True
        body = bytearray()
        while more and read <= 2 * limit:
            event = await get()
            if event["type"] != "http.request":
                return None
            part = event.get("body", b"")
            read += len(part)
            body += part[: limit + 1 - len(body)]
            more = event.get("more_body", False)
        return bytes(body)


def _reply(reply: Reply) -> _Response:
    status = reply.error.face.http if reply.error else (200 if reply.duplicate else 201) if reply.ok else 500
    headers = {"retry-after": "5"} if status == 503 else {}
    if reply.answers:
        answer = reply.answers[0]
        charset = "utf-8" if _is_utf8(answer) else "iso-8859-1"
        return status, {**headers, "content-type": f"{_HL7}; charset={charset}"}, answer
    if reply.error:
        return _problem(status, reply.error, headers)
    return status, {"content-type": "application/json"}, json.dumps({"message": reply.message}).encode()


def _problem(status: int, error: BridgeError, headers: dict[str, str] | None = None) -> _Response:
    return status, {**(headers or {}), "content-type": "application/json"}, json.dumps(error.as_dict()).encode()


async def _answer(send: _Send, status: int, headers: dict[str, str], body: bytes) -> None:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class HttpOutSettings(SinkSettings):
    url: HttpUrl
    """Where to post."""
    content_type: str = Field(default=_HL7, pattern=r"^[!-~]+/[!-~]+$")
    """Media type of the body; the character set is added for HL7 v2."""
    token: SecretStr = SecretStr("")
    """Bearer token to show."""
    timeout: Duration = Field(default=30.0, gt=0)
    """For each of connecting, writing, and waiting for the answer."""
    verify: bool | LocalPath = True
    """Check the server's certificate: against the system's authorities, those in a PEM file, or (false) not at all."""
    ack_policy: AckPolicy = {}
    """What an HL7 acknowledgement in the answer means, over the built-in table: `{AE: retry}`; done, retry or dead."""


class HttpOut:
    """Posts one message a request. The delivery's id goes along as ``Idempotency-Key``: the same on every repeat."""

    def __init__(self, settings: HttpOutSettings, services: Services) -> None:
        self._url, self._content_type = httpx.URL(str(settings.url)), settings.content_type
        self._token, self._policy = settings.token.get_secret_value(), settings.ack_policy
        self._client = httpx.AsyncClient(
            timeout=settings.timeout, verify=http_client.trust(settings.verify), trust_env=False
        )

    @property
    def endpoint(self) -> str:
        return str(self._url.copy_with(userinfo=b"", query=None))

    async def send(self, outgoing: Outgoing) -> Answer:
        """Raises Unreachable (no connection, 401, 429, 502, 503), Uncertain (sent, but no answer; 504), Temporary (408,
        409, 412, 425, other 5xx) or Permanent (any other status that is no success).

        An HL7 acknowledgement in the answer goes before its status: servers send AE with 200, and with 500.
        """
        headers = {"Content-Type": self._media(outgoing), "Idempotency-Key": outgoing.delivery.id}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        response = await http_client.post(self._client, self._url, outgoing.data, headers, self.endpoint)
        summary, ack = f"HTTP {response.status_code}", _acknowledgement(response.content)
        if ack and response.status_code != 503:
            judge(ack, self._policy)
            return Answer(f"{summary} {ack.code}", response.content)
        if not response.is_success:
            raise http_client.failure(response.status_code, summary, self.endpoint, http_client.retry_after(response))
        return Answer(summary, response.content)

    async def close(self) -> None:
        await self._client.aclose()

    def _media(self, outgoing: Outgoing) -> str:
        if outgoing.format != "hl7v2" or not outgoing.charset:
            return self._content_type
        return f"{self._content_type}; charset={_registered_name(outgoing.charset)}"


def _acknowledgement(body: bytes) -> Ack | None:
    """The HL7 acknowledgement in an answer, if there is one."""
    if not body.startswith(b"MSH"):
        return None
    try:
        return read_ack(body)
    except CodecError:
        return None


def _registered_name(codec: str) -> str:
    """IANA's name of a Python codec: ``iso8859-15`` -> ``iso-8859-15``, ``cp1252`` -> ``windows-1252``."""
    return re.sub(r"^cp(?=125\d$)", "windows-", re.sub(r"^iso(?=8859)", "iso-", codec.replace("_", "-")))


HTTP_IN = ChannelType("http-in", "in", HttpInSettings, HttpIn)
HTTP_OUT = ChannelType("http-out", "out", HttpOutSettings, HttpOut)
