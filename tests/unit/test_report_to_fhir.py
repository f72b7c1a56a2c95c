"""The ``report-to-fhir`` mapping: what each kind of report becomes."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any

import pytest

from bridge.codecs import fhir
from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError, SettingsError
from bridge.mapping.compile import CompiledMapping, Rendered, compile_all
from bridge.mapping.conditions import compile_condition
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
Json = dict[str, Any]


def load() -> CompiledMapping:
    files = [MAPPINGS / "report-to-fhir.yaml", *sorted((MAPPINGS / "tables").glob("*.csv"))]
    compiled = compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in files})
    assert compiled.findings == []
    return compiled.mappings["report-to-fhir"]


MAPPING = load()


def sample(name: str) -> bytes:
    return (MAPPINGS / "samples" / name).read_bytes()


def render(raw: bytes, context: Json = SITE) -> Rendered:
    return MAPPING.render(parse(raw), context)


def resources(raw: bytes) -> dict[str, list[Json]]:
    """The bundle's resources by type."""
    found: dict[str, list[Json]] = {}
    for entry in fhir.decode(render(raw).data)["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


def text_of(report: Json) -> str:
    return base64.b64decode(report["presentedForm"][0]["data"]).decode()


def changed(name: str, *pairs: tuple[str, str]) -> bytes:
    text = sample(name).decode()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def test_a_signed_report_becomes_a_report_with_its_order_study_and_findings() -> None:
    made = resources(sample("oru_final.hl7"))

    (patient,), (order,), (study,), (report,) = (
        made[kind] for kind in ("Patient", "ServiceRequest", "ImagingStudy", "DiagnosticReport")
    )
    size, side = made["Observation"]
    assert patient["identifier"][0]["system"] == "urn:radbridge:demo-hospital:DEMO"
    assert patient["name"][0]["given"] == ["HÉLÈNE", "MARIE"] and patient["birthDate"] == "1970-01-02"
    codes = {one["type"]["coding"][0]["code"]: one["value"] for one in order["identifier"]}
    assert codes == {"PLAC": "PL1001", "FILL": "FL1001", "ACSN": "A100"}
    assert order["status"] == "completed" and order["intent"] == "order"
    uid = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.0.1.3680043.10.1.1001"}
    assert study["identifier"][0] == uid and study["status"] == "available"
    assert study["modality"][0]["code"] == "CT"
    assert report["status"] == "final"
    assert report["effectiveDateTime"] == "2026-01-06T10:15:00+01:00"
    assert report["issued"] == "2026-01-06T11:30:00+01:00"
    assert report["resultsInterpreter"] == [{"display": "DR TEST READER"}]
    assert report["conclusion"] == "No bleeding. Lesion to be followed up."
    assert size["valueQuantity"] == {
        "value": Decimal("12.50"),
        "unit": "millimeter",
        "system": "http://unitsofmeasure.org",
        "code": "mm",
    }
    assert side["valueCodeableConcept"]["coding"][0]["code"] == "7771000"
    assert len(report["result"]) == 2 and report["basedOn"] and report["imagingStudy"]


def test_report_text_comes_whole_with_its_empty_lines_and_escapes() -> None:
    (lines,) = resources(sample("oru_final.hl7"))["DiagnosticReport"]
    (formatted,) = resources(sample("oru_preliminary.hl7"))["DiagnosticReport"]

    assert text_of(lines).split("\n") == [
        "CT of the head without contrast medium.",
        "",
        "Small lesion on the left, 12.50 mm. Vessels & bone are normal.",
        "No bleeding. Lesion to be followed up.",
    ]
    assert text_of(formatted) == "CT of the head.\nSmall lesion on the left.\n\nNo bleeding."


def test_the_same_report_with_a_new_time_and_control_id_gives_the_same_resources() -> None:
    for name in sorted(path.name for path in (MAPPINGS / "samples").glob("oru_*.hl7")):
        raw = sample(name)
        fields = raw.split(b"|")
        fields[6], fields[9] = b"20270101000000", b"ANOTHER-1"

        assert told(b"|".join(fields)) == told(raw) != [], name


def told(raw: bytes) -> list[dict[str, Any]]:
    """All of the bundle but the Provenance, which is about the message itself."""
    entries = json.loads(render(raw).data)["entry"]
    return [one for one in entries if one["resource"]["resourceType"] != "Provenance"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("O", "registered"),
        ("I", "registered"),
        ("S", "registered"),
        ("P", "preliminary"),
        ("R", "partial"),
        ("F", "final"),
        ("C", "corrected"),
        ("X", "cancelled"),
        ("", "final"),
    ],
)
def test_obr_25_is_the_status_of_the_report(code: str, status: str) -> None:
    raw = changed("oru_final.hl7", ("|CT|F|", f"|CT|{code}|"))

    assert resources(raw)["DiagnosticReport"][0]["status"] == status


