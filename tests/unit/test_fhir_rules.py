"""Invariants of FHIR R4: what breaks one is told with its place, and never leaves."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.codecs import fhir, fhir_plan
from bridge.codecs.fhir import Entry
from bridge.codecs.fhir_rules import RULES, broken
from bridge.errors import MappingError, Permanent

APPOINTMENT = {
    "resourceType": "Appointment",
    "status": "booked",
    "start": "2026-01-07T14:30:00+01:00",
    "end": "2026-01-07T15:00:00+01:00",
    "participant": [{"actor": {"display": "ROOM 1"}, "status": "accepted"}],
}
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "s", "code": "c"}]}}


@pytest.mark.parametrize(
    ("resource", "at", "rule"),
    [
        ({"resourceType": "Encounter", "period": {"start": "2026-01-08", "end": "2026-01-07T10:00:00Z"}},
         "Encounter.period", "per-1"),
        ({"resourceType": "Patient", "name": [{"period": {"start": "2026", "end": "2025-12"}}]},
         "Patient.name[0].period", "per-1"),
        ({"resourceType": "DocumentReference", "content": [{"attachment": {"data": "QQ=="}}]},
         "DocumentReference.content[0].attachment", "att-1"),
        ({"resourceType": "DiagnosticReport", "presentedForm": [{"data": "QQ=="}]},
         "DiagnosticReport.presentedForm[0]", "att-1"),
        ({"resourceType": "Patient", "telecom": [{"value": "01"}]}, "Patient.telecom[0]", "cpt-2"),
        ({"resourceType": "Patient", "contact": [{"gender": "male"}]}, "Patient.contact[0]", "pat-1"),
        ({"resourceType": "Patient", "extension": [{"url": "u"}]}, "Patient.extension[0]", "ext-1"),
        ({"resourceType": "Patient", "generalPractitioner": [{"reference": "#gone"}]},
         "Patient.generalPractitioner[0]", "ref-1"),
        ({"resourceType": "Organization", "active": True}, "Organization", "org-1"),
        ({"resourceType": "Organization", "name": "R", "address": [{"use": "home"}]}, "Organization", "org-2"),
        ({**APPOINTMENT, "participant": [{"status": "accepted"}]}, "Appointment.participant[0]", "app-1"),
        ({key: value for key, value in APPOINTMENT.items() if key not in ("start", "end")}, "Appointment", "app-3"),
        ({**APPOINTMENT, "cancelationReason": {"text": "ill"}}, "Appointment", "app-4"),
        ({**APPOINTMENT, "end": "2026-01-07T14:00:00+01:00"}, "Appointment", "per-1"),
        ({**OBSERVATION, "referenceRange": [{"age": {}}]}, "Observation.referenceRange[0]", "obs-3"),
        ({**OBSERVATION, "valueString": "x", "dataAbsentReason": {"text": "none"}}, "Observation", "obs-6"),
        ({**OBSERVATION, "valueString": "x", "component": [{"code": OBSERVATION["code"]}]}, "Observation", "obs-7"),
        ({**OBSERVATION, "valueQuantity": {"code": "mm"}}, "Observation.valueQuantity", "qty-3"),
        ({**OBSERVATION, "valueRange": {"low": {"value": 3}, "high": {"value": 2}}}, "Observation.valueRange", "rng-2"),
        ({"resourceType": "ServiceRequest", "orderDetail": [{"text": "thin"}]}, "ServiceRequest", "prr-1"),
        ({"resourceType": "Task", "authoredOn": "2026-01-02", "lastModified": "2026-01-01"}, "Task", "inv-1"),
    ],
)  # fmt: skip
def test_each_invariant_finds_what_breaks_it(resource: dict[str, Any], at: str, rule: str) -> None:
    assert [(one.at, one.rule) for one in broken(resource)] == [(at, rule)]


def test_start_without_end_breaks_two() -> None:
    made = {key: value for key, value in APPOINTMENT.items() if key != "end"}

    assert [one.rule for one in broken(made)] == ["app-2", "app-3"]


@pytest.mark.parametrize(
    "resource",
    [
        APPOINTMENT,
        {**APPOINTMENT, "status": "cancelled", "cancelationReason": {"text": "ill"}},
        {"resourceType": "Appointment", "status": "waitlist", "participant": APPOINTMENT["participant"]},
        {**OBSERVATION, "valueRange": {"low": {"value": 3, "unit": "mm"}, "high": {"value": 1, "unit": "cm"}}},
        {"resourceType": "Encounter", "period": {"start": "2026-01-07T10:00:00+01:00", "end": "2026-01-07"}},
        {"resourceType": "Patient", "contained": [{"resourceType": "Organization", "id": "o", "name": "R"}],
         "managingOrganization": {"reference": "#o"}},
    ],
)  # fmt: skip
def test_what_keeps_them_passes(resource: dict[str, Any]) -> None:
    assert list(broken(resource)) == []


def test_what_is_contained_is_judged_as_what_it_is() -> None:
    made = {"resourceType": "Patient", "contained": [{"resourceType": "Organization", "id": "o"}]}

    assert [(one.at, one.rule) for one in broken(made)] == [("Patient.contained[0]", "org-1")]


def test_the_resources_of_a_bundle_are_judged_each_for_itself() -> None:
    organization = {"resourceType": "Organization", "id": "o", "name": "R"}
    whole = {"resourceType": "Patient", "contained": [organization], "managingOrganization": {"reference": "#o"}}
    torn = {"resourceType": "Patient", "managingOrganization": {"reference": "#o"}, "telecom": [{"value": "01"}]}

    found = broken({"resourceType": "Bundle", "entry": [{"resource": whole}, {"resource": torn}]})

    assert [(one.at, one.rule) for one in found] == [
        ("Bundle.entry[1].resource.telecom[0]", "cpt-2"),
        ("Bundle.entry[1].resource.managingOrganization", "ref-1"),
    ]


def test_what_breaks_an_invariant_never_leaves() -> None:
    made = {**APPOINTMENT, "identifier": [{"system": "urn:x", "value": "1"}], "end": "2026-01-07T14:00:00+01:00"}

    with pytest.raises(MappingError) as caught:
        fhir.build_bundle([Entry("appointment", made, "update", f"identifier={fhir.token('urn:x', '1')}")])

    assert caught.value.at == "Appointment" and "per-1" in caught.value.what


def test_a_name_whose_parts_are_extended_one_by_one_is_looked_through() -> None:
    name = {"given": ["A", None], "_given": [{"extension": [{"url": "u"}]}, None]}

    assert [one.at for one in broken({"resourceType": "Patient", "name": [name]})] == [
        "Patient.name[0]._given[0].extension[0]"
    ]


def test_every_rule_says_what_is_wrong() -> None:
    assert all(rule.what and rule.key and rule.on for rule in RULES)


def test_what_breaks_an_invariant_only_with_what_is_there_is_not_written() -> None:
    told = {**APPOINTMENT, "status": "cancelled", "identifier": [{"system": "urn:x", "value": "1"}]}
    del told["start"], told["end"]
    match = f"identifier={fhir.token('urn:x', '1')}"
    made = fhir.decode(fhir.build_bundle([Entry("one", {**told, "start": "2026-01-07T16:00:00Z",
                                                        "end": "2026-01-07T16:30:00Z"}, "update", match)]))  # fmt: skip
    held = {**told, "id": "a", "status": "booked", "cancelationReason": {"text": "odd"}}
    del made["entry"][0]["resource"]["end"]

    with pytest.raises(Permanent) as caught:
        fhir_plan.plan(made, [held])
    (write,) = fhir_plan.plan(made, [{**held, "end": "2026-01-07T17:00:00Z"}]).entries

    assert caught.value.at == "Appointment" and "app-2" in caught.value.what
    assert write["resource"]["status"] == "cancelled"
