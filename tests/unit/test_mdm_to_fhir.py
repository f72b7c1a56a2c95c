"""The ``mdm-to-fhir`` mapping, and which document may take the place of which."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bridge.codecs import fhir
from bridge.codecs.fhir_changes import may_replace
from bridge.codecs.fhir_plan import plan, resolve
from bridge.codecs.hl7v2 import parse
from bridge.mapping.compile import CompiledMapping, compile_all
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
Json = dict[str, Any]


def load() -> CompiledMapping:
    files = [*MAPPINGS.glob("*-to-fhir.yaml"), *sorted((MAPPINGS / "tables").glob("*.csv"))]
    compiled = compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in files})
    assert compiled.findings == []
    return compiled.mappings["mdm-to-fhir"]


MAPPING = load()


def sample(name: str, *pairs: tuple[str, str]) -> bytes:
    text = (MAPPINGS / "samples" / name).read_bytes().decode()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def bundle(raw: bytes) -> Json:
    return fhir.decode(MAPPING.render(parse(raw), SITE).data)


def documents(raw: bytes) -> list[Json]:
    return [one["resource"] for one in bundle(raw)["entry"] if one["resource"]["resourceType"] == "DocumentReference"]


@pytest.mark.parametrize("event", [f"T{number:02}" for number in range(1, 12)])
def test_every_event_of_a_document_gives_a_valid_bundle(event: str) -> None:
    (document,) = documents(sample("mdm_original.hl7", ("MDM^T02", f"MDM^{event}")))

    withdrawn = event == "T11"
    assert document["status"] == ("entered-in-error" if withdrawn else "current")
    assert any("data" in one["attachment"] for one in document["content"]) is not withdrawn


def test_a_message_sent_again_gives_the_same_resources() -> None:
    again = sample("mdm_original.hl7", ("MDM0001", "MDM9999"), ("DEMO|20260106113000|", "DEMO|20270101000000|"))

    *first, _ = bundle(again)["entry"]
    *second, provenance = bundle(sample("mdm_original.hl7"))["entry"]

    assert first == second != []
    assert provenance["resource"]["resourceType"] == "Provenance"


def test_text_of_every_kind_is_kept_and_the_study_is_none() -> None:
    lines = "OBX|3|FT|A^A^L||Second.\\.br\\Third.||||||F\rOBX|4|NM|SIZE^Size^L||12.5||||||F\rOBX|9|ST|"

    (document,) = documents(sample("mdm_original.hl7", ("OBX|9|ST|", lines)))

    text = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
    assert text == "Small lesion on the left. No bleeding.\nSecond.\nThird.\n12.5"


def test_a_document_about_two_exams_is_the_report_of_both() -> None:
    second = "ORC|RE|PL1002^RIS|FL1002^RIS||CM\rOBR|2|PL1002^RIS|FL1002^RIS|CTCHEST^CT of the chest^LOCAL\rTXA|"
    made = bundle(sample("mdm_original.hl7", ("TXA|", second)))["entry"]

    reports = [one["resource"] for one in made if one["resource"]["resourceType"] == "DiagnosticReport"]
    assert [one["identifier"][0]["value"] for one in reports] == ["FL1001", "FL1002"]
    assert reports[0]["presentedForm"] == reports[1]["presentedForm"] and len(reports[0]["presentedForm"]) == 2


def test_the_published_document_is_mapped() -> None:
    raw = (require_data("hl7") / "fhir-converter" / "MDM-T02-01.hl7").read_bytes()

    (document,) = [one for one in documents(raw) if "relatesTo" in one]

    assert document["docStatus"] == "final" and document["relatesTo"][0]["code"] == "appends"
    assert document["identifier"][0]["value"] == "1.2.840.317.5947431.51.20080131160038"


def document(status: str, doc_status: str = "", date: str = "2026-01-06T11:00:00+01:00") -> Json:
    return {"resourceType": "DocumentReference", "status": status, "docStatus": doc_status, "date": date}


@pytest.mark.parametrize(
    ("here", "new", "may"),
    [
        (document("current", "final"), document("current", "preliminary", "2026-01-07T11:00:00+01:00"), False),
        (document("current", "preliminary"), document("current", "final"), True),
        (document("current", "final"), document("current", "amended"), True),
        (document("current", "final"), document("entered-in-error"), True),
        (document("entered-in-error"), document("current", "final"), False),
        (document("superseded"), document("current", "final"), False),
        (document("current", "final"), document("superseded"), True),
        (document("current", "final"), document("current", "final", "2026-01-05T11:00:00+01:00"), False),
        (document("current"), document("current", "final"), True),
    ],
)
def test_a_late_document_never_takes_the_place_of_a_further_one(here: Json, new: Json, may: bool) -> None:
    assert may_replace(here, new) is may


def on_the_server(raw: bytes) -> list[Json | None]:
    """What a server holds after this message, with ids of its own."""
    made = bundle(raw)["entry"]
    urls = {one["fullUrl"]: f"{one['resource']['resourceType']}/i{number}" for number, one in enumerate(made)}
    return [{**resolve(one["resource"], urls), "id": f"i{number}"} for number, one in enumerate(made)]


def test_a_change_of_status_keeps_the_document_and_a_cancellation_takes_it_away() -> None:
    # Given a server that holds a document (without a study, which a change of status does not name)
    held = on_the_server(sample("mdm_original.hl7", ("OBX|9|ST|113014", "OBX|9|ST|113014X")))
    # When its status changes, what it says stays
    (changed,) = [
        entry["resource"]
        for entry in plan(bundle(sample("mdm_status.hl7")), held).entries
        if entry["resource"]["resourceType"] == "DocumentReference"
    ]
    original = next(one for one in held if one and one["resourceType"] == "DocumentReference")
    assert (changed["content"], changed["description"]) == (original["content"], original["description"])
    # When it is cancelled, it is gone
    (gone,) = [
        entry["resource"]
        for entry in plan(bundle(sample("mdm_cancel.hl7")), held).entries
        if entry["resource"]["resourceType"] == "DocumentReference"
    ]
    assert gone["status"] == "entered-in-error" and gone["content"] == [{"attachment": {"title": "D1001"}}]


@pytest.mark.parametrize("name", sorted(path.name for path in (MAPPINGS / "samples").glob("mdm_*.hl7")))
def test_a_document_that_the_server_has_is_not_written_again(name: str) -> None:
    raw = sample(name)

    again = plan(bundle(raw), on_the_server(raw))

    assert again.entries == () and again.superseded == 0
