"""Profiles that others have written: R4's own, and HL7's International Patient Summary with its examples."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.codecs.fhir_profile import Library, load
from bridge.fhir.interaction import TYPES
from tests.rigs import definitions_r4 as r4
from tests.rigs import npm
from tests.rigs.fhir_profiles import made_by_cases

Json = dict[str, Any]
_IPS = "http://hl7.org/fhir/uv/ips/StructureDefinition/"


@pytest.fixture(scope="module")
def base_profiles(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("r4")
    for name in (*TYPES, "Bundle"):
        (folder / f"{name}.json").write_text(json.dumps(r4.structures()[name]))
    listed = [{"resource": one} for one in r4.value_sets().values()]
    (folder / "codes.json").write_text(json.dumps({"resourceType": "Bundle", "entry": listed}))
    return load(folder)


@pytest.fixture(scope="module")
def ips() -> Path:
    return npm.folder(Path(npm.__file__).with_name("fhir_ips")) / "node_modules/hl7.fhir.uv.ips"


@pytest.fixture(scope="module")
def summary(ips: Path) -> Library:
    return load(ips)


def test_every_bundle_that_our_mappings_make_keeps_to_the_definitions_of_r4(base_profiles: Library) -> None:
    bundles = list(made_by_cases("-to-fhir"))
    of = {url.rpartition("/")[2]: [url] for url in base_profiles.profiles}

    found = {str(fault) for one in bundles for fault in base_profiles.judge(one, of).faults}

    assert found == set()
    assert len(bundles) > 100
    assert {"Bundle", "Patient", "ServiceRequest", "DiagnosticReport", "ImagingStudy"} <= of.keys()


def test_what_r4_does_not_allow_is_a_fault_of_its_own_definitions(base_profiles: Library) -> None:
    of = {"Patient": ["http://hl7.org/fhir/StructureDefinition/Patient"]}
    wrong = {"resourceType": "Patient", "gender": "m", "contact": [{"gender": "male"}], "link": [{"type": "seealso"}]}

    told = {(fault.at, fault.kind) for fault in base_profiles.judge(wrong, of).faults}

    assert told == {
        ("Patient.gender", "code"),
        ("Patient.contact[0]", "business_rule"),
        ("Patient.link[0].other", "required"),
    }


def test_every_example_of_the_patient_summary_keeps_to_the_profiles_that_it_claims(summary: Library, ips: Path) -> None:
    examples = [json.loads(path.read_bytes(), parse_float=Decimal) for path in (ips / "example").glob("*.json")]
    claimed = {url for one in examples for url in one.get("meta", {}).get("profile", ())}

    found = [str(fault) for one in examples for fault in summary.judge(one).faults]

    assert found == []
    assert len(claimed & summary.profiles.keys()) > 20


@pytest.mark.parametrize(
    ("example", "damage", "at"),
    [
        ("Patient-66033", lambda one: one.pop("birthDate"), "Patient.birthDate"),
        ("Patient-66033", lambda one: one.update(name=[{"use": "official"}]), "Patient.name[0]"),
        ("Observation-ips-example-imaging-4", lambda one: one.pop("subject"), "Observation.subject"),
        ("Observation-ips-example-imaging-4", lambda one: one.pop("category"), "Observation.category"),
        ("Bundle-bundle-minimal", lambda one: one.pop("timestamp"), "Bundle.timestamp"),
        ("Bundle-bundle-minimal", lambda one: one["entry"][0]["resource"].pop("section"), "Bundle.entry"),
    ],
)
def test_a_damaged_example_is_told_with_the_element(
    summary: Library, ips: Path, example: str, damage: Any, at: str
) -> None:
    one = json.loads((ips / "example" / f"{example}.json").read_bytes())
    damage(one)

    told = [fault.at for fault in summary.judge(one).faults]

    assert any(place.startswith(at) for place in told), told


def test_slices_told_apart_by_what_a_reference_points_to_are_told_of_the_profile(summary: Library) -> None:
    told = {note.at for note in summary.notes if "cannot be told" in note.what}

    assert "Composition.section:sectionProblems.entry:problem" in told
    assert not any(note.severity == "error" for note in summary.notes)
