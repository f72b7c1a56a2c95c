"""The French pack on published messages, and what its cases cannot show: bytes, character sets, routes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.lint import findings_of
from bridge.mapping import MappingSet, compile_all, compile_condition
from bridge.mapping.functions import run
from bridge.ports import SourceSettings
from bridge.settings import Loaded, Overrides, from_files
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SAMPLES = MAPPINGS / "fr" / "samples"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}


@pytest.fixture(scope="module")
def pack() -> MappingSet:
    found = (one for one in MAPPINGS.rglob("*") if one.suffix in (".yaml", ".csv"))
    return compile_all({one.relative_to(MAPPINGS).as_posix(): one.read_text() for one in found})


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.hl7").read_bytes()


def rendered(pack: MappingSet, mapping: str, raw: bytes) -> Any:
    return json.loads(pack.mappings[mapping].render(parse(raw), SITE).data)


def faults(pack: MappingSet, profile: str, raw: bytes) -> list[tuple[str, str]]:
    return [(one.at, one.kind) for one in pack.profiles[profile].faults(parse(raw), SITE)]


# Published messages of the ANS teleradiology guide


@pytest.mark.parametrize("file", ["ORM_O01-demande.hl7", "ORM_O01-annulation.hl7"])
def test_the_published_teleradiology_messages_have_no_faults(pack: MappingSet, file: str) -> None:
    assert faults(pack, "fr/teleradiology", require_data("hl7", "ans", file).read_bytes()) == []


def test_their_patient_for_tests_is_told_because_they_say_production(pack: MappingSet) -> None:
    raw = require_data("hl7", "ans", "ORM_O01-demande.hl7").read_bytes()

    assert faults(pack, "fr/ins", raw) == [("PID-3", "datatype")]
    assert faults(pack, "fr/ins", raw.replace(b"|P|2.5.1|", b"|T|2.5.1|")) == []


def test_the_published_request_is_listed_and_its_cancellation_takes_it_off(pack: MappingSet) -> None:
    request = require_data("hl7", "ans", "ORM_O01-demande.hl7").read_bytes()
    cancel = require_data("hl7", "ans", "ORM_O01-annulation.hl7").read_bytes()

    (listed,) = rendered(pack, "fr/teleradiology-to-worklist", request)["updates"]
    (gone,) = rendered(pack, "fr/teleradiology-to-worklist", cancel)["updates"]

    assert listed["order"] == gone["order"] == ["placer:OPN101^1.2.250.1.748.12345678.12"]
    assert (listed["status"], gone["status"]) == ("scheduled", "cancelled")
    (step,) = listed["steps"]
    assert step["attributes"]["RequestedProcedureDescription"] == "IRM tête et/ou cou, côté droit"
    assert step["attributes"]["ReasonForTheRequestedProcedure"] == "JustificationDemande"
    assert "AccessionNumber" not in step["attributes"]


def test_a_change_of_the_request_is_the_same_study(pack: MappingSet) -> None:
    first, again = sample("tlr_request"), sample("tlr_request").replace(b"|MR^IRM^DCM|", b"|CT^Scanner^DCM|")

    studies = {
        rendered(pack, "fr/teleradiology-to-worklist", raw)["updates"][0]["steps"][0]["attributes"]["StudyInstanceUID"]
        for raw in (first, again)
    }

    assert len(studies) == 1


# Routes, as docs/france.md writes them

CHANNELS = """\
  ris-in: {type: mllp-in, listen: 127.0.0.1:2575}
  worklist: {type: dicom-worklist, listen: 127.0.0.1:11112, ae_title: RADBRIDGE}
  pacs-out: {type: mllp-out, connect: 127.0.0.1:2576}
  portal-fhir: {type: fhir-out, base_url: http://127.0.0.1:8090/fhir}
"""
"""What the documented site has besides."""


@pytest.fixture(scope="module")
def documented() -> Loaded:
    text = (REPOSITORY / "docs" / "france.md").read_text().split("```yaml\n")[1].split("```")[0]
    site = text.replace("routes:\n", CHANNELS + "routes:\n")
    folders = ((REPOSITORY / name).rglob("*.*") for name in ("mappings", "adapters"))
    files = {one.relative_to(REPOSITORY).as_posix(): one for folder in folders for one in folder}
    texts = {name: one.read_text() for name, one in files.items() if one.suffix in (".yaml", ".csv")}
    return from_files({"config/bridge.yaml": site, **texts}, overrides=Overrides.model_construct(), environ={})


def test_the_documented_site_has_no_findings_and_validates_as_its_adapters_say(documented: Loaded) -> None:
    assert [str(one) for one in findings_of(documented)] == []

    his, platform = (documented.config.channels[name] for name in ("his-in", "tlr-in"))
    assert isinstance(his, SourceSettings)
    assert isinstance(platform, SourceSettings)
    assert (his.validation, his.profile, his.one_by_one) == ("warn", ("fr/pam-france", "fr/ins"), False)
    assert (platform.validation, platform.profile) == ("strict", ("fr/teleradiology", "fr/ins"))


@pytest.mark.parametrize(
    ("name", "routes"),
    [
        ("tlr_answer", {"answers", "teleradiology"}),
        ("tlr_request", {"orders", "teleradiology"}),
        ("oru_cda", {"reports", "documents", "teleradiology"}),
        ("mdm_cda", {"documents"}),
        ("adt_z99", {"patients", "demographics"}),
    ],
)
def test_an_answer_to_a_request_is_no_report_and_a_report_is_no_answer(
    documented: Loaded, name: str, routes: set[str]
) -> None:
    message = parse(sample(name))

    wanted = {
        route
        for route, one in documented.config.routes.items()
        if one.when and compile_condition(one.when, "")(message)
    }

    assert wanted == routes


# CDA documents


@pytest.mark.parametrize("name", ["oru_cda", "mdm_cda"])
@pytest.mark.parametrize("status", ["VALI", "PROV"])
def test_an_edit_leaves_a_cda_document_byte_for_byte(pack: MappingSet, name: str, status: str) -> None:
    raw = sample(name).replace(b"|VALI\r", f"|{status}\r".encode())

    edited = pack.mappings["fr/ins-when-qualified"].render(parse(raw), SITE).data

    after = b"PV1|"
    assert edited[edited.index(after) :] == raw[raw.index(after) :]
    assert (b"299000000000192" in edited) is (status == "VALI")


def test_a_cda_document_comes_into_fhir_as_it_was(pack: MappingSet) -> None:
    raw = sample("oru_cda")
    sent = [line.split(b"|")[5].split(b"^")[-1] for line in raw.split(b"\r") if b"^XML^Base64^" in line]

    bundle = rendered(pack, "fr/cda-to-fhir", raw)

    documents = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DocumentReference"]
    kept = [one["content"][0]["attachment"]["data"].encode() for one in documents]
    assert kept == sent
    assert "œ et €" in base64.b64decode(kept[0]).decode()


def test_a_body_type_without_a_format_code_gets_none() -> None:
    cda = base64.b64encode(b'<nonXMLBody><text mediaType="application/msword"/>').decode()

    (content,) = run("cda_content", f"^text^XML^Base64^{cda}")

    assert list(content) == ["attachment"]


# The national health identity


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("299000000000192", "right"),
        ("299002A00000164", "right"),
        ("299002B00000191", "right"),
        ("299000000000191", "wrong"),
        ("299002A00000165", "wrong"),
        ("299002C00000164", "wrong"),
        ("2990000000001", "wrong"),
        ("2990000000001920", "wrong"),
        ("29900000000019A", "wrong"),
    ],
)
def test_the_key_of_an_ins_is_checked_in_corsica_too(number: str, said: str) -> None:
    assert run("ins_key", f"{number}^^^INS&1.2.250.1.213.1.4.8&ISO^INS") == said


def test_the_published_key_is_right() -> None:
    raw = require_data("hl7", "ans", "ORM_O01-demande.hl7").read_bytes()

    assert run("ins_key", parse(raw).get("PID-3").replace("\\T\\", "&")) == "right"


def test_one_wrong_ins_among_several_is_wrong() -> None:
    both = "299000000000192^^^A&1.2.250.1.213.1.4.8&ISO^INS~1^^^A&1.2.250.1.213.1.4.9&ISO^INS"

    assert run("ins_key", both) == "wrong"
    assert run("ins_kinds", both) == ["NIR", "NIA"]


# 8859/15


def test_letters_that_only_8859_15_has_come_through_to_every_language(pack: MappingSet) -> None:
    raw = sample("adt_a01").replace(b"TESTUSAGE", "TESTSŒUR€Ž".encode("iso8859-15"))

    patient = rendered(pack, "fr/patient-to-fhir", raw)["entry"][0]["resource"]
    (update,) = rendered(pack, "fr/adt-to-worklist", raw)["patients"]

    assert patient["name"][1]["family"] == "TESTSŒUR€Ž"
    assert update["attributes"]["PatientName"] == "TESTSŒUR€Ž^HÉLÈNE^^MME"


def test_without_a_declared_set_the_french_adapter_s_is_read() -> None:
    raw = sample("adt_a01").replace(b"|FRA|8859/15", b"|FRA|")

    assert parse(raw, "8859/15").get("PID-5.1") == "TESTCŒUR"


@pytest.mark.parametrize("name", sorted(one.stem for one in Path(SAMPLES).glob("*.hl7")))
def test_the_pack_s_own_samples_break_none_of_its_rules(pack: MappingSet, name: str) -> None:
    raw = sample(name)
    mine = "fr/teleradiology" if name.startswith("tlr") else "fr/pam-france"

    assert faults(pack, "fr/ins", raw) == []
    assert name.endswith("cda") or faults(pack, mine, raw) == []
