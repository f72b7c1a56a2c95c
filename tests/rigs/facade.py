"""An engine with a FHIR facade under its web server, and a client for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.rigs.engine import Node, write_site
from tests.rigs.processes import free_port

JSON = {"content-type": "application/fhir+json"}


@contextmanager
def facade(folder: Path, routes: Any = None, channels: Any = None, **settings: Any) -> Iterator[str]:
    """The base URL of a running engine's facade with these settings; ``channels`` besides `fhir`."""
    address = f"127.0.0.1:{free_port()}"
    ends = {"fhir": {"type": "fhir-server", **settings}, **(channels or {})}
    config = write_site(folder, ends, routes or {}, web={"listen": address, "token": "secret-token"})
    with Node(config, roles="receive,deliver,web") as node:
        node.start()
        asyncio.run(node.says("Stop with Ctrl+C"))
        yield f"http://{address}/fhir"


class Client(httpx.Client):
    """Talks FHIR JSON to a facade."""

    def __init__(self, base: str) -> None:
        super().__init__(base_url=base, timeout=30, trust_env=False, headers={"accept": "application/fhir+json"})

    def write(self, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent: Any = {"content": body} if isinstance(body, bytes | str) else {"json": body}
        return self.request(method, path, headers={**JSON, **named}, **sent)

    def create(self, resource: dict[str, Any], **headers: str) -> httpx.Response:
        return self.write("POST", f"/{resource['resourceType']}", resource, **headers)

    def made(self, resource: dict[str, Any]) -> dict[str, Any]:
        response = self.create(resource)
        assert response.status_code == 201, response.text
        found: dict[str, Any] = response.json()
        return found


def issue(response: httpx.Response) -> dict[str, Any]:
    """The first issue of an OperationOutcome."""
    told = response.json()
    assert told["resourceType"] == "OperationOutcome", told
    first: dict[str, Any] = told["issue"][0]
    return first
