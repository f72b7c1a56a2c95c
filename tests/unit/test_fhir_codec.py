from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from bridge.codecs import fhir, fhir_changes, fhir_plan
from bridge.codecs.fhir import Entry
from bridge.errors import BridgeError, CodecError, MappingError, Permanent, Temporary

OID = "urn:oid:2.16.840.1.113883.19.5"


def patient(**more: Any) -> Entry:
    resource = {"resourceType": "Patient", "identifier": [{"system": OID, "value": "P1"}], **more}
    return Entry("patient", resource, "create", f"identifier={fhir.token(OID, 'P1')}")


def report(status: str = "final", issued: str = "2024-03-01T10:00:00+01:00", **more: Any) -> Entry:
    resource = {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": OID, "value": "F1"}],
        "status": status,
        "code": {"text": "CT head"},
        "subject": {"reference": "entry:patient"},
        "issued": issued,
        **more,
    }
    return Entry("report", resource, "update", f"identifier={fhir.token(OID, 'F1')}")


def observation(number: str = "1", status: str = "final", **more: Any) -> Entry:
    resource = {
        "resourceType": "Observation",
        "identifier": [{"system": OID, "value": f"F1/{number}"}],
        "status": status,
        "code": {"text": "length"},
        "valueQuantity": {"value": Decimal("12.50"), "unit": "mm"},
        **more,
    }
    return Entry(f"observation{number}", resource, "update", f"identifier={fhir.token(OID, f'F1/{number}')}")


def bundle(*entries: Entry) -> dict[str, Any]:
    return fhir.decode(fhir.build_bundle(entries))


def on_server(entry: dict[str, Any], id: str, version: str = "7") -> dict[str, Any]:
    return {**entry["resource"], "id": id, "meta": {"versionId": version, "lastUpdated": "2024-03-02T00:00:00Z"}}


# --- build_bundle


def test_a_bundle_writes_by_business_identifier_and_links_its_entries() -> None:
    made = json.loads(fhir.build_bundle([patient(), report()]))

    first, second = made["entry"]
    assert made["resourceType"] == "Bundle" and made["type"] == "transaction"
    assert first["request"] == {
        "method": "POST",
        "url": "Patient",
        "ifNoneExist": "identifier=urn%3Aoid%3A2.16.840.1.113883.19.5%7CP1",
    }
    assert second["request"] == {
        "method": "PUT",
        "url": "DiagnosticReport?identifier=urn%3Aoid%3A2.16.840.1.113883.19.5%7CF1",
    }
    assert first["fullUrl"].startswith("urn:uuid:")
    assert second["resource"]["subject"]["reference"] == first["fullUrl"]


def test_the_same_entries_give_the_same_bytes_in_another_process() -> None:
    code = (
        "import sys; from bridge.codecs.fhir import Entry, build_bundle;"
        "sys.stdout.buffer.write(build_bundle([Entry('p', {'resourceType': 'Patient', 'active': True}, 'create',"
        " 'identifier=urn:a|1')]))"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}

    assert len(runs) == 1 and b"urn:uuid:" in runs.pop()


def test_importing_the_codec_does_not_load_the_fhir_models() -> None:
    code = "import sys; import bridge.codecs.fhir, bridge.codecs.fhir_plan; sys.exit('fhir.resources' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_number_keeps_its_digits_and_empty_values_are_left_out() -> None:
    made = fhir.build_bundle([observation(note=[{"text": ""}, None], method={"coding": [{"code": None}]})])

    assert b'"value":12.50,' in made
    assert {"note", "method"}.isdisjoint(fhir.decode(made)["entry"][0]["resource"])


@pytest.mark.parametrize("value", ["a|b", "a,b", "a$b", "a\\b", "é & ö=1"])
def test_what_a_value_holds_never_changes_the_search(value: str) -> None:
    entry = Entry("p", {"resourceType": "Patient"}, "create", f"identifier={fhir.token(OID, value)}")
    made = bundle(entry)
    held = {"resourceType": "Patient", "id": "1", "identifier": [{"system": OID, "value": value}]}

    query = made["entry"][0]["request"]["ifNoneExist"]
    assert query.isascii() and "&" not in query and query.count("=") == 1
    assert fhir_plan.found(made, batch_response([held])) == [held]