def test_a_status_that_nobody_knows_is_refused_with_the_place_and_the_table() -> None:
    with pytest.raises(MappingError) as caught:
        render(changed("oru_final.hl7", ("|CT|F|", "|CT|Q|")))

    assert caught.value.at == "OBR-25"
    assert "report-status.csv" in caught.value.fix


def test_what_went_to_the_wrong_patient_is_withdrawn_without_its_text() -> None:
    made = resources(sample("oru_wrong_patient.hl7"))

    (report,), (observation,) = made["DiagnosticReport"], made["Observation"]
    assert report["status"] == "entered-in-error" and "presentedForm" not in report
    assert observation["status"] == "entered-in-error" and "valueQuantity" not in observation


def test_a_deleted_line_is_not_in_the_text() -> None:
    raw = changed("oru_final.hl7", ("No bleeding. Lesion to be followed up.||||||F", "No bleeding.||||||D"))

    (report,) = resources(raw)["DiagnosticReport"]
    assert "No bleeding" not in text_of(report) and "conclusion" not in report


def test_a_cancelled_report_needs_no_results() -> None:
    (report,) = resources(sample("oru_cancelled.hl7"))["DiagnosticReport"]

    assert report["status"] == "cancelled" and "result" not in report


def test_a_document_is_attached_as_it_came() -> None:
    made = resources(sample("oru_pdf.hl7"))

    (form,) = made["DiagnosticReport"][0]["presentedForm"]
    assert form["contentType"] == "application/pdf"
    assert base64.b64decode(form["data"]).startswith(b"%PDF-1.4")
    assert made["ImagingStudy"][0]["identifier"][0]["value"].endswith(".10.1.1001")
    assert "Observation" not in made


def test_a_document_that_is_not_what_it_says_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        render(changed("oru_pdf.hl7", ("^Base64^JVBERi", "^Base64^JVB!!!")))

    assert caught.value.at.startswith("OBX") and caught.value.kind == "datatype"


def test_each_kind_of_value_keeps_its_kind() -> None:
    values = {
        f"{one['code']['text']} {one['identifier'][0]['value'][-1]}": next(
            ({key: value} for key, value in one.items() if key.startswith("value")), {}
        )
        for one in resources(sample("oru_values.hl7"))["Observation"]
    }

    assert values == {
        "Length 1": {"valueQuantity": {"value": Decimal("12.50"), "unit": "mm"}},
        "Length 2": {"valueQuantity": {"value": 7, "unit": "mm"}},
        "Volume 1": {"valueQuantity": {"value": 100, "comparator": ">", "unit": "mL"}},
        "Side 1": {"valueCodeableConcept": {"coding": [{"code": "L", "display": "Left"}], "text": "Left"}},
        "Comment 1": {"valueString": "Motion artefacts"},
        "Date of prior study 1": {"valueDateTime": "2025-01-05"},
        "Time of injection 1": {"valueString": "101700"},
        "Length 3": {},
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("NM|X^X|1|12,5", {"valueString": "12,5"}),
        ("NM|X^X|1|<5", {"valueString": "<5"}),
        ("NM|X^X|1|.5", {"valueQuantity": {"value": Decimal("0.5")}}),
        ("NM|X^X|1|-3", {"valueQuantity": {"value": -3}}),
        ("NM|X^X|1|27~25", {"valueString": "27; 25"}),
        ("SN|X^X|1|^7", {"valueQuantity": {"value": 7}}),
        ("SN|X^X|1|<>^7", {"valueString": "<> 7"}),
        ("SN|X^X|1|^2^-^5", {"valueRange": {"low": {"value": 2}, "high": {"value": 5}}}),
        ("SN|X^X|1|^1^:^128", {"valueString": "1 : 128"}),
        ("CE|X^X|1|A^Left^LOCAL~B^Right^LOCAL", {"valueString": "Left; Right"}),
        ("CE|X^X|1|^unknown", {"valueCodeableConcept": {"text": "unknown"}}),
        ("DT|X^X|1|soon", {"valueString": "soon"}),
        ("TS|X^X|1|202601061015", {"valueDateTime": "2026-01-06T10:15:00+01:00"}),
        ("ST|X^X|1|a~b", {"valueString": "a; b"}),
        ("RP|X^X|1|https://pacs.example/1", {"valueString": "https://pacs.example/1"}),
        ('NM|X^X|1|""', {}),
    ],
)
def test_no_value_is_lost_because_it_is_not_as_its_type_says(value: str, expected: Json) -> None:
    raw = sample("oru_cancelled.hl7") + f"OBX|1|{value}||||||F\r".encode()

    (observation,) = resources(raw)["Observation"]
    assert {key: item for key, item in observation.items() if key.startswith("value")} == expected


