"""``extends:``: a mapping of a vendor or site that is another one but for its own lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.lint import findings_of
from bridge.mapping import compile_all
from bridge.mapping.cases import SITE, run_cases
from bridge.mapping.coverage import coverage
from bridge.mapping.watch import Watch
from bridge.settings import from_files
from tests.rigs.need import REPOSITORY

MAPPINGS = REPOSITORY / "mappings"
ORDER = (MAPPINGS / "samples" / "orm_new_ct.hl7").read_bytes()
BASE = """\
target: hl7v2
messages: [ORM^O01]
let:
  site: {value: A}
  number: OBR-18.1
edits:
  - set: {MSH-3: $site}
  - remove: [PID-19]
"""


def shipped() -> dict[str, str]:
    files = (path for path in MAPPINGS.rglob("*") if path.suffix in (".yaml", ".csv"))
    return {path.relative_to(MAPPINGS).as_posix(): path.read_text(encoding="utf-8") for path in files}


def edited(*own: str, base: str = BASE, message: bytes = ORDER) -> Any:
    """The order as the last of ``own`` makes it; each extends the one before."""
    files = {"base.yaml": base}
    files |= {f"m{number}.yaml": text for number, text in enumerate(own)}
    compiled = compile_all(files)
    assert compiled.findings == []
    return parse(compiled.mappings[f"m{len(own) - 1}"].render(parse(message), {"site": SITE}).data)


def told(own: str, base: str = BASE) -> list[str]:
    return [str(finding) for finding in compile_all({"base.yaml": base, "vendor/x.yaml": own}).findings]


def test_an_extension_without_lines_of_its_own_gives_the_same_bytes() -> None:
    files = {**shipped(), "ours.yaml": "extends: order-to-worklist\n"}
    compiled = compile_all(files)

    ours, theirs = compiled.mappings["ours"], compiled.mappings["order-to-worklist"]
    assert compiled.findings == []
    assert ours.render(parse(ORDER), {"site": SITE}).data == theirs.render(parse(ORDER), {"site": SITE}).data
    assert ours.messages == theirs.messages


def test_a_line_of_its_own_replaces_the_one_of_the_same_name_and_new_ones_join() -> None:
    own = "extends: order-to-worklist\nstep: {let: {start: OBR-7}}\nPatientSex: ~\nStudyComments: {value: ours}\n"
    compiled = compile_all({**shipped(), "vendor/ours.yaml": own})

    raw = ORDER.replace(b"\rOBR|1|", b"\rOBR|1|", 1)
    message = parse(raw).edit()
    message.set_er7("OBR-7", "20240301083000")
    made = json.loads(compiled.mappings["vendor/ours"].render(parse(message.encode()), {"site": SITE}).data)
    attributes = made["updates"][0]["steps"][0]["attributes"]

    assert compiled.findings == []
    assert attributes["ScheduledProcedureStepSequence"][0]["ScheduledProcedureStepStartTime"] == "083000"
    assert "PatientSex" not in attributes
    assert attributes["StudyComments"] == "ours"
    assert attributes["AccessionNumber"] == "A100"


def test_edits_go_on_after_those_of_the_other() -> None:
    message = edited("extends: base\nedits:\n  - set: {MSH-4: {value: OURS}}\n")

    assert (message.get("MSH-3"), message.get("MSH-4")) == ("A", "OURS")


def test_a_new_name_may_be_used_by_the_replaced_line_that_follows_it() -> None:
    message = edited("extends: base\nlet:\n  town: {value: B}\n  site: $town\n")

    assert message.get("MSH-3") == "B"


def test_a_site_extends_its_vendor_which_extends_what_is_shipped() -> None:
    vendor = "extends: base\nlet: {site: {value: V}}\n"
    site = "extends: m0\nedits:\n  - set: {MSH-5: $site}\n"

    message = edited(vendor, site)
    assert (message.get("MSH-3"), message.get("MSH-5")) == ("V", "V")


def test_a_resource_of_the_same_name_joins_and_others_follow() -> None:
    own = """\
extends: report-to-fhir
resources:
  - resource: Patient
    set: {gender: ~, active: {value: true}}
  - resource: Basic
    as: mark
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set:
      identifier: {from: PID-3, as: fhir_identifier}
      code: {text: {value: ours}}
