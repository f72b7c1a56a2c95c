"""The private key that says who we are to a token endpoint: private_key_jwt (RFC 7523, SMART App Launch 2.2)."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from bridge.errors import BridgeError

_CURVES = {"P-256": "ES256", "P-384": "ES384"}
_LIFE = 300
"""Seconds that an assertion is valid; SMART allows no more."""


class SigningKey:
    def __init__(self, path: Path, algorithm: str = "", kid: str = "") -> None:
        """A PEM or JWK file. Without ``algorithm`` the key's kind decides, without ``kid`` the JWK.

        Raises BridgeError if it cannot be used.
        """
        self._key, self._algorithm = _load(path, algorithm)
        self._header = {"alg": self._algorithm, "typ": "JWT"}
        if named := kid or self._key.get("kid"):
            self._header["kid"] = str(named)

    def assertion(self, client: str, audience: str) -> str:
        """A signed JWT for one use: ``client`` says to ``audience`` who it is."""
        now = int(time.time())
        claims = {
            "iss": client,
            "sub": client,
            "aud": audience,
            "iat": now,
            "exp": now + _LIFE,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(dict(self._header), claims, self._key, algorithms=[self._algorithm])


def _load(path: Path, algorithm: str) -> tuple[RSAKey | ECKey, str]:
    """The private key in a file, and the algorithm it signs with."""
    try:
        text = path.read_text(encoding="ascii")
        material = json.loads(text) if text.lstrip().startswith("{") else text
        key = _imported(material)
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be read") from None
    except (ValueError, TypeError, JoseError):
        raise _unusable(path, "it is neither PEM nor a JWK of an RSA or EC key") from None
    if not key.is_private:
        raise _unusable(path, "it is a public key")
    fits = ("RS256", "RS384") if isinstance(key, RSAKey) else (_CURVES.get(str(key.get("crv"))),)
    chosen = algorithm or fits[-1]
    if chosen is None or chosen not in fits:
        raise _unusable(path, f"it cannot sign {algorithm}" if algorithm else "its curve is not P-256 or P-384")
    return key, chosen


def _imported(material: Any) -> RSAKey | ECKey:
    if isinstance(material, dict):
        return ECKey.import_key(material) if material.get("kty") == "EC" else RSAKey.import_key(material)
    try:
        return RSAKey.import_key(material)
    except (ValueError, TypeError, JoseError):
        return ECKey.import_key(material)


def _unusable(path: Path, why: str) -> BridgeError:
    fix = "name a PEM or JWK file with a private RSA key, or one on the curve P-384"
    return BridgeError(f"the key cannot be used: {why}", at=str(path), fix=fix, kind="settings")
