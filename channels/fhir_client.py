"""What the channels that ask a FHIR server have in common: where it is, how it knows us, what its answers mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import Field, HttpUrl, SecretStr, model_validator

from bridge.codecs import fhir
from bridge.errors import BridgeError, CodecError, Temporary, Uncertain, Unreachable
from bridge.ports import ChannelSettings, Duration, LocalPath
from channels import http_client
from channels.oauth import OAuthSettings, Tokens

MEDIA = "application/fhir+json"


class Conflict(Temporary):
    """Somebody else changed meanwhile what was to be changed (409, 412)."""


class FhirClientSettings(ChannelSettings):
    """A FHIR R4 server."""

    base_url: HttpUrl
    """The server's base, for example https://his.example/fhir."""
    timeout: Duration = Field(30.0, gt=0)
    """For each of connecting, writing, and waiting for more of the answer; all of it may take ten times as long."""
    headers: dict[str, str] = {}
    """Sent with every request."""
    token: SecretStr | None = None
    """Bearer token that stays the same."""
    oauth: OAuthSettings | None = None
    """Bearer tokens from an authorization server (OAuth2 client credentials, SMART backend services)."""
    verify: bool | LocalPath = True
    """Check the server's certificate: against the system's authorities, those in a PEM file, or (false) not at all."""
    certificate: LocalPath | None = None
    """Our certificate with its chain, PEM, shown to the server and to the token endpoint (mutual TLS)."""
    key: LocalPath | None = None
    """The certificate's key, PEM; empty when it is in the same file."""

    @model_validator(mode="after")
    def _known_by_something(self) -> FhirClientSettings:
        if self.token and self.oauth:
            raise ValueError("give either `token` or `oauth`")
        if self.key and not self.certificate:
            raise ValueError("add `certificate` beside `key`")
        if self.oauth and not (self.oauth.client_secret or self.oauth.key or self.certificate):
            raise ValueError("`oauth` needs `client_secret` or `key`, or a `certificate` beside it")
        return self


class FhirClient:
    """Requests to one server, with the token that it wants."""

    def __init__(self, settings: FhirClientSettings) -> None:
        """Raises BridgeError if a certificate or key cannot be used."""
        self.url = httpx.URL(str(settings.base_url).rstrip("/"))
        self.endpoint = str(self.url.copy_with(userinfo=b""))
        trust = http_client.trust(settings.verify, settings.certificate, settings.key)
        self._client = httpx.AsyncClient(timeout=settings.timeout, verify=trust, trust_env=False)
        self._headers = {**settings.headers, "Accept": MEDIA, "Cache-Control": "no-cache"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._tokens = Tokens(settings.oauth, self._client, self.url) if settings.oauth else None

    async def post(self, content: bytes, prefer: str) -> httpx.Response:
        """The answer to a Bundle. Raises as :func:`channels.http_client.failure` has it, Unreachable when nothing was
        sent, Uncertain when something may have been."""
        return await self._ask("POST", self.url, {"Content-Type": MEDIA, "Prefer": prefer}, content)

    async def read(self, batch: bytes) -> bytes:
        """The answer to a Bundle that only reads; Uncertain is Unreachable here."""
        return (await self._only_asking("POST", self.url, {"Content-Type": MEDIA}, batch)).content

    async def get(self, url: httpx.URL) -> httpx.Response:
        return await self._only_asking("GET", url, {}, None)

    async def close(self) -> None:
        await self._client.aclose()

    async def _only_asking(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        try:
            return await self._ask(method, url, {**headers, "Prefer": "handling=strict"}, content)
        except Uncertain as error:
            raise Unreachable(error.what, at=error.at, retry_after=error.retry_after) from None

    async def _ask(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        response = await self._once(method, url, headers, content)
        if response.status_code == 401 and self._tokens:
            response = await self._once(method, url, headers, content)
        if not response.is_success:
            wait = http_client.retry_after(response)
            raise refusal(response.status_code, response.content, self.endpoint, wait)
        return response

    async def _once(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        everything, token = {**self._headers, **headers}, ""
        if self._tokens:
            token = await self._tokens.current()
            everything["Authorization"] = f"Bearer {token}"
        response = await http_client.request(self._client, method, url, everything, self.endpoint, content=content)
        if response.status_code == 401 and self._tokens:
            self._tokens.refused(token)
        return response


def refusal(status: int, body: bytes, at: str, retry_after: float | None = None) -> BridgeError:
    """What an HTTP status (of the answer, or of one entry) means, with what an OperationOutcome says of it."""
    what = " ".join([f"HTTP {status}", *_issues(body)])
    if status in (409, 412):
        return Conflict(what, at=at, retry_after=retry_after)
    return http_client.failure(status, what, at, retry_after)


def _issues(body: bytes) -> list[str]:
    """Code and element of each OperationOutcome issue; not its texts, nor expressions that could quote a patient."""
    try:
        issues = _list(fhir.decode(body).get("issue"))
    except CodecError:
        return []
    found = []
    for issue in [one for one in issues if isinstance(one, dict)][:5]:
        code = str(issue.get("code", ""))
        places = [str(one) for one in _list(issue.get("expression")) or _list(issue.get("location"))]
        safe = [place for place in places[:3] if re.fullmatch(r"[A-Za-z][A-Za-z0-9.\[\]]{0,119}", place)]
        if re.fullmatch(r"[a-z-]{1,40}", code):
            found.append(" at ".join([code, *safe[:1]]))
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
