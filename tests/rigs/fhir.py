"""FHIR resources and bundles for tests of the facade, and what writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import delete

from bridge.codecs.fhir import decode
from bridge.fhir.interaction import Outcome, interactions
from bridge.store.fhir import FhirStore, Page
from bridge.store.fhir_tables import TABLES
from bridge.store.store import Store
from tests.rigs.postgres import Postgres

Json = dict[str, Any]
NOON = 1_893_499_200_000
"""2030-01-01T12:00:00Z in milliseconds."""


def patient(number: int = 1, **more: Any) -> Json:
    given = {"name": [{"family": f"Sample{number}", "given": ["Zoé"]}], "birthDate": "1980-02-03"}
    return {"resourceType": "Patient", "identifier": [identifier("his", f"P{number}")], **given, **more}


def identifier(system: str, value: str) -> Json:
    return {"system": f"urn:{system}", "value": value}


def order(number: int = 1, subject: str | Json = "Patient/p1", **more: Any) -> Json:
    of = {"reference": subject} if isinstance(subject, str) else subject
    said = {"status": "active", "intent": "order", "subject": of}
    return {"resourceType": "ServiceRequest", "identifier": [identifier("placer", f"O{number}")], **said, **more}


def report(number: int = 1, status: str = "final", subject: str = "Patient/p1", **more: Any) -> Json:
    said = {"status": status, "code": {"text": "CT"}, "subject": {"reference": subject}}
    return {"resourceType": "DiagnosticReport", "identifier": [identifier("ris", f"R{number}")], **said, **more}


def create(resource: Json, unless: str = "", url: str = "") -> Json:
    request = {"method": "POST", "url": resource["resourceType"], **({"ifNoneExist": unless} if unless else {})}
    return {"resource": resource, "request": request, **({"fullUrl": url} if url else {})}


def put(resource: Json, search: str = "", match: str = "", url: str = "") -> Json:
    kind = resource["resourceType"]
    request = {"method": "PUT", "url": f"{kind}?{search}" if search else f"{kind}/{resource['id']}"}
    request |= {"ifMatch": f'W/"{match}"'} if match else {}
    return {"resource": resource, "request": request, **({"fullUrl": url} if url else {})}


def remove(url: str) -> Json:
    return {"request": {"method": "DELETE", "url": url}}


def bundle(*entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


class Facade:
    """A store's projection with the way of a test to write and ask."""

    def __init__(self, store: Store) -> None:
        self.store, self.fhir = store, store.fhir
        self.clock = NOON

    def write(self, *entries: Json, fhir: FhirStore | None = None) -> list[Outcome]:
        """One transaction, a second after the one before. Raises Refused."""
        self.clock += 1000
        wanted = interactions(bundle(*entries))
        done: list[Outcome] = self.store.write(
            lambda tx: (fhir or self.fhir).write(tx, wanted, message=f"m{self.clock}", at=self.clock)
        )
        return done

    def apply(self, *entries: Json) -> str:
        """A mapping's bundle."""
        self.clock += 1000
        said: str = self.store.write(
            lambda tx: self.fhir.apply(tx, bundle(*entries), message=f"m{self.clock}", at=self.clock)
        )
        return said

    def body(self, kind: str, identifier: str, version: str = "") -> Json:
        return decode(self.fhir.read(kind, identifier, version).body)

    def page(self, kind: str, *parameters: tuple[str, str], **more: Any) -> Page:
        return self.fhir.search(kind, list(parameters), **more)

    def found(self, kind: str, *parameters: tuple[str, str], **more: Any) -> list[str]:
        """The ids of what a search finds."""
        return [one.id for one in self.page(kind, *parameters, **more).matches]

    def clear(self) -> None:
        """As if nothing had ever been written."""
        self.store.write(lambda tx: [tx.execute(delete(table)) for table in TABLES])
        self.clock = NOON


@contextmanager
def new_facade(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Iterator[Facade]:
    """On a new database: of the server ``postgres``, or of SQLite, as the fixture's parameter says."""
    server: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgres" else None
    url = server.new_database() if server else f"sqlite:///{folders.mktemp('fhir') / 'radbridge.db'}"
    store = Store(url)
    yield Facade(store)
    store.close()
    if server:
        server.drop(url)
