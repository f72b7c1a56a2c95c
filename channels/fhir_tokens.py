"""Bearer tokens of a ``fhir-server``: JWTs signed by the keys of an issuer (RFC 7519, RFC 9068), or tokens that it is
asked about (RFC 7662)."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.requests import Request

from bridge.errors import BridgeError
from bridge.fhir.outcome import HttpFault
from channels import http_client
from channels.fhir_access import AccessSettings, Caller, Claims, Unauthorised, bearer, caller_of

log = structlog.get_logger(__name__)

ALGORITHMS = [f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in (256, 384, 512)]
"""What tokens may be signed with: never a shared secret, never nothing."""
_LEEWAY = 30
"""Seconds by which clocks may differ."""
_FRESH = 3600.0
"""Seconds after which keys are asked for again; those that are known serve on until there are new ones."""
_PAUSE = 30.0
"""At least so many between two questions, however many tokens name an unknown key."""
_SOON = 2.0
"""The same while no key is known."""
_REMEMBERED = 30.0
"""Seconds for which the issuer's word about a token holds."""
_MOST = 1000
_TIMEOUT = 5.0
Public = Any
"""A key of joserfc."""


class Issuer:
    """What the authorization server says of itself, and its keys. ``clock``: monotonic seconds."""

    def __init__(self, settings: AccessSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises BridgeError if a file cannot be used."""
        self._settings, self._clock = settings, clock
        self._client = httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=_TIMEOUT, verify=http_client.trust(settings.ca or True)
        )
        file = settings.jwks if isinstance(settings.jwks, Path) else None
        self._keys: list[Public] = _from_file(file) if file else []
        self._fixed = file is not None
        self._asked = self._read = self._sought = -math.inf
        self._asking = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._described: dict[str, Any] = {}

    async def close(self) -> None:
        await self._client.aclose()

    async def key(self, kid: str, algorithm: str) -> Public | None:
        """The key of this id; without one the only key that fits the algorithm. None: there is none.

        Raises HttpFault 503 while no keys are known because the issuer is away."""
        found = self._find(kid, algorithm)
        if self._fixed:
            return found
        if found:
            if self._clock() - self._read >= _FRESH and (self._renewal is None or self._renewal.done()):
                self._renewal = asyncio.create_task(self._renew(), name="keys of the issuer")
            return found
        await self._renew(lambda: self._find(kid, algorithm) is None)
        if not self._keys:
            what, fix = "the authorization server's keys are not known", "try again when it is back"
            raise HttpFault(503, what, fix=fix, headers={"Retry-After": str(int(_PAUSE))})
        return self._find(kid, algorithm)

    async def _renew(self, needed: Callable[[], bool] = lambda: True) -> None:
        """Ask for the keys, if that is still needed and was not done just now."""
        async with self._asking:
            if needed() and self._clock() - self._asked >= (_PAUSE if self._keys else _SOON):
                self._asked = self._clock()
                await self._refresh()

    async def described(self) -> dict[str, Any]:
        """Its OpenID Connect discovery document; empty while it cannot be had."""
        if not self._described and self._clock() - self._sought >= _SOON:
            self._sought = self._clock()
            try:
                place = f"{str(self._settings.issuer).rstrip('/')}/.well-known/openid-configuration"
                found = await self.fetch("GET", place)
                if str(found.get("issuer", "")).rstrip("/") == str(self._settings.issuer).rstrip("/"):
                    self._described = found
            except BridgeError as error:
                log.warning("issuer_not_reached", what=error.what, at=error.at)
        return self._described

    async def fetch(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        """A JSON object. Raises BridgeError."""
        headers = {"Accept": "application/json", **more.pop("headers", {})}
        response = await http_client.request(self._client, method, httpx.URL(url), headers, url, **more)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if not response.is_success or not isinstance(answer, dict):
            raise BridgeError(f"HTTP {response.status_code}, or no JSON object", at=url)
        return answer

    def _find(self, kid: str, algorithm: str) -> Public | None:
        kinds = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey}
        fitting = [
            key
            for key in self._keys
            if isinstance(key, kinds[algorithm[:2]])
            and key.get("use") in (None, "sig")
            and key.get("alg") in (None, algorithm)
            and (not kid or key.get("kid") in ((kid, None) if self._fixed else (kid,)))
        ]
        return fitting[0] if len(fitting) == 1 or (fitting and kid) else None

    async def _refresh(self) -> None:
        said = self._settings.jwks
        place = str(said) if said else str((await self.described()).get("jwks_uri", ""))
        if not place:
            return
        try:
            found = KeySet.import_key_set(await self.fetch("GET", place))  # type: ignore[arg-type]
        except (BridgeError, JoseError, KeyError, TypeError, ValueError) as error:
            log.warning("keys_not_read", at=place, what=error.what if isinstance(error, BridgeError) else "no JWKS")
            return
        self._keys, self._read = list(found.keys), self._clock()
        log.info("keys_read", at=place, count=len(self._keys))


class Tokens:
    """Knows callers by their tokens: an ``Authorise``."""

    def __init__(self, settings: AccessSettings, issuer: Issuer, wall: Callable[[], float] = time.time) -> None:
        self._settings, self._issuer, self._wall = settings, issuer, wall
        self._known: dict[bytes, tuple[float, Claims]] = {}
        """What the issuer said of tokens, by their digest, and until when that holds."""

    async def __call__(self, request: Request) -> Caller:
        token = bearer(request)
        if token.count(".") == 2:
            claims = await self._verified(token)
        elif self._settings.introspection:
            claims = await self._introspected(token)
        else:
            raise Unauthorised("the token is no JWT")
        self._check(claims)
        return caller_of(claims, self._settings)

    async def _verified(self, token: str) -> Claims:
        """The claims of a JWT whose signature is the issuer's."""
        try:
            header = jws.extract_compact(token.encode()).headers()
            algorithm, kid = header.get("alg"), header.get("kid", "")
            if algorithm not in ALGORITHMS or not isinstance(kid, str):
                raise Unauthorised("the token is not signed as it has to be")
            key = await self._issuer.key(kid, algorithm)
            if key is None:
                raise Unauthorised("the token is signed with a key that is not known")
            return jwt.decode(token, key, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError):
            raise Unauthorised("the token is not valid") from None

    def _check(self, claims: Claims) -> None:
        """Issuer, audience and time (RFC 7519, 4.1). Raises Unauthorised."""
        said = claims.get("aud")
        audiences = said if isinstance(said, list) else [said]
        now = self._wall()
        end, begin = _seconds(claims.get("exp")), _seconds(claims.get("nbf", 0))
        if str(claims.get("iss", "")).rstrip("/") != str(self._settings.issuer).rstrip("/"):
            raise Unauthorised("the token is of another issuer")
        if self._settings.audience not in audiences:
            raise Unauthorised("the token is for another audience")
        if end is None or begin is None:
            raise Unauthorised("the token has no end")
        if end <= now - _LEEWAY:
            raise Unauthorised("the token has expired")
        if begin > now + _LEEWAY:
            raise Unauthorised("the token is not valid yet")

    async def _introspected(self, token: str) -> Claims:
        digest, now = sha256(token.encode()).digest(), self._wall()
        until, claims = self._known.get(digest, (0.0, {}))
        if until > now:
            return claims
        asked = self._settings.introspection
        assert asked is not None
        secret = quote_plus(asked.client_secret.get_secret_value())
        basic = httpx.BasicAuth(quote_plus(asked.client_id), secret)
        shown = next(basic.auth_flow(httpx.Request("POST", str(asked.url)))).headers["Authorization"]
        try:
            found = await self._issuer.fetch(
                "POST", str(asked.url), headers={"Authorization": shown}, form={"token": token}
            )
        except BridgeError as error:
            log.warning("token_not_introspected", what=error.what, at=error.at)
            raise HttpFault(503, "the authorization server is away", headers={"Retry-After": "5"}) from None
        if found.get("active") is not True:
            raise Unauthorised("the token is not valid")
        known = {"iss": str(self._settings.issuer), "aud": self._settings.audience, "exp": now + _REMEMBERED}
        claims = {**known, **found}
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[digest] = (now + _REMEMBERED, claims)
        return claims


def _seconds(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _from_file(path: Path) -> list[Public]:
    """The public keys in a JWKS, a JWK or a PEM file. Raises BridgeError."""
    try:
        text = path.read_text(encoding="ascii")
        if text.lstrip().startswith("{"):
            read = json.loads(text)
            return list(KeySet.import_key_set(read if "keys" in read else {"keys": [read]}).keys)
        try:
            return [RSAKey.import_key(text)]
        except (ValueError, TypeError, JoseError):
            return [ECKey.import_key(text)]
    except OSError as error:
        why = error.strerror or "it cannot be read"
    except (ValueError, TypeError, KeyError, JoseError):
        why = "it is neither a JWKS nor PEM"
    fix = "name a file with the issuer's public keys, or leave it out"
    raise BridgeError(f"the keys cannot be used: {why}", at=str(path), fix=fix, kind="settings")