"""
    compiled = compile_all({**shipped(), "ours.yaml": own})
    report = parse((MAPPINGS / "samples" / "oru_final.hl7").read_bytes())
    bundle = json.loads(compiled.mappings["ours"].render(report, {"site": SITE}).data)
    resources = [entry["resource"] for entry in bundle["entry"]]
    (patient,) = [one for one in resources if one["resourceType"] == "Patient"]

    assert [str(one) for one in compiled.findings] == []
    assert patient["active"] is True and "gender" not in patient and "birthDate" in patient
    assert resources[-1]["resourceType"] == "Basic"


def test_a_profile_takes_the_rules_of_another_and_adds_its_own() -> None:
    own = "extends: profiles/imaging-orders\nprofile: Orders of our RIS\nrules:\n  - require: [ZZZ]\n"
    compiled = compile_all({**shipped(), "ris.yaml": own})

    before = compiled.profiles["profiles/imaging-orders"].faults(parse(ORDER), {"site": SITE})
    after = compiled.profiles["ris"].faults(parse(ORDER), {"site": SITE})
    assert [fault.at for fault in after] == [*(fault.at for fault in before), "ZZZ"]


def test_cases_beside_an_extension_are_its_own() -> None:
    files = {**shipped(), "v/ours.yaml": "extends: order-to-worklist\nAccessionNumber: ORC-3.1\n"}
    files = {name: text for name, text in files.items() if not name.endswith(".cases.yaml")}
    case = '- {name: the filler number, given: o.hl7, edit: {ORC-3: F7}, expect: {AccessionNumber: "F7"}}\n'

    (result,) = run_cases({**files, "v/ours.cases.yaml": case}, {"o.hl7": ORDER})
    assert result.ok, result.differences


def test_a_mistake_of_its_own_is_told_in_its_own_file() -> None:
    (found,) = told("extends: base\nlet:\n  site: {from: MSH-3, as: uper}\n")

    assert found.startswith("vendor/x.yaml:3:") and "uper" in found


def test_a_mistake_of_the_other_is_told_once_in_the_other() -> None:
    (found,) = told("extends: base\n", BASE.replace("OBR-18.1", "{from: OBR-18, as: uper}"))

    assert found.startswith("base.yaml:5:")


def test_what_a_change_breaks_elsewhere_is_told_where_it_extends() -> None:
    (found,) = told("messages: [ORM]\nextends: base\nlet: {site: ~}\n")

    assert found.startswith("vendor/x.yaml:2:1:") and "base.yaml:7:11" in found and "site" in found


def test_what_cannot_be_extended_is_told() -> None:
    (unknown,) = told("extends: bsae\n")
    (itself,) = told("extends: vendor/x\n")
    (target,) = told("extends: base\ntarget: fhir\n")
    (nothing,) = told("extends: base\nlet: {sitte: ~}\n")

    assert "vendor/x.yaml:1:1" in unknown and "did you mean `base`" in unknown
    assert "extends this one" in itself
    assert "vendor/x.yaml:2:1" in target and "leave it out" in target
    assert "no `sitte` to take away" in nothing


def test_two_that_extend_each_other_are_told_and_do_no_harm() -> None:
    compiled = compile_all({"a.yaml": "extends: b\n", "b.yaml": "extends: a\n"})

    assert not compiled.mappings and len(compiled.findings) == 2


def test_a_name_that_only_a_replaced_line_used_is_no_fault_of_either() -> None:
    base = BASE.replace("number: OBR-18.1", "number: OBR-18.1\n  other: $number").replace("$site", "$other")
    files = {
        "base.yaml": base.replace("  site: {value: A}\n", ""),
        "x.yaml": "extends: base\nlet: {other: {value: B}}\n",
    }
    site = {"config/bridge.yaml": "site: {name: x, timezone: Europe/Paris}\n"}
    loaded = from_files({**site, **{f"mappings/{name}": text for name, text in files.items()}}, environ={})

    assert not [str(one) for one in findings_of(loaded) if "$number" in one.what]


PATIENTS = """\
target: fhir
messages: [ORM^O01]
resources:
  - resource: Patient
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set: {gender: {from: PID-8, table: gender, unknown: {value: unknown}}, name: {from: PID-5, as: human_name}}
  - resource: Encounter
    as: visit
    write: create
    identify: {identifier: {from: $number, as: derived_token, kind: visit}}
    set: {}
