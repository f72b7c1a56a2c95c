"""The shipped mappings from FHIR: what they compose is HL7 to the letter, and says what the resources said."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bridge.codecs.formats import read_any
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.strict import validate
from bridge.mapping import MappingSet, compile_all
from tests.rigs.need import REPOSITORY

MAPPINGS = REPOSITORY / "mappings"
SAMPLES = MAPPINGS / "samples"
NAMES = (
    "appointment-to-siu",
    "appointment-to-worklist",
    "diagnosticreport-to-oru",
    "order-to-fhir",
    "order-to-worklist",
    "patient-to-adt",
    "report-to-fhir",
    "servicerequest-to-omi",
    "servicerequest-to-orm",
    "servicerequest-to-worklist",
)
PATIENT = {
    "resourceType": "Patient",
    "id": "77",
    "identifier": [{"system": "urn:oid:1.2.3", "value": "X77"}],
    "name": [{"family": "TESTPATIENT"}],
}
CONTEXT = {
    "site": {"name": "demo-hospital", "timezone": "Europe/Paris"},
    "references": {"Patient/77": PATIENT},
    "message": "01kd8g0000000000000000000a",
    "received": "20260105080000+0000",
}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def compiled() -> MappingSet:
    files = [MAPPINGS / f"{name}.yaml" for name in NAMES] + sorted((MAPPINGS / "tables").glob("*.csv"))
    made = compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in files})
    assert made.findings == []
    return made


def render(compiled: MappingSet, mapping: str, raw: bytes) -> bytes:
    return compiled.mappings[mapping].render(read_any(raw), CONTEXT).data


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


@pytest.mark.parametrize(
    ("mapping", "name"),
    [
        ("servicerequest-to-omi", "fhir_order_bundle.json"),
        ("servicerequest-to-orm", "fhir_order_bundle.json"),
        ("servicerequest-to-orm", "fhir_order_single.json"),
        ("diagnosticreport-to-oru", "fhir_report.json"),
        ("diagnosticreport-to-oru", "fhir_report_single.json"),
        ("appointment-to-siu", "fhir_appointment.json"),
        ("patient-to-adt", "fhir_patient.json"),
    ],
)
def test_what_is_composed_is_valid_by_the_structures_of_its_version(
    compiled: MappingSet, mapping: str, name: str
) -> None:
    assert validate(render(compiled, mapping, sample(name)), "utf-8") == []


def test_the_worklist_gets_the_same_study_from_the_resource_and_from_the_order_made_of_it(compiled: MappingSet) -> None:
    """Given an order that a RIS gets as OMI, and sends to the worklist."""
    raw = sample("fhir_order_bundle.json")
    straight = json.loads(render(compiled, "servicerequest-to-worklist", raw))["updates"][0]
    around = json.loads(render(compiled, "order-to-worklist", render(compiled, "servicerequest-to-omi", raw)))[
        "updates"
    ][0]

    one, other = (update["steps"][0]["attributes"] for update in (straight, around))
    keys = (
        "StudyInstanceUID",
        "AccessionNumber",
        "PatientID",
        "PatientName",
        "RequestedProcedureID",
        "RequestingPhysician",
    )
    assert {key: one[key] for key in keys} == {key: other[key] for key in keys}
    (step,), (again,) = (attributes["ScheduledProcedureStepSequence"] for attributes in (one, other))
    timing = (
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "ScheduledStationAETitle",
        "Modality",
    )
    assert {key: step[key] for key in timing} == {key: again[key] for key in timing}
    assert straight["order"][:2] == around["order"][:2]


def resources(bundle: bytes, kind: str) -> list[Json]:
    return [one["resource"] for one in json.loads(bundle)["entry"] if one["resource"]["resourceType"] == kind]


def text_of(report: Json) -> str:
    return base64.b64decode(report["presentedForm"][0]["data"]).decode()


@pytest.mark.parametrize(
    "name",
    [
        "oru_final.hl7",
        "oru_preliminary.hl7",
        "oru_corrected.hl7",
        "oru_pdf.hl7",
        "oru_values.hl7",
        "oru_wrong_patient.hl7",
    ],
)
def test_a_report_that_went_through_fhir_says_the_same(compiled: MappingSet, name: str) -> None:
    """Given a report as HL7, made FHIR, made HL7, and made FHIR again."""
    first = render(compiled, "report-to-fhir", sample(name))
    oru = render(compiled, "diagnosticreport-to-oru", first)
    second = render(compiled, "report-to-fhir", oru)

    (before,), (after,) = (resources(bundle, "DiagnosticReport") for bundle in (first, second))
    for element in ("status", "issued", "effectiveDateTime", "identifier"):
        assert after.get(element) == before.get(element), element
    assert after["code"]["coding"] == before["code"]["coding"]
    assert [one["contentType"] for one in after.get("presentedForm", [])] == [
        one["contentType"] for one in before.get("presentedForm", [])
    ]
    values = [
        sorted(
            json.dumps([one.get(key) for key in ("valueQuantity", "valueString", "valueCodeableConcept", "status")])
            for one in resources(bundle, "Observation")
        )
        for bundle in (first, second)
    ]
    assert values[0] == values[1]


def test_the_text_of_a_report_keeps_its_lines(compiled: MappingSet) -> None:
    raw = json.loads(sample("fhir_report.json"))
    report = next(one["resource"] for one in raw["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")
    text = "CT of the head\n\nNo haemorrhage & no ^ mass.\nSigned"
    report["presentedForm"] = [{"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}]
    del report["conclusion"]

    oru = parse(render(compiled, "diagnosticreport-to-oru", json.dumps(raw).encode()))

    assert [one.strip() for one in oru.all("OBX(1)-5")] == text.split("\n")


def order(compiled: MappingSet, **more: Any) -> Hl7Message:
    raw = json.loads(sample("fhir_order_single.json"))
    raw["entry"][0]["resource"] |= more
    return parse(render(compiled, "servicerequest-to-orm", json.dumps(raw).encode()))


@pytest.mark.parametrize(
    ("time", "local"),
    [
        ("2026-07-06T09:30:00Z", "20260706113000"),
        ("2026-01-06T09:30:00-05:00", "20260106153000"),
        ("2026-01-06", "20260106"),
        ("2026-03-29T02:30:00.5+01:00", "20260329033000.5"),
    ],
)
def test_times_are_told_in_the_site_s_own_zone(compiled: MappingSet, time: str, local: str) -> None:
    assert order(compiled, occurrenceDateTime=time).get("ORC-7.4") == local


def test_delimiters_in_a_resource_are_no_delimiters_of_the_message(compiled: MappingSet) -> None:
    made = order(compiled, note=[{"text": "a|b^c&d~e\\f\r\nPID|2"}])
    assert made.get("NTE-3") == "a|b^c&d~e\\f\r\nPID|2"
    assert made.names == ["MSH", "PID", "ORC", "OBR", "NTE", "ZDS"]


def test_an_order_that_went_through_fhir_is_the_same_order(compiled: MappingSet) -> None:
    """Given an order as HL7, made FHIR, and made HL7 again."""
    before = parse(sample("orm_new_ct.hl7"))
    after = parse(render(compiled, "servicerequest-to-orm", render(compiled, "order-to-fhir", before.raw)))

    same = (
        "PID-3[1].1",
        "PID-3[1].4",
        "PID-5[1].1",
        "PID-5[1].2",
        "PID-7",
        "PID-8",
        "ORC-2",
        "ORC-3",
        "ORC-5",
        "ORC-7.4",
        "ORC-9",
        "OBR-2",
        "OBR-3",
        "OBR-4.1",
        "OBR-4.4",
        "OBR-18",
        "OBR-24",
        "OBR-31",
    )
    assert {path: after.get(path)[:12] for path in same} == {path: before.get(path)[:12] for path in same}


def test_each_order_of_a_transaction_is_new_or_changed_as_its_own_entry_says(compiled: MappingSet) -> None:
    raw = json.loads(sample("fhir_order_bundle.json"))
    entry = next(one for one in raw["entry"] if one["resource"]["resourceType"] == "ServiceRequest")
    other = json.loads(json.dumps(entry))
    other["fullUrl"], other["request"] = (
        "urn:uuid:00000000-0000-4000-8000-00000000000b",
        {"method": "PUT", "url": "ServiceRequest/9"},
    )
    raw["entry"].append(other)

    made = parse(render(compiled, "servicerequest-to-orm", json.dumps(raw).encode()))

    assert made.all("ORC-1") == ["NW", "XO"]
