"""Whose resources a bundle is about: other patients are refused, those merged away stand for their survivors."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.codecs import fhir, fhir_plan
from bridge.codecs.fhir import Entry
from bridge.errors import Permanent

Json = dict[str, Any]


def entry(kind: str, number: str, write: Any = "update", **more: Any) -> Entry:
    resource = {"resourceType": kind, "identifier": [{"system": "urn:x", "value": number}], **more}
    return Entry(kind.lower(), resource, write, f"identifier={fhir.token('urn:x', number)}")


def bundle(*entries: Entry) -> Json:
    return fhir.decode(fhir.build_bundle(entries))


def an_order() -> Json:
    more = {"status": "active", "intent": "order", "subject": {"reference": "entry:patient"}}
    return bundle(entry("Patient", "P1", "create"), entry("ServiceRequest", "O1", **more))


def patient(id: str, into: str = "") -> Json:
    link = {"active": False, "link": [{"type": "replaced-by", "other": {"reference": f"Patient/{into}"}}]}
    return {
        "resourceType": "Patient",
        "id": id,
        "identifier": [{"system": "urn:x", "value": id}],
        **(link if into else {}),
    }


def request(subject: str) -> Json:
    about = {"status": "on-hold", "intent": "order", "subject": {"reference": subject}}
    return {"resourceType": "ServiceRequest", "id": "o", "identifier": [{"system": "urn:x", "value": "O1"}], **about}


def test_an_order_of_another_patient_is_refused_without_saying_whose() -> None:
    made, held = an_order(), [patient("p1"), request("Patient/p2")]

    assert fhir_plan.patients(made, held, {}) == ["Patient/p2"]
    with pytest.raises(Permanent) as caught:
        fhir_plan.plan(made, held, known={"Patient/p2": patient("p2")})

    assert caught.value.at == "ServiceRequest" and "p2" not in str(caught.value)


def test_an_order_of_a_patient_whom_nobody_knows_yet_takes_nobody_elses() -> None:
    with pytest.raises(Permanent):
        fhir_plan.plan(an_order(), [None, request("Patient/p2")], known={"Patient/p2": patient("p2")})


def test_the_order_of_a_patient_who_was_merged_into_this_one_is_this_ones() -> None:
    made, held = an_order(), [patient("p1"), request("Patient/p3")]
    known: dict[str, Json | None] = {}
    people = {"Patient/p3": patient("p3", "p2"), "Patient/p2": patient("p2", "p1")}
    asked = []
    while references := fhir_plan.patients(made, held, known):
        asked.append(references)
        known |= {one: people[one] for one in references}

    (write,) = fhir_plan.plan(made, held, known=known).entries

    assert asked == [["Patient/p3"], ["Patient/p2"]]
    assert write["resource"]["subject"] == {"reference": "Patient/p1"}


def test_who_was_merged_away_is_not_written_and_the_survivor_is_meant() -> None:
    made = bundle(
        entry("Patient", "P1", name=[{"family": "TEST"}]),
        entry("ServiceRequest", "O1", status="active", intent="order", subject={"reference": "entry:patient"}),
    )
    held = [patient("p1", "p2"), None]

    plan = fhir_plan.plan(made, held, known={"Patient/p2": patient("p2")})

    assert plan.superseded == 1
    assert [one["resource"]["subject"] for one in plan.entries] == [{"reference": "Patient/p2"}]


def test_merges_in_a_circle_end() -> None:
    made, held = an_order(), [patient("p1", "p2"), request("Patient/p2")]
    known = {"Patient/p2": patient("p2", "p1")}

    assert fhir_plan.patients(made, held, known) == []
    with pytest.raises(Permanent):
        fhir_plan.plan(made, held, known=known)


def test_what_names_no_patient_is_nobodys_yet() -> None:
    held = request("Patient/p2") | {"subject": {"display": "TEST"}}

    (write,) = fhir_plan.plan(an_order(), [patient("p1"), held]).entries

    assert write["resource"]["subject"] == {"reference": "Patient/p1"}


def test_a_patient_that_is_gone_is_asked_for_once() -> None:
    made, held = an_order(), [patient("p1"), request("Patient/p2")]

    assert fhir_plan.patients(made, held, {"Patient/p2": None}) == []


def test_provenance_tells_of_what_is_written_and_of_nothing_else() -> None:
    about = {"recorded": "2026-01-06T00:00:00Z", "agent": [{"who": {"display": "RIS"}}]}
    targets = [{"reference": "entry:patient"}, {"reference": "entry:servicerequest"}]
    more = {"status": "active", "intent": "order", "subject": {"reference": "entry:patient"}}
    made = bundle(
        entry("Patient", "P1", "create"),
        entry("ServiceRequest", "O1", **more),
        Entry("provenance", {"resourceType": "Provenance", "target": targets, **about}, "create", ""),
    )

    both = fhir_plan.plan(made, [None, None, None]).entries
    *_, one = fhir_plan.plan(made, [patient("p1"), request("Patient/p1"), None]).entries
    same = {**made["entry"][1]["resource"], "id": "o", "subject": {"reference": "Patient/p1"}}
    none = fhir_plan.plan(made, [patient("p1"), same, None])

    assert len(both) == 3 and len(both[2]["resource"]["target"]) == 2
    assert one["request"] == {"method": "POST", "url": "Provenance"}
    assert one["resource"]["target"] == [{"reference": "ServiceRequest/o"}]
    assert none == fhir_plan.Plan((), unchanged=2)
    assert [one["resource"]["resourceType"] for one in fhir_plan.unread(made).entries] == ["Patient", "ServiceRequest"]
