"""A FHIR server that nobody of this project wrote, as pytest fixtures: Medplum's router over its memory repository."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.need import missing
from tests.rigs.npm import installed

_HERE = Path(__file__).with_name("fhir_server")


@dataclass(frozen=True)
class FhirServer:
    """A running server; its store is empty at the start of each test."""

    root: str

    @property
    def base_url(self) -> str:
        return f"{self.root}/fhir"

    def _call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/fhir+json"}
        request = urllib.request.Request(self.root + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def state(self) -> dict[str, dict[str, Any]]:
        """Everything it holds: type -> id -> resource, with versionId and lastUpdated."""
        return self._call("/state")

    def history(self) -> dict[str, dict[str, int]]:
        """Type -> id -> how many versions were written."""
        return self._call("/history")

    def requests(self) -> list[dict[str, Any]]:
        return self._call("/requests")

    def all(self, resource_type: str) -> list[dict[str, Any]]:
        return list(self.state().get(resource_type, {}).values())

    def one(self, resource_type: str) -> dict[str, Any]:
        (resource,) = self.all(resource_type)
        return resource

    def post(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Put a resource there as another system would."""
        return self._call(f"/fhir/{resource['resourceType']}", resource)

    def put(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Another version of a resource, as another system would write it."""
        return self._call(f"/fhir/{resource['resourceType']}/{resource['id']}", resource, "PUT")

    def delete(self, resource_type: str, id: str) -> None:
        self._call(f"/fhir/{resource_type}/{id}", method="DELETE")

    def mode(self, **mode: Any) -> None:
        """How it misbehaves from now on: see server.mjs."""
        self._call("/mode", mode)

    def reset(self) -> None:
        self._call("/reset", {})


@pytest.fixture(scope="session")
def fhir_server_process() -> Iterator[FhirServer]:
    process = subprocess.Popen(installed(_HERE, "server.mjs"), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening "):
            missing("the FHIR server", "it did not start; its error is above, it wants node 20.19 or later")
        yield FhirServer(f"http://127.0.0.1:{line.split()[1]}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def fhir_server(fhir_server_process: FhirServer) -> FhirServer:
    fhir_server_process.reset()
    return fhir_server_process
