"""What profiles of a folder say of a resource, rule by rule, and what of them is told as not judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.codecs.fhir_profile import Library, load, mistakes
from tests.rigs.fhir_profiles import BASE, URL, by, code_system, element, made_by_cases, profile, published, value_set

Json = dict[str, Any]
INS, LOCAL = "urn:oid:1.2.3", "urn:oid:4.5.6"
PLACE = "urn:test:birth-place"
GOOD: Json = {
    "resourceType": "Patient",
    "extension": [{"url": PLACE, "valueCode": "LYON"}],
    "identifier": [{"system": INS, "value": "1"}, {"system": LOCAL, "value": "22"}],
    "name": [{"family": "SAMPLE", "use": "official"}],
    "deceasedBoolean": False,
    "maritalStatus": {"coding": [{"system": "urn:s", "code": "M"}, {"system": "urn:other", "code": "x"}]},
    "managingOrganization": {"reference": "Organization/1"},
    "language": "fr",
}


def patients() -> list[Json]:
    """A profile of Patient with a rule of each kind."""
    sliced = by("value", "system", "closed")
    rule = {"key": "t-1", "severity": "error", "human": "a family or a text"}
    rule["expression"] = "family.exists() or text.exists()"
    places = element("Extension.value[x]", "code", min=1, max="1")
    urls = element("Extension.url", "uri", min=1, max="1", fixedUri=PLACE)
    organisations = [{"code": "Reference", "targetProfile": [f"{BASE}Organization"]}]
    elements = (
        element("Patient.extension", "Extension", **by("value", "url")),
        element("Patient.extension:place", [{"code": "Extension", "profile": [PLACE]}], min=1, max="1"),
        element("Patient.identifier", "Identifier", min=1, **sliced),
        element("Patient.identifier:INS", "Identifier", max="1"),
        element("Patient.identifier:INS.system", "uri", min=1, max="1", fixedUri=INS),
        element("Patient.identifier:INS.value", "string", min=1, max="1", maxLength=3),
        element("Patient.identifier:local", "Identifier", min=1),
        element("Patient.identifier:local.system", "uri", min=1, max="1", patternUri=LOCAL),
        element("Patient.name", "HumanName", constraint=[rule]),
        element("Patient.name.use", "code", max="1", patternCode="official"),
        element("Patient.deceased[x]", "boolean", max="1"),
        element(
            "Patient.maritalStatus",
            "CodeableConcept",
            max="1",
            binding={"strength": "required", "valueSet": "urn:test:marital|1.0"},
        ),
        element("Patient.managingOrganization", organisations, max="1"),
        element("Patient.language", "code", max="1", fixedCode="fr"),
        element("Patient.photo", "Attachment", max="0"),
    )
    return [
        profile("Patient", *elements),
        profile("Extension", urls, places, url=PLACE, kind="complex-type"),
        value_set("urn:test:marital", {"system": "urn:s"}, exclude=[{"system": "urn:s", "concept": [{"code": "W"}]}]),
        code_system("urn:s", "M", "S", "W"),
    ]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return load(published(tmp_path, *patients()))


def test_a_resource_that_keeps_to_all_of_it_has_no_fault(library: Library) -> None:
    verdict = library.judge(GOOD, {"Patient": [URL]})

    assert (verdict.faults, verdict.unjudged) == ([], [])
    assert library.notes == ()


@pytest.mark.parametrize(
    ("changed", "at", "kind"),
    [
        ({"extension": []}, "Patient.extension", "required"),
        ({"extension": GOOD["extension"] * 2}, "Patient.extension", "business_rule"),
        ({"extension": [{"url": PLACE}]}, "Patient.extension[0].value[x]", "required"),
        ({"extension": [{"url": PLACE, "valueString": "x"}]}, "Patient.extension[0].valueString", "datatype"),
        ({"identifier": GOOD["identifier"][:1]}, "Patient.identifier", "required"),
        ({"identifier": [*GOOD["identifier"], GOOD["identifier"][0]]}, "Patient.identifier", "business_rule"),
        ({"identifier": [*GOOD["identifier"], {"system": "urn:x"}]}, "Patient.identifier[2]", "business_rule"),
        (
            {"identifier": [{"system": INS, "value": "1234"}, GOOD["identifier"][1]]},
            "Patient.identifier[0].value",
            "business_rule",
        ),
        ({"name": [{"given": ["A"]}]}, "Patient.name[0]", "business_rule"),
        ({"name": [{"family": "A", "use": "old"}]}, "Patient.name[0].use", "datatype"),
        ({"deceasedDateTime": "2030"}, "Patient.deceasedDateTime", "datatype"),
        ({"maritalStatus": {"coding": [{"system": "urn:s", "code": "W"}]}}, "Patient.maritalStatus", "code"),
        ({"maritalStatus": {"text": "married"}}, "Patient.maritalStatus", "code"),
        ({"managingOrganization": {"reference": "Patient/1"}}, "Patient.managingOrganization", "business_rule"),
        ({"language": "en"}, "Patient.language", "datatype"),
        ({"photo": [{"title": "x"}]}, "Patient.photo", "business_rule"),
    ],
)
def test_a_fault_is_told_with_the_element_and_the_profile(library: Library, changed: Json, at: str, kind: str) -> None:
    made = {key: value for key, value in {**GOOD, **changed}.items() if value}
    if "deceasedDateTime" in changed:
        made.pop("deceasedBoolean", None)

    told = [(fault.at, fault.kind) for fault in library.judge(made, {"Patient": [URL]}).faults]

    assert told == [(at, kind)]


def test_a_fault_names_the_profile_and_quotes_no_content(library: Library) -> None:
    wrong = {"resourceType": "Patient", "language": "SAMPLE", "name": [{"given": ["SAMPLE"]}]}

    told = library.judge(wrong, {"Patient": [URL]}).faults

    assert {fault.fix for fault in told} == {f"see the profile {URL}"}
    assert not any("SAMPLE" in str(fault) for fault in told)


def test_what_a_resource_claims_counts_where_the_folder_has_it(library: Library) -> None:
    claims = {"resourceType": "Patient", "meta": {"profile": [f"{URL}|2.0", "urn:test:elsewhere"]}}
    other = {"resourceType": "Device", "meta": {"profile": [URL]}}

    assert "Patient.identifier" in [fault.at for fault in library.judge(claims).faults]
    assert [fault.at for fault in library.judge(other).faults] == ["Device.meta.profile"]
    assert library.judge({"resourceType": "Patient"}).faults == []


def test_each_resource_of_a_bundle_is_judged_and_its_references_are_followed_inside(library: Library) -> None:
    where = {"reference": "urn:uuid:1"}
    person = {"resource": {**GOOD, "managingOrganization": where}}
    bundle = {"resourceType": "Bundle", "type": "collection"}
    right = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Organization"}}
    wrong = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Device"}}

    def told(*entries: Json) -> tuple[list[str], list[str]]:
        verdict = library.judge({**bundle, "entry": list(entries)}, {"Patient": [URL]})
        return [one.at for one in verdict.faults], [one.at for one in verdict.unjudged]

    place = "Bundle.entry[0].resource.managingOrganization"
    assert told(person, right) == ([], [])
    assert told(person, wrong) == ([place], [])
    assert told(person) == ([], [place])


@pytest.mark.parametrize(
    ("kind", "path", "slice_", "fits", "misses"),
    [
        ("value", "type.coding.code", {"type.coding.code": {"fixedCode": "PI"}}, "PI", "VN"),
        ("pattern", "type", {"type": {"patternCodeableConcept": {"coding": [{"code": "PI"}]}}}, "PI", "VN"),
        ("value", "type", {"type.coding.code": {"fixedCode": "PI"}}, "PI", "VN"),
        ("value", "$this", {"type.coding.code": {"fixedCode": "PI"}}, "PI", "VN"),
    ],
)
def test_slices_are_told_apart_by_values_at_below_and_in_the_element_itself(
    tmp_path: Path, kind: str, path: str, slice_: dict[str, Json], fits: str, misses: str
) -> None:
    steps = ["type", "type.coding", "type.coding.code"]
    below = [element(f"Patient.identifier:one.{step}", "code", **slice_.get(step, {})) for step in steps]
    rest = (element("Patient.identifier", "Identifier", **by(kind, path)), element("Patient.identifier:one", max="0"))
    library = load(published(tmp_path, profile("Patient", *rest, *below)))

    def faults(code: str) -> int:
        coded = {"type": {"coding": [{"system": "urn:x", "code": code}]}}
        return len(library.judge({"resourceType": "Patient", "identifier": [coded]}, {"Patient": [URL]}).faults)

    assert (faults(fits), faults(misses), library.notes) == (1, 0, ())


def test_slices_are_told_apart_by_type_and_by_whether_an_element_exists(tmp_path: Path) -> None:
    elements = (
        element("Observation.value[x]", [{"code": "Quantity"}, {"code": "string"}], max="1", **by("type", "$this")),
        element("Observation.value[x]:valueQuantity", "Quantity", max="1"),
        element("Observation.value[x]:valueQuantity.unit", "string", min=1, max="1"),
        element("Observation.component", "BackboneElement", **by("exists", "interpretation")),
        element("Observation.component:flagged", "BackboneElement", max="1"),
        element("Observation.component:flagged.interpretation", "CodeableConcept", min=1),
    )
    library = load(published(tmp_path, profile("Observation", *elements)))

    def told(**more: Any) -> list[str]:
        return [one.at for one in library.judge({"resourceType": "Observation", **more}, {"Observation": [URL]}).faults]

    flagged = {"interpretation": [{"text": "high"}]}
    assert told(valueString="5", component=[flagged, {"code": {"text": "x"}}]) == []
    assert told(valueQuantity={"value": 5}) == ["Observation.valueQuantity.unit"]
    assert told(component=[flagged, flagged]) == ["Observation.component"]
    assert library.notes == ()


def test_what_cannot_be_judged_is_told_of_the_profile_and_no_fault(tmp_path: Path) -> None:
    rules = [
        {"key": "t-1", "severity": "error", "human": "-", "expression": "name.resolve().exists()"},
        {"key": "t-2", "severity": "error", "human": "-", "expression": "'unclosed"},
        {"key": "t-3", "severity": "warning", "human": "-", "expression": "false"},
    ]
    elements = (
        element("Patient.identifier", "Identifier", **by("profile", "assigner.resolve()", "closed")),
        element("Patient.identifier:one", "Identifier", min=1, max="1"),
        element("Patient.gender", "code", binding={"strength": "required", "valueSet": "urn:test:unlisted"}),
        element("Patient.active", "boolean", constraint=rules),
        element("Patient.multipleBirth[x]", "integer", max="1", maxValueInteger=9),
    )
    library = load(published(tmp_path, profile("Patient", *elements)))

    told = [(note.at, note.what) for note in library.notes]
    resource = {"resourceType": "Patient", "identifier": [{"value": "1"}], "gender": "x", "active": True}

    assert {at for at, _ in told} == {
        "Patient.identifier:one",
        "Patient.gender",
        "Patient.active",
        "Patient.multipleBirth[x]",
    }
    assert [what for at, what in told if at == "Patient.active"] == [
        "the constraint t-1 is not judged",
        "the constraint t-2 is not judged",
    ]
    assert library.judge(resource, {"Patient": [URL]}).faults == []


def test_a_constraint_that_the_library_cannot_evaluate_is_told_and_no_fault(tmp_path: Path) -> None:
    rule = {"key": "t-1", "severity": "error", "human": "-", "expression": "identifier.value + 1 = 2"}
    made = profile("Patient")
    made["snapshot"]["element"][0]["constraint"] = [rule]
    library = load(published(tmp_path, made))

    verdict = library.judge({"resourceType": "Patient", "identifier": [{"value": "a"}]}, {"Patient": [URL]})

    assert verdict.faults == []
    assert [(one.at, one.what) for one in verdict.unjudged] == [
        ("Patient", "the constraint t-1 could not be evaluated")
    ]


@pytest.mark.parametrize(
    ("value_sets", "known"),
    [
        ([value_set("urn:a", {"system": "urn:s", "concept": [{"code": "A"}]})], {"A"}),
        ([value_set("urn:a", {"valueSet": ["urn:b"]}), value_set("urn:b", {"system": "urn:s"})], {"A", "B"}),
        ([value_set("urn:a", {"valueSet": ["urn:a"]})], None),
        ([value_set("urn:a", {"system": "urn:s", "filter": [{"property": "p", "op": "=", "value": "v"}]})], None),
        ([value_set("urn:a", {"system": "urn:part"})], None),
        ([value_set("urn:a", {"system": "urn:s"}, exclude=[{"system": "urn:s", "concept": [{"code": "A"}]}])], {"B"}),
        ([value_set("urn:a", {"system": "urn:s"}, {"system": "urn:away"})], None),
    ],
)
def test_codes_are_known_where_the_folder_lists_all_of_them(
    tmp_path: Path, value_sets: list[Json], known: set[str] | None
) -> None:
    bound = element("Patient.language", "code", binding={"strength": "required", "valueSet": "urn:a"})
    systems = code_system("urn:s", "A", "B"), code_system("urn:part", "A", content="fragment")
    library = load(published(tmp_path, profile("Patient", bound), *systems, *value_sets))

    taken = {
        code
        for code in ("A", "B", "C")
        if not library.judge({"resourceType": "Patient", "language": code}, {"Patient": [URL]}).faults
    }

    assert taken == (known or {"A", "B", "C"})
    assert bool(library.notes) is (known is None)


def test_a_folder_that_cannot_be_used_and_a_profile_that_is_not_there_are_mistakes(tmp_path: Path) -> None:
    folder = published(tmp_path / "some", profile("Patient"))
    (folder / "broken.json").write_text("{")
    (folder / "package.json").write_text('{"name": "x"}')
    bare = {**profile("Device", url="urn:test:bare")}
    del bare["snapshot"]
    published(folder / "sub", bare)

    found = mistakes(load(folder), {"Patient": [URL, "urn:test:none"], "Device": [URL, "urn:test:bare"]})

    assert [(note.file or note.at, note.what) for note in found] == [
        ("broken.json", "not a readable JSON file"),
        ("urn:test:none", "the folder has no such profile that can be judged by"),
        (URL, "a profile of Patient, not of Device"),
        ("urn:test:bare", "the folder has no such profile that can be judged by"),
    ]
    assert [note.what for note in mistakes(load(tmp_path / "away"), {})] == ["there is no such folder"]


def test_the_patient_of_the_french_pack_keeps_to_a_profile_of_its_kind_that_it_claims(tmp_path: Path) -> None:
    """FR Core itself is not in any registry that tests install from: this is a small definition in its place."""
    claimed = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient"
    system = element("Patient.identifier:INS.system", "uri", min=1, max="1", fixedUri="urn:oid:1.2.250.1.213.1.4.8")
    kind = {"coding": [{"system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203", "code": "INS-NIR"}]}
    of_ins = element("Patient.identifier:INS.type", "CodeableConcept", min=1, max="1", patternCodeableConcept=kind)
    elements = (
        element("Patient.identifier", "Identifier", **by("value", "system")),
        element("Patient.identifier:INS", "Identifier", max="1"),
        element("Patient.identifier:INS.use", "code", min=1, max="1", fixedCode="official"),
        of_ins,
        system,
        element("Patient.name", "HumanName", min=1, **by("value", "use")),
        element("Patient.name:official", "HumanName", min=1, max="1"),
        element("Patient.name:official.use", "code", min=1, max="1", fixedCode="official"),
        element("Patient.name:official.family", "string", min=1, max="1"),
    )
    library = load(published(tmp_path, profile("Patient", *elements, url=claimed)))
    bundles = list(made_by_cases("fr/patient-to-fhir"))

    found = [str(fault) for one in bundles for fault in library.judge(one).faults]
    ins = bundles[0]["entry"][0]["resource"]["identifier"][1]
    del ins["type"]

    assert found == []
    assert [one.at for one in library.judge(bundles[0]).faults] == ["Bundle.entry[0].resource.identifier[1].type"]
    assert all(claimed in one["entry"][0]["resource"]["meta"]["profile"] for one in bundles)