def test_an_ai_result_is_labelled_and_writes_no_report() -> None:
    made = resources(sample("oru_ai.hl7"))
    signed = resources(sample("oru_final.hl7"))

    assert "DiagnosticReport" not in made
    assert len(made["Observation"]) == 3
    for one in made["Observation"]:
        assert one["meta"]["security"][0]["code"] == "DEVAST"
        assert one["note"] == [{"text": "AI result, not signed by a physician"}]
    values = {one["identifier"][0]["value"] for one in made["Observation"]}
    assert values.isdisjoint(one["identifier"][0]["value"] for one in signed["Observation"])
    assert all("note" not in one and "meta" not in one for one in signed["Observation"])


@pytest.mark.parametrize("suffix", ["", "&IMP", "&GDT"])
@pytest.mark.parametrize("status", ["F", "P", "C", "", "W"])
@pytest.mark.parametrize("kind", ["TX", "FT", "ST", "CWE", "NM", "ED", "RP", ""])
def test_whatever_an_ai_system_sends_is_kept_and_labelled(kind: str, suffix: str, status: str) -> None:
    value = "DEMO-AI^Application^PDF^Base64^JVBERi0=" if kind == "ED" else "12"
    line = f"OBX|3|{kind}|SUMMARY{suffix}^Summary^LOCAL|1|{value}||||||{status}"

    made = resources(
        changed("oru_ai.hl7", ("OBX|3|TX|SUMMARY^Summary^LOCAL|1|Lesion suspected, no bleeding.||||||F", line))
    )

    kept = [*made["Observation"][2:], *made.get("DocumentReference", [])]
    assert len(kept) == 1 and "DiagnosticReport" not in made
    assert kept[0]["meta"]["security"][0]["code"] == "DEVAST"
    assert (kept[0]["status"] == "entered-in-error") is (status == "W")


def test_an_ai_result_inside_a_signed_report_is_labelled_too() -> None:
    ai = "OBX|7|NM|LESION-SIZE^Largest diameter of lesion^LOCAL|1|12.9|mm|||||F||||DEMO-AI^Demo^LOCAL\r"
    made = resources(sample("oru_final.hl7") + ai.encode())

    *signed, labelled = made["Observation"]
    assert labelled["meta"]["security"][0]["code"] == "DEVAST" and labelled["valueQuantity"]["value"] == Decimal("12.9")
    assert all("meta" not in one for one in signed)
    assert made["DiagnosticReport"][0]["status"] == "final"


FINALS = [
    ("oru_final.hl7", (), True),
    ("oru_corrected.hl7", (), True),
    ("oru_cancelled.hl7", (), True),
    ("oru_wrong_patient.hl7", (), True),
    ("oru_wrong_patient.hl7", (("CT|C|", "CT|P|"),), True),
    ("oru_signed_without_text.hl7", (("CT|F|", "CT||"),), True),
    ("oru_addendum.hl7", (), True),
    ("oru_two_exams.hl7", (), True),
    ("oru_preliminary.hl7", (), False),
    ("oru_preliminary.hl7", (("CT|P|", "CT||"),), False),
    ("oru_preliminary.hl7", (("CT|P|", "CT|R|"), ("|P|||2026", "|F|||2026")), False),
    ("oru_preliminary.hl7", (("|P|||2026", "|C|||2026"),), True),
    ("oru_final.hl7", (("CT|F|", "CT|W|"),), True),
    ("oru_final.hl7", (("CT|F|", "CT|D|"),), True),
    ("oru_pdf.hl7", (("CT|F|", "CT|P|"), ("||||||F\r", "||||||W\r")), True),
]


@pytest.mark.parametrize(("name", "pairs", "wanted"), FINALS)
def test_who_wants_final_reports_wants_what_changes_them(
    name: str, pairs: tuple[tuple[str, str], ...], wanted: bool
) -> None:
    wants = compile_condition({"message": "ORU^R01", "report": "final"}, "routes.reports.when")

    assert wants(parse(changed(name, *pairs))) is wanted


