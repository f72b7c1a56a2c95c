"""``fhir-in`` in the engine, against a FHIR server that nobody of this project wrote (Medplum's)."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from bridge.app import Node as App
from bridge.codecs.hl7v2 import parse
from bridge.store.search import MessageFilter
from tests.rigs.engine import CRASHING, Node, write_site
from tests.rigs.fhir_search import SearchServer
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process
from tests.rigs.site import eventually, running

__all__ = ["fhir_server", "fhir_server_process"]

ROUTES = {"all": {"from": "his", "to": ["copies"]}}


def channels(server: FhirServer | SearchServer, folder: Path, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    poll = {"search": "ServiceRequest", "since": "2020-01-01T00:00:00Z", "interval": "30ms", "count": 7, **settings}
    return {
        "his": {"type": "fhir-in", "base_url": server.base_url, **poll},
        "copies": {"type": "file-out", "folder": str(folder), "name": "{position}-{delivery}"},
    }


def order(number: int, status: str = "active") -> dict[str, Any]:
    subject = {"reference": "Patient/p1", "display": "TESTPATIENT Hélène"}
    made = {"resourceType": "ServiceRequest", "status": status, "intent": "order", "subject": subject}
    return {**made, "identifier": [{"system": "urn:oid:2.25.2", "value": f"A{number}"}]}


def copies(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_bytes()) for file in sorted(folder.iterdir()) if not file.name.startswith(".")]


def names(resources: list[dict[str, Any]]) -> Counter[str]:
    return Counter(f"{one['id']} {one['meta']['versionId']}" for one in resources)


def rows(node: App) -> list[dict[str, Any]]:
    return node.store.messages(MessageFilter())


async def test_each_version_is_one_message_also_over_a_restart(fhir_server: FhirServer, tmp_path: Path) -> None:
    # Given orders on a server, more than a page of them
    taken = tmp_path / "copies"
    made = [fhir_server.post(order(number)) for number in range(20)]
    site = channels(fhir_server, taken)

    # When the engine runs, and runs again, and an order changes in between
    async with running(tmp_path, site, ROUTES) as node:
        await eventually(lambda: len(copies(taken)) == 20)
    made.append(fhir_server.put({**made[3], "status": "revoked"}))
    async with running(tmp_path, site, ROUTES) as node:
        await eventually(lambda: len(copies(taken)) == 21)
        asked = len(fhir_server.requests())
        await eventually(lambda: len(fhir_server.requests()) > asked + 4)
        received = rows(node)

    # Then each version came once, as the server has it, known by its name and without a duplicate
    assert copies(taken) == made
    assert {one["status"] for one in received} == {"routed"}
    expected = {f"ServiceRequest/{one['id']}/_history/{one['meta']['versionId']}" for one in made}
    assert {one["control_id"] for one in received} == expected
    assert {one["type"] for one in received} == {"ServiceRequest"}


async def test_an_outage_is_waited_for(fhir_server: FhirServer, tmp_path: Path) -> None:
    fhir_server.post(order(1))
    fhir_server.mode(status=503, retryAfter=1, times=1)

    async with running(tmp_path, channels(fhir_server, tmp_path / "copies"), ROUTES):
        await eventually(lambda: len(copies(tmp_path / "copies")) == 1)

    assert len(fhir_server.requests()) >= 2


async def test_a_search_takes_only_what_it_asks_for(fhir_server: FhirServer, tmp_path: Path) -> None:
    for number, status in enumerate(["active", "draft", "active"]):
        fhir_server.post(order(number, status))
    site = channels(fhir_server, tmp_path / "copies", search="ServiceRequest?status=active")

    async with running(tmp_path, site, ROUTES):
        await eventually(lambda: len(copies(tmp_path / "copies")) == 2)

    assert {one["status"] for one in copies(tmp_path / "copies")} == {"active"}


async def test_a_killed_engine_loses_nothing_and_nothing_is_done_twice(fhir_server: FhirServer, tmp_path: Path) -> None:
    # Given an engine that dies on the second page: four messages of it are committed, and the cursor does not know
    made = [fhir_server.post(order(number)) for number in range(30)]
    taken = tmp_path / "copies"
    site = channels(fhir_server, taken)
    with Node(write_site(tmp_path, site, ROUTES), command=CRASHING, roles="receive,deliver") as dying:
        dying.start("--die-after-accepts", "11")
        assert await dying.dies() == -signal.SIGKILL

    # When it is started again
    async with running(tmp_path, site, ROUTES) as node:
        await eventually(lambda: len(set(names(copies(taken)))) == 30)
        asked = len(fhir_server.requests())
        await eventually(lambda: len(fhir_server.requests()) > asked + 4)
        received = Counter(one["status"] for one in rows(node))

    # Then every order was delivered once, and those four were known when they came again
    assert names(copies(taken)) == names(made)
    assert received == {"routed": 30, "duplicate": 4}


async def test_an_order_with_its_patient_becomes_an_hl7_order(tmp_path: Path) -> None:
    # Given a server that gives the patient along with an order
    server, taken = SearchServer(), tmp_path / "copies"
    await server.open()
    subject = {"reference": "Patient/p1"}
    meta = {"versionId": "1", "lastUpdated": "2026-03-01T08:00:00Z"}
    code = {"coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "CT Chest"}]}
    placer = {"type": {"coding": [{"code": "PLAC"}]}, "system": "urn:oid:2.25.2", "value": "A1"}
    made = {"resourceType": "ServiceRequest", "id": "s1", "meta": meta, "status": "active", "intent": "order"}
    server.put(json.dumps({**made, "subject": subject, "code": code, "identifier": [placer]}).encode())
    name = [{"family": "TESTPATIENT", "given": ["Zoe"]}]
    number = [{"system": "urn:oid:2.25.1", "value": "P1"}]
    patient = {"resourceType": "Patient", "id": "p1", "name": name, "identifier": number, "birthDate": "1970-01-01"}
    server.included = [json.dumps(patient).encode()]
    site = channels(server, taken, include="ServiceRequest:subject")
    routes = {"orders": {"from": "his", "to": [{"copies": "servicerequest-to-omi"}]}}

    # When it is polled, and mapped
    async with running(tmp_path, site, routes):
        await eventually(lambda: len(list(taken.glob("[!.]*"))) == 1)
    await server.close()

    # Then the order has the patient's name and both numbers
    (file,) = taken.glob("[!.]*")
    message = parse(file.read_bytes())
    assert message.header.type == "OMI^O23"
    assert message.get("PID-5.1") == "TESTPATIENT" and message.get("PID-3.1") == "P1"
    assert message.get("ORC-2.1") == "A1"
