"""What a FHIR message refers to, looked up in the facade's store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.codecs.fhir_message import parse_fhir
from bridge.engine import references
from bridge.fhir.interaction import Interaction
from bridge.message import Header
from bridge.store.store import Store

Json = dict[str, Any]
PATIENT: Json = {"resourceType": "Patient", "id": "77", "identifier": [{"system": "urn:oid:1.2.3", "value": "X 77"}]}
ORDER: Json = {
    "resourceType": "ServiceRequest",
    "id": "501",
    "identifier": [{"system": "http://his.example/orders", "value": "PL1"}],
    "status": "active",
    "intent": "order",
    "code": {"text": "CT"},
    "subject": {"reference": "Patient/77"},
}
BOOKED: Json = {
    "resourceType": "Appointment",
    "id": "9",
    "status": "booked",
    "start": "2026-01-06T09:45:00+01:00",
    "end": "2026-01-06T10:15:00+01:00",
    "basedOn": [{"reference": "ServiceRequest/501"}],
    "participant": [{"status": "accepted", "actor": {"reference": "Patient/77"}}],
}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    asked = [Interaction("PUT", one["resourceType"], str(one["id"]), resource=one) for one in (PATIENT, ORDER, BOOKED)]
    store.write(lambda tx: store.fhir.write(tx, asked, message="m1", at=1_767_600_000_000))
    yield store
    store.close()


def found(store: Store, resource: Json, **more: Any) -> list[str]:
    return sorted(references.known(store.fhir, parse_fhir(json.dumps(resource).encode()), **more))


def test_what_refers_to_an_order_is_found_with_what_it_refers_to(store: Store) -> None:
    assert found(store, ORDER) == ["Appointment/9", "Patient/77"]
    assert found(store, ORDER, back=False) == ["Patient/77"]


def test_an_order_that_is_only_being_made_has_nothing_of_the_one_whose_id_it_bears(store: Store) -> None:
    entry = {"resource": ORDER, "request": {"method": "POST", "url": "ServiceRequest"}}
    assert found(store, {"resourceType": "Bundle", "type": "batch", "entry": [entry]}) == ["Patient/77"]


def test_the_patient_of_an_order_is_found_behind_what_is_about_the_order(store: Store) -> None:
    task = {"resourceType": "Task", "status": "completed", "focus": {"reference": "ServiceRequest/501"}}
    assert found(store, task) == ["Patient/77", "ServiceRequest/501"]


def test_a_conditional_reference_is_looked_for_and_what_is_nowhere_is_left_out(store: Store) -> None:
    there = "Patient?identifier=urn%3Aoid%3A1.2.3%7CX%2077"
    assert found(store, ORDER | {"id": "1", "subject": {"reference": there}}) == [there]
    for nowhere in (
        "Patient/404",
        "Patient?identifier=a|b",
        "Medication/1",
        "Group?identifier=a|b",
        "#p",
        "urn:uuid:1",
    ):
        assert found(store, ORDER | {"id": "1", "subject": {"reference": nowhere}}) == []


def test_a_message_that_only_refers_has_the_lanes_of_whom_it_is_about(store: Store) -> None:
    message = parse_fhir(json.dumps({**BOOKED, "id": "10"}).encode())
    site = {"name": "demo-hospital", "authorities": {"HIS": "http://his.example/orders"}}

    header = references.settled(message.header, message, references.known(store.fhir, message), site)

    assert (header.patients, header.orders) == (("X 77^1.2.3",), ("placer:PL1^HIS",))


def test_other_messages_ask_for_nothing(store: Store) -> None:
    header = Header(type="ORM^O01")
    assert references.known(store.fhir, object()) == {}
    assert references.settled(header, object(), {}, {}) is header
    assert references.context(object(), {}, "m1") == {}