def test_a_report_is_wanted_final_or_not_at_all() -> None:
    with pytest.raises(SettingsError) as refused:
        compile_condition({"report": "preliminary"}, "routes.reports.when")

    assert "`report` cannot be `preliminary`" in str(refused.value.findings[0])


def test_two_exams_in_one_message_keep_their_own_texts_orders_and_status() -> None:
    made = resources(sample("oru_two_exams.hl7"))

    head, chest = made["DiagnosticReport"]
    assert (text_of(head), text_of(chest)) == ("Head: normal.", "Chest: see head.")
    assert (head["status"], chest["status"]) == ("final", "preliminary")
    assert [one["identifier"][1]["value"] for one in made["ServiceRequest"]] == ["FL1001", "FL1002"]
    assert head["basedOn"] != chest["basedOn"]


def test_one_study_at_the_end_of_the_message_is_every_exam_s() -> None:
    zds = b"ZDS|1.2.826.0.1.3680043.10.1.1001^RADBRIDGE^Application^DICOM\r"
    made = resources(sample("oru_two_exams.hl7") + zds)

    head, chest = made["DiagnosticReport"]
    assert len(made["ImagingStudy"]) == 1
    assert head["imagingStudy"] == chest["imagingStudy"]


def test_a_report_is_found_again_by_accession_if_it_has_no_order_number() -> None:
    raw = changed("oru_final.hl7", ("|PL1001^RIS|FL1001^RIS", "||"))

    bundle = fhir.decode(render(raw).data)
    urls = {entry["resource"]["resourceType"]: entry["request"]["url"] for entry in bundle["entry"]}
    assert urls["DiagnosticReport"].endswith("accession%7CA100")
    assert "ServiceRequest" not in urls


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("P1001^^^DEMO^PI~2990000000001^^^NIDX^NI", "^^^DEMO", "PID-3"),
        ("CTHEAD^CT of the head^LOCAL^24725-4^CT Head^LN|||2026", "|||2026", "OBR-4"),
        ("|LESION-SIZE^Largest diameter of lesion^LOCAL|", "||", "OBX(5)-3"),
    ],
)
def test_what_a_report_cannot_do_without_is_refused_at_its_place(old: str, new: str, at: str) -> None:
    with pytest.raises(MappingError) as caught:
        render(changed("oru_final.hl7", (old, new)))

    assert caught.value.kind == "required"
    assert caught.value.at.startswith(at)
    assert "TESTPATIENT" not in str(caught.value)


def test_a_report_without_any_number_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        render(changed("oru_cancelled.hl7", ("|PL1001^RIS|FL1001^RIS", "||"), ("||A100|", "|||")))

    assert caught.value.kind == "required" and "OBR-3" in caught.value.fix


def test_a_date_that_is_none_is_left_out_and_noted() -> None:
    rendered = render(changed("oru_final.hl7", ("|19700102|", "|the 2nd|")))

    assert "birthDate" not in fhir.decode(rendered.data)["entry"][0]["resource"]
    assert any("PID-7" in note for note in rendered.notes)
    assert not any("the 2nd" in note for note in rendered.notes)


def test_times_take_the_site_s_offset_with_daylight_saving() -> None:
    (report,) = resources(changed("oru_final.hl7", ("20260106113000", "20260706113000")))["DiagnosticReport"]

    assert report["issued"] == "2026-07-06T11:30:00+02:00"


def test_an_authority_may_be_given_its_own_system() -> None:
    context = {"site": {**SITE["site"], "authorities": {"RIS": "urn:oid:1.2.3", "accession": "urn:oid:1.2.4"}}}
    data = render(sample("oru_final.hl7"), context).data

    assert b"DiagnosticReport?identifier=urn%3Aoid%3A1.2.3%7CFL1001" in data


def test_the_report_of_somebody_else_becomes_a_valid_bundle_too() -> None:
    made = resources(require_data("hl7", "fhir-converter", "ORU-R01-01.hl7").read_bytes())

    assert made["DiagnosticReport"][0]["status"] == "final"
    assert [one["status"] for one in made["Observation"]] == ["preliminary", "registered", "registered"]


def test_only_the_provenance_reads_what_changes_when_a_message_is_sent_again() -> None:
    for name in ("adt", "order", "siu", "report", "mdm"):
        text = re.sub(r"#.*", "", (MAPPINGS / f"{name}-to-fhir.yaml").read_text("utf-8"))
        resources, provenance = text.split("- resource: Provenance")

        assert not re.search(r"MSH-(7|10)\b", resources)
        assert re.search(r"MSH-10\b", provenance)