def test_what_is_created_once_is_not_created_again_in_the_same_bundle() -> None:
    again = replace(patient(birthDate="1970-01-02"), name="again")
    made = bundle(patient(), again, report(subject={"reference": "entry:again"}))

    assert [one["resource"]["resourceType"] for one in made["entry"]] == ["Patient", "DiagnosticReport"]
    assert made["entry"][1]["resource"]["subject"]["reference"] == made["entry"][0]["fullUrl"]


def test_an_identifier_without_a_system_is_never_searched_by() -> None:
    with pytest.raises(MappingError):
        fhir.token("", "P1")


@pytest.mark.parametrize(
    ("entries", "at", "kind"),
    [
        ([patient(birthDate="Nobody^Real")], "Patient.birthDate", "datatype"),
        ([patient(birthDate="2024-13-01")], "Patient.birthDate", "datatype"),
        ([patient(gender="Nobody")], "Patient.gender", "code"),
        ([patient(name=[{"use": "legal", "family": "Nobody"}])], "Patient.name[0].use", "code"),
        ([patient(surname="Nobody")], "Patient.surname", "syntax"),
        ([patient(name=[{"family": "No\x00body"}])], "Patient.name[0].family", "datatype"),
        ([report(status="done")], "DiagnosticReport.status", "code"),
        ([report(code=None)], "DiagnosticReport.code", "required"),
        ([report(issued="2024-03-01T10:00")], "DiagnosticReport.issued", "datatype"),
        ([observation(valueQuantity={"value": "12.5"})], "Observation.valueQuantity.value", "datatype"),
        ([observation(valueString="x")], "Observation", "datatype"),
        ([observation(subject={"reference": "entry:nobody"})], "Observation.subject.reference", "required"),
        ([Entry("x", {"resourceType": "Study"}, "create", "identifier=a|1")], "resourceType", "code"),
        ([Entry("x", {"resourceType": "Patient"}, "create", "name=Nobody")], "x", "required"),
        ([patient(), patient()], "patient", "required"),
        ([observation(), replace(observation(), name="again")], "again", "required"),
        ([], "", "required"),
    ],
)
def test_a_refused_resource_names_the_element_and_never_its_content(entries: list[Entry], at: str, kind: str) -> None:
    with pytest.raises(MappingError) as caught:
        fhir.build_bundle([*entries, patient()] if entries and entries[0].name == "report" else entries)

    assert caught.value.at == at
    assert caught.value.kind == kind
    assert "Nobody" not in str(caught.value)


def test_decode_refuses_what_is_no_json_object() -> None:
    for data in (b"", b"[]", b"\xff", b"MSH|^~\\&|"):
        with pytest.raises(CodecError):
            fhir.decode(data)


# --- the rule table


@pytest.mark.parametrize(
    ("current", "new", "age", "replaces"),
    [
        ("final", "preliminary", 1, False),
        ("final", "preliminary", 0, False),
        ("final", "registered", 1, False),
        ("final", "partial", 1, False),
        ("corrected", "preliminary", 1, False),
        ("preliminary", "final", -1, True),
        ("final", "corrected", -1, True),
        ("final", "amended", 0, True),
        ("final", "final", 0, True),
        ("final", "final", 1, True),
        ("final", "final", -1, False),
        ("corrected", "final", 1, True),
        ("corrected", "final", 0, False),
        ("corrected", "final", -1, False),
        ("corrected", "appended", -1, False),
        ("preliminary", "preliminary", -1, False),
        ("preliminary", "registered", 0, False),
        ("preliminary", "registered", 1, True),
        ("registered", "preliminary", -1, True),
        ("corrected", "cancelled", -1, True),
        ("final", "entered-in-error", -1, True),
        ("cancelled", "preliminary", 0, False),
        ("cancelled", "final", 0, False),
        ("entered-in-error", "final", 1, True),
        ("entered-in-error", "cancelled", -1, False),
    ],
)
def test_a_report_replaces_another_by_status_then_by_time_of_issue(
    current: str, new: str, age: int, replaces: bool
) -> None:
    hour = 10 + age

    old = {"status": current, "issued": "2024-03-01T09:00:00Z"}
    assert fhir_changes.may_replace(old, {"status": new, "issued": f"2024-03-01T{hour:02}:00:00+01:00"}) is replaces


