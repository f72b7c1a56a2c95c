"""An authorization server that nobody of this project wrote (oidc-provider), before a FHIR server."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.rigs.need import missing
from tests.rigs.npm import installed

_HERE = Path(__file__).with_name("oauth_server")
SECRET = "a secret: with/odd+signs%"
"""Of the clients ``bridge:basic`` and ``bridge-post``; ``bridge-rsa`` and ``bridge-ec`` have keys."""


@dataclass(frozen=True)
class OAuthServer:
    root: str
    trust: ssl.SSLContext | None

    @property
    def base_url(self) -> str:
        """Of the FHIR server behind it."""
        return f"{self.root}/fhir"

    def call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.root}{path}", data, timeout=30, context=self.trust) as response:
            return json.load(response)

    def token(self, client: str = "bridge-post", **wish: str) -> str:
        """One for the client with a secret; ``wish``: scope and resource."""
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": SECRET, **wish}
        with urllib.request.urlopen(f"{self.root}/token", urlencode(form).encode(), timeout=30) as response:
            token: str = json.load(response)["access_token"]
        return token

    def seen(self, path: str) -> list[int]:
        """How each request to ``path`` was answered so far."""
        return [one["status"] for one in self.call("/seen") if one["path"] == path]


@contextmanager
def oauth_server(fhir: str, trust: ssl.SSLContext | None = None, **wish: Any) -> Iterator[OAuthServer]:
    """One before the FHIR server at the root ``fhir``; ``wish`` as in server.mjs."""
    command = [*installed(_HERE, "server.mjs"), json.dumps({"fhir": fhir, **wish})]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening "):
            missing("the OAuth server", "it did not start; it wants node 20.19 or later")
        yield OAuthServer(f"{'https' if trust else 'http'}://127.0.0.1:{line.split()[1]}", trust)
    finally:
        process.terminate()
        process.wait(10)