"""
INCLUDING = """\
target: fhir
messages: [ORM^O01]
resources:
  - include: patients
    resource: Patient
    write: update
    set: {name: ~, birthDate: {from: PID-7, as: fhir_date}}
"""


def bundle_of(**mappings: str) -> tuple[Any, list[str]]:
    """What the last of ``mappings`` makes of the order, and all findings."""
    tables = {name: text for name, text in shipped().items() if name == "tables/gender.csv"}
    compiled = compile_all({**{f"{name}.yaml": text for name, text in mappings.items()}, **tables})
    made = compiled.mappings.get(list(mappings)[-1])
    found = json.loads(made.render(parse(ORDER), {"site": SITE}).data) if made else None
    return found, [str(finding) for finding in compiled.findings]


def test_a_resource_of_another_mapping_is_included_with_lines_of_its_own() -> None:
    bundle, found = bundle_of(patients=PATIENTS.split("  - resource: Enc")[0], ours=INCLUDING)

    (entry,) = bundle["entry"]
    assert found == []
    assert entry["request"]["method"] == "PUT"
    assert (entry["resource"]["gender"], entry["resource"]["birthDate"]) == ("female", "1970-01-02")
    assert "name" not in entry["resource"]


def test_what_is_included_may_include_and_be_extended() -> None:
    first = PATIENTS.split("  - resource: Enc")[0]
    again = "target: fhir\nmessages: [ORM^O01]\nresources: [{include: ours, resource: Patient, set: {birthDate: ~}}]\n"
    vendor = "extends: again\nresources: [{resource: Patient, set: {active: {value: true}}}]\n"

    bundle, found = bundle_of(patients=first, ours=INCLUDING, again=again, vendor=vendor)

    assert found == []
    assert list(bundle["entry"][0]["resource"]) == ["resourceType", "gender", "active"]


@pytest.mark.parametrize(
    ("item", "what"),
    [
        (
            "include: patient, resource: Patient",
            "there is no mapping `patient` to include; fix: did you mean",
        ),
        ("include: patients, as: patiant", "`patients` has no resource called `patiant`"),
        ("include: ours, resource: Patient", "`ours` includes this one"),
        ("include: patients, as: visit", "with the changes of this file, patients.yaml:12:"),
        ("include: patients, resource: Patient, set: {gendre: PID-8}", "`gendre`"),
    ],
)
def test_a_mistake_in_what_is_included_is_told_where_it_is(item: str, what: str) -> None:
    head = "target: fhir\nmessages: [ORM^O01]\nresources:\n"
    told_ = bundle_of(patients=PATIENTS.replace("messages: [ORM^O01]", "messages: [ORM^O01]\nlet: {number: PV1-19}"),
                      ours=f"{head}  - {{{item}}}\n")[1]  # fmt: skip

    assert any(one.startswith("ours.yaml:") and what in one for one in told_), told_


def test_coverage_counts_an_included_line_where_it_is_written() -> None:
    case = "- {name: it, given: o.hl7, expect: {Patient.gender: female}}\n"
    files = {"patients.yaml": PATIENTS.split("  - resource: Enc")[0], "ours.yaml": INCLUDING, "ours.cases.yaml": case}
    files["tables/gender.csv"] = shipped()["tables/gender.csv"]
    watch = Watch()

    (result,) = run_cases(files, {"o.hl7": ORDER}, watch)

    reached = {(spot.file, spot.what) for spot in watch.reached if spot.kind == "line"}
    assert result.ok
    assert {("patients.yaml", "Patient.gender"), ("ours.yaml", "Patient.birthDate")} <= reached
    # And what it leaves out there is no gap of this one
    told = " ".join(str(gap) for gap in coverage(watch).gaps)
    mine = " ".join(str(gap) for gap in coverage(watch, everything=False).gaps)
    assert "no case reaches this line: Patient.name" in told
    assert "Patient.name" not in mine