@pytest.mark.parametrize("issued", [None, "2024", "2024-03-01T08:00:00"])
def test_without_comparable_times_the_sequence_of_arrival_decides_at_equal_status(issued: str | None) -> None:
    old = {"status": "final", "issued": "2024-03-01T09:00:00Z"}

    assert fhir_changes.may_replace(old, {"status": "final", "issued": issued})
    assert not fhir_changes.may_replace(old, {"status": "preliminary", "issued": issued})


# --- plan


def batch_response(*matches: list[dict[str, Any]] | dict[str, Any]) -> bytes:
    entries = []
    for match in matches:
        listed = match if isinstance(match, list) else [match]
        result = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": one} for one in listed]}
        entries.append({"response": {"status": "200 OK"}, "resource": result})
    return fhir.encode({"resourceType": "Bundle", "type": "batch-response", "entry": entries})


def test_an_empty_server_gets_the_bundle_as_it_is() -> None:
    made = bundle(patient(), report())

    assert fhir_plan.plan(made, [None, None]) == fhir_plan.Plan(tuple(made["entry"]))


def test_what_is_there_already_is_not_written_again() -> None:
    made = bundle(patient(), report())
    held = (
        on_server(made["entry"][0], "p9"),
        {**on_server(made["entry"][1], "r9"), "subject": {"reference": "Patient/p9"}},
    )

    assert fhir_plan.plan(made, held) == fhir_plan.Plan((), unchanged=2)


def test_a_narrative_that_the_server_made_is_no_difference_but_one_of_ours_is() -> None:
    plain, told = bundle(observation()), bundle(observation(text={"status": "generated", "div": "<div>a</div>"}))
    held = {**on_server(plain["entry"][0], "o9"), "text": {"status": "generated", "div": "<div>b</div>"}}

    assert not fhir_plan.plan(plain, [held]).entries
    assert fhir_plan.plan(told, [held]).entries


def test_demographics_on_the_server_are_never_overwritten() -> None:
    made = bundle(patient(birthDate="1950-01-01"))
    held = {**on_server(made["entry"][0], "p9"), "birthDate": "1951-01-01"}

    assert fhir_plan.plan(made, [held]) == fhir_plan.Plan((), unchanged=1)


def test_a_changed_report_replaces_just_the_version_that_was_read() -> None:
    made = bundle(patient(), report("corrected", conclusion="no bleeding"))
    old_patient, old_report = (
        on_server(made["entry"][0], "p9"),
        on_server(bundle(patient(), report())["entry"][1], "r9"),
    )

    (entry,) = fhir_plan.plan(made, [old_patient, old_report]).entries

    assert entry["request"] == {"method": "PUT", "url": "DiagnosticReport/r9", "ifMatch": 'W/"7"'}
    assert entry["resource"]["id"] == "r9"
    assert entry["resource"]["subject"]["reference"] == "Patient/p9"


def test_a_late_preliminary_never_replaces_a_final_nor_adds_its_results() -> None:
    links = [{"reference": "entry:observation1"}]
    final = on_server(bundle(patient(), report())["entry"][1], "r9")
    late = bundle(patient(), observation(status="preliminary"), report("preliminary", result=links))

    plan = fhir_plan.plan(late, [on_server(late["entry"][0], "p9"), None, final])

    assert plan == fhir_plan.Plan((), unchanged=1, superseded=2)


def test_a_preliminary_observation_never_replaces_a_final_one() -> None:
    final, late = bundle(observation()), bundle(observation(status="preliminary"))

    assert fhir_plan.plan(late, [on_server(final["entry"][0], "o9")]) == fhir_plan.Plan((), superseded=1)


def test_a_mere_change_of_status_keeps_the_text_and_the_values() -> None:
    before = bundle(patient(), report("preliminary", conclusion="no bleeding"), observation(status="preliminary"))
    held = [on_server(one, id) for one, id in zip(before["entry"], ("p9", "r9", "o9"), strict=True)]
    links = [{"reference": "entry:observation1"}]
    after = bundle(patient(), report("final", result=links), observation(status="final", valueQuantity=None))

    first, second = fhir_plan.plan(after, held).entries

    assert first["resource"]["status"] == "final" and first["resource"]["conclusion"] == "no bleeding"
    assert second["resource"]["status"] == "final" and second["resource"]["valueQuantity"]["value"] == Decimal("12.50")


