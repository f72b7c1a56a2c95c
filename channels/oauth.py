"""Access tokens of the client credentials grant (RFC 6749, 4.4): with a secret, a signed assertion or a certificate.

The assertion (private_key_jwt, RFC 7523) is as SMART App Launch 2.2 has it for backend services.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus

import httpx
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator

from bridge.errors import Uncertain, Unreachable
from bridge.ports import LocalPath
from channels import http_client

if TYPE_CHECKING:
    from channels.oauth_key import SigningKey

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE = 300
"""Seconds that a token is valid which does not say for how long."""
_LONGEST = 86_400
"""Seconds for which a token is used at most, whatever its server says of its life."""
_EARLY = 30
"""Seconds before its end from which on a token is not used."""


class OAuthSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    client_id: str = Field(min_length=1)
    """The name under which we are registered."""
    client_secret: SecretStr | None = None
    """Our secret."""
    secret_in: Literal["header", "body"] = "header"
    """Where the secret is shown: in the Authorization header (client_secret_basic), or in the form
    (client_secret_post)."""
    key: LocalPath | None = None
    """Instead of a secret, our private key (PEM or JWK), which signs who we are: private_key_jwt, as SMART backend
    services have it."""
    key_id: str = ""
    """The key's `kid` as registered; empty: that of the JWK."""
    algorithm: Literal["", "RS256", "RS384", "ES256", "ES384"] = ""
    """How the key signs; empty: an RSA key RS384, a key on the curve P-384 ES384, on P-256 ES256."""
    scope: str = ""
    """What we ask for, such as `system/*.read`; parted by spaces."""
    token_url: HttpUrl | None = None
    """The token endpoint; empty: asked of the server, at `.well-known/smart-configuration` below `base_url`."""
    parameters: dict[str, str] = {}
    """What else the token endpoint wants, such as `audience` or `resource`."""

    @model_validator(mode="after")
    def _one_way(self) -> OAuthSettings:
        if self.client_secret and self.key:
            raise ValueError("give either `client_secret` or `key`")
        return self


class Tokens:
    """The token of one client, asked for when it is needed and used until shortly before its end."""

    def __init__(
        self,
        settings: OAuthSettings,
        client: httpx.AsyncClient,
        base: httpx.URL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises BridgeError if the key cannot be used."""
        self._clock = clock
        self._settings, self._client, self._base = settings, client, base
        self._key = _signing(settings) if settings.key else None
        self._url = httpx.URL(str(settings.token_url)) if settings.token_url else None
        self._asking = asyncio.Lock()
        self._token, self._until = "", -math.inf

    async def current(self) -> str:
        """Raises Unreachable when none can be had: without one the server is as good as away."""
        async with self._asking:
            if self._clock() >= self._until:
                self._token, life = await self._ask()
                self._until = self._clock() + max(life - _EARLY, life / 2)
            return self._token

    def refused(self, token: str) -> None:
        """The server does not take ``token``: the next one is asked for, unless it was already."""
        if token == self._token:
            self._until = -math.inf

    async def _ask(self) -> tuple[str, float]:
        """A token, and for how many seconds it is valid."""
        url = self._url or await self._discover()
        form = {"grant_type": "client_credentials", **self._settings.parameters}
        if self._settings.scope:
            form["scope"] = self._settings.scope
        headers = {"Accept": "application/json"}
        self._identify(form, headers, str(url))
        answer = await self._fetch("POST", url, headers, form)
        token = answer.get("access_token")
        told = isinstance(token, str) and re.fullmatch("[!-~]+", token)  # what a header can hold
        if not told or str(answer.get("token_type", "bearer")).lower() != "bearer":
            raise Unreachable("the token endpoint gave no bearer token", at=_shown(url))
        return told[0], _life(answer.get("expires_in"))

    def _identify(self, form: dict[str, str], headers: dict[str, str], audience: str) -> None:
        name = self._settings.client_id
        if self._key:
            form |= {"client_assertion_type": _ASSERTION, "client_assertion": self._key.assertion(name, audience)}
        elif self._settings.client_secret and self._settings.secret_in == "header":
            secret = self._settings.client_secret.get_secret_value()
            basic = httpx.BasicAuth(quote_plus(name), quote_plus(secret))
            headers["Authorization"] = next(basic.auth_flow(httpx.Request("POST", audience))).headers["Authorization"]
        else:
            form["client_id"] = name
            if self._settings.client_secret:
                form["client_secret"] = self._settings.client_secret.get_secret_value()

    async def _discover(self) -> httpx.URL:
        """The token endpoint by SMART App Launch 2.2, section 4 (Conformance)."""
        place = self._base.copy_with(path=self._base.path.rstrip("/") + "/.well-known/smart-configuration")
        found = (await self._fetch("GET", place, {"Accept": "application/json"})).get("token_endpoint")
        try:
            url = httpx.URL(found) if isinstance(found, str) else httpx.URL("")
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or (self._base.scheme == "https" and url.scheme == "http"):
            raise Unreachable("the server names no token endpoint", at=_shown(place), fix="set `token_url`")
        return url

    async def _fetch(
        self, method: str, url: httpx.URL, headers: dict[str, str], form: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            response = await http_client.request(self._client, method, url, headers, _shown(url), form=form)
        except Uncertain as error:
            raise Unreachable(error.what, at=error.at) from None
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        answer = answer if isinstance(answer, dict) else {}
        if response.is_success:
            return answer
        code = str(answer.get("error", ""))
        what = f"HTTP {response.status_code}{f' {code}' if re.fullmatch('[a-z_]{1,40}', code) else ''}"
        wait = http_client.retry_after(response)
        raise Unreachable(f"no token: {what}", at=_shown(url), fix="check `oauth`", retry_after=wait)


def _life(told: Any) -> float:
    """For how many seconds a token is valid, by what is told of it."""
    try:
        life = float(told)
    except (TypeError, ValueError, OverflowError):
        return _LIFE
    return min(life, _LONGEST) if life > 0 else _LIFE


def _signing(settings: OAuthSettings) -> SigningKey:
    from channels.oauth_key import SigningKey  # only who signs waits for the library

    assert settings.key is not None
    return SigningKey(settings.key, settings.algorithm, settings.key_id)


def _shown(url: httpx.URL) -> str:
    return str(url.copy_with(userinfo=b"", query=None))