def test_a_withdrawn_report_loses_its_text() -> None:
    held = on_server(bundle(patient(), report(conclusion="of another patient"))["entry"][1], "r9")
    made = bundle(patient(), report("entered-in-error"))

    *_, entry = fhir_plan.plan(made, [None, held]).entries

    assert "conclusion" not in entry["resource"]


def test_a_withdrawn_report_takes_its_observations_with_it() -> None:
    made = bundle(patient(), report("cancelled"))
    old = on_server(bundle(patient(), report())["entry"][1], "r9")
    old["result"] = [{"reference": "Observation/o1"}, {"reference": "#inside"}]
    held = [on_server(made["entry"][0], "p9"), old]
    orphan = on_server(bundle(observation())["entry"][0], "o1", "3")

    references = fhir_plan.retracted(made, held)
    first, second = fhir_plan.plan(made, held, [orphan]).entries

    assert references == ["Observation/o1"]
    assert first["resource"] == {**orphan, "status": "entered-in-error"}
    assert first["request"] == {"method": "PUT", "url": "Observation/o1", "ifMatch": 'W/"3"'}
    assert second["resource"]["status"] == "cancelled"


def test_a_correction_withdraws_what_it_no_longer_says() -> None:
    old = on_server(bundle(patient(), report())["entry"][1], "r9")
    old["result"] = [{"reference": "Observation/o1"}]

    def dropped(status: str, **content: Any) -> list[str]:
        return fhir_plan.retracted(bundle(patient(), report(status, **content)), [None, old])

    assert dropped("corrected", conclusion="no lesion") == ["Observation/o1"]
    assert dropped("corrected") == []
    assert dropped("final", conclusion="no lesion") == []
    assert dropped("preliminary", conclusion="no lesion") == []


def test_a_late_cancellation_of_what_was_cancelled_later_retracts_nothing() -> None:
    made = bundle(patient(), report("cancelled", issued="2024-03-01T10:00:00Z"))
    old = on_server(bundle(patient(), report("cancelled", issued="2024-03-01T11:00:00Z"))["entry"][1], "r9")
    old["result"] = [{"reference": "Observation/o1"}]

    assert fhir_plan.retracted(made, [None, old]) == []


def test_a_long_bundle_is_cut_so_that_nothing_refers_forward() -> None:
    entries = bundle(patient(), observation("1"), observation("2"), report())["entry"]

    assert [len(part) for part in fhir_plan.parts(entries, 3)] == [3, 1]
    assert fhir_plan.parts(entries, 0) == [entries]
    assert fhir_plan.parts([], 3) == []
    with pytest.raises(Permanent):
        fhir_plan.parts(entries[::-1], 3)


# --- answers


def test_several_matches_are_for_a_person_to_settle() -> None:
    made = bundle(patient())
    held = [on_server(made["entry"][0], id) for id in ("a", "b")]

    with pytest.raises(Permanent) as caught:
        fhir_plan.found(made, batch_response(held))

    assert caught.value.kind == "duplicate_key" and caught.value.at == "Patient"


def test_a_server_that_ignores_the_search_is_not_written_to() -> None:
    made = bundle(report(subject=None))
    other = {**on_server(made["entry"][0], "r9"), "identifier": [{"system": OID, "value": "another"}]}

    with pytest.raises(Permanent):
        fhir_plan.found(made, batch_response(other))


def test_any_of_several_identifiers_finds_the_resource() -> None:
    match = f"identifier={fhir.token('urn:placer', '1')},{fhir.token('urn:filler', '2,3')}"
    made = bundle(Entry("order", {"resourceType": "Patient"}, "create", match))
    held = {"resourceType": "Patient", "id": "s9", "identifier": [{"system": "urn:filler", "value": "2,3"}]}

    assert fhir_plan.found(made, batch_response(held)) == [held]


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b'{"entry":[{"resource":{"resourceType":"Bundle"}}]}',
        b'{"entry":[{"response":{"status":"404"},"resource":{"resourceType":"OperationOutcome"}}]}',
        b'{"entry":[7]}',
        b'{"entry":{"response":1}}',
    ],
)
def test_an_answer_that_does_not_answer_is_tried_again(answer: bytes) -> None:
    with pytest.raises(Temporary) as caught:
        fhir_plan.found(bundle(patient()), answer)

    assert isinstance(caught.value, BridgeError)
