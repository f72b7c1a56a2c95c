"""The hl7v2 and fhir targets, and the cases beside mappings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping import CaseResult, Rendered, compile_all, run_cases
from bridge.settings import samples
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
ORDER = (
    b"MSH|^~\\&|RIS|DEMO|||20260106080000||ORM^O01|C1|P|2.5\r"
    b"PID|1||P1^^^HOSP||TEST^ALICE||19700102|F\r"
    b"ORC|NW|PL1\rOBR|1|PL1||A^Proc A||||||||||||||A100||||||CT~MR\rZZZ|x\\T\\y|\r"
    b"ORC|NW|PL2\rOBR|2|PL2||B^Proc B||||||||||||||A200||||||XX\rZZZ|second\r"
)
REPORT = (
    b"MSH|^~\\&|RIS|DEMO|||20260106080000||ORU^R01|C2|P|2.5\r"
    b"PID|1||P1^^^HOSP||TEST^ALICE||19700102|F\r"
    b"OBR|1||F1^RIS|A^Proc A\rOBX|1|TX|a^A||one\rOBX|2|TX|b^B||two\r"
    b"OBR|2||F2^RIS|B^Proc B\rOBX|1|TX|c^C||three\r"
)


def edit(edits: str, raw: bytes = ORDER, **tables: str) -> Rendered:
    files = {f"tables/{name}.csv": text for name, text in tables.items()}
    found = compile_all({"m.yaml": f"target: hl7v2\nmessages: [ORM^O01]\nedits:\n{edits}", **files})
    assert not found.findings, [str(one) for one in found.findings]
    return found.mappings["m"].render(parse(raw), SITE)


def lines(rendered: Rendered) -> list[bytes]:
    return rendered.data.split(b"\r")


def test_without_edits_the_message_leaves_as_it_came() -> None:
    assert edit("  []").data == ORDER


@pytest.mark.parametrize(
    "file", ["ans/ORM_O01-demande.hl7", "dcm4che/ORM_O01-GeneralOrder.hl7", "fhir-converter/ORM-O01-01.hl7"]
)
def test_only_what_is_named_changes_in_a_published_message(file: str) -> None:
    raw = require_data("hl7", file).read_bytes().replace(b"OMI^O23", b"ORM^O01", 1)

    rendered = edit("  - set: {MSH-5: {value: PACS}}", raw)

    ours = raw.split(b"|", 6)
    assert rendered.data == b"|".join([*ours[:4], b"PACS", *ours[5:]])


def test_an_edit_sets_copies_translates_and_removes() -> None:
    rendered = edit(
        "  - set: {PID-5.1: {value: 'A|B'}}\n"
        "    copy: {PID-18: PID-3}\n"
        "    remove: [ZZZ, PID-8]\n"
        "  - each: OBR\n"
        "    translate: {OBR-24: {table: t, unknown: pass}}\n"
        "    set: {OBR-19: OBR-4.2}\n",
        t="code,name\nCT,SCAN\nMR,IRM\n",
    )

    assert lines(rendered) == [
        b"MSH|^~\\&|RIS|DEMO|||20260106080000||ORM^O01|C1|P|2.5",
        b"PID|1||P1^^^HOSP||A\\F\\B^ALICE||19700102|||||||||||P1^^^HOSP",
        b"ORC|NW|PL1",
        b"OBR|1|PL1||A^Proc A||||||||||||||A100|Proc A|||||SCAN~IRM",
        b"ORC|NW|PL2",
        b"OBR|2|PL2||B^Proc B||||||||||||||A200|Proc B|||||XX",
        b"",
    ]
    assert rendered.notes == ("table t has no row for the value at OBR(2)-24: the value passed as it is",)


def test_a_condition_chooses_the_groups_that_are_edited() -> None:
    rendered = edit("  - each: OBR\n    when: {OBR-18: A200}\n    set: {OBR-24: {value: US}}\n    remove: [ZZZ]\n")

    assert b"CT~MR" in rendered.data
    assert b"ZZZ|x" in rendered.data
    assert b"|US\r" in rendered.data
    assert b"second" not in rendered.data


def test_an_empty_source_changes_nothing_and_null_is_sent_as_null() -> None:
    rendered = edit("  - set: {PID-8: ZZZ-9, PID-7: {value: '\"\"'}}\n")

    assert lines(rendered)[1] == b'PID|1||P1^^^HOSP||TEST^ALICE||""|F'


def test_a_segment_is_added_once() -> None:
    once = edit("  - add: [ZDS]\n    set: {ZDS-1.1: {value: '1.2.3'}}\n")

    again = edit("  - add: [ZDS]\n    set: {ZDS-1.1: {value: '1.2.4'}}\n", once.data)

    assert once.data == ORDER + b"ZDS|1.2.3\r"
    assert again.data == ORDER + b"ZDS|1.2.4\r"


def test_a_worklist_mapping_without_steps_says_what_has_become_of_orders_and_schedules_none() -> None:
    mapping = """
target: worklist
messages: [ORU^R01]
order: {each: OBR, identifiers: {filler: {from: OBR-3, as: number_and_issuer}}, status: {value: WORD}}
"""

    def rendered(word: str) -> Any:
        compiled = compile_all({"m.yaml": mapping.replace("WORD", word)})
        assert not compiled.findings
        return json.loads(compiled.mappings["m"].render(parse(REPORT), SITE).data)

    done = rendered("completed")["updates"]
    assert [(one["order"], one["status"], one["steps"]) for one in done] == [
        (["filler:F1^RIS"], "completed", []),
        (["filler:F2^RIS"], "completed", []),
    ]
    with pytest.raises(MappingError, match="makes no steps"):
        rendered("scheduled")


def test_the_control_id_is_that_of_the_message_that_leaves() -> None:
    assert edit("  - set: {MSH-5: {value: PACS}}").control_id == "C1"
    assert edit("  - set: {MSH-10: ORC-2}").control_id == "PL1"


def test_an_edit_of_a_segment_that_is_not_there_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        edit("  - set: {NTE-3: {value: x}}")

    assert (caught.value.at, caught.value.kind) == ("NTE-3", "required")


def bundle(resources: str, raw: bytes = REPORT) -> list[dict[str, Any]]:
    found = compile_all({"m.yaml": f"target: fhir\nmessages: [ORU^R01]\nresources:\n{resources}"})
    assert not found.findings, [str(one) for one in found.findings]
    entries = json.loads(found.mappings["m"].render(parse(raw), SITE).data)["entry"]
    assert isinstance(entries, list)
    return entries


PATIENT = """\
  - resource: Patient
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set: {birthDate: {from: PID-7, as: fhir_date}}
"""
OBSERVATIONS = """\
  - resource: Observation
    each: [OBR, OBX]
    write: update
    identify: {identifier: {from: [OBR-3.1, OBX-1], as: derived_token, kind: observation}}
    set:
      status: {value: final}
      code: {from: OBX-3, as: codeable_concept}
      subject: {ref: patient}
      valueString: OBX-5
"""
REPORTS = """\
  - resource: DiagnosticReport
    each: OBR
    write: update
    identify: {identifier: {from: OBR-3, as: fhir_token, form: EI}}
    set:
      status: {value: final}
      code: {from: OBR-4, as: codeable_concept}
      subject: {ref: patient}
      result: {ref: observation}
"""


def test_a_report_points_at_its_own_observations_and_at_the_patient() -> None:
    entries = bundle(PATIENT + OBSERVATIONS + REPORTS)

    urls = {entry["fullUrl"]: entry["resource"] for entry in entries}
    reports = [one for one in urls.values() if one["resourceType"] == "DiagnosticReport"]
    texts = [[urls[link["reference"]]["valueString"] for link in one["result"]] for one in reports]
    assert texts == [["one", "two"], ["three"]]
    assert {urls[one["subject"]["reference"]]["resourceType"] for one in reports} == {"Patient"}


def test_an_observation_may_point_at_the_report_it_is_part_of() -> None:
    services = (
        REPORTS.replace("DiagnosticReport", "ServiceRequest")
        .replace("      result: {ref: observation}\n", "      intent: {value: order}\n")
        .replace("value: final", "value: active")
    )
    observations = OBSERVATIONS + "      basedOn: [{ref: serviceRequest}]\n"

    entries = bundle(PATIENT + observations + services)

    urls = {entry["fullUrl"]: entry["resource"] for entry in entries}
    based = [
        (one["valueString"], urls[one["basedOn"][0]["reference"]]["code"]["text"])
        for one in urls.values()
        if one["resourceType"] == "Observation"
    ]
    assert based == [("one", "Proc A"), ("two", "Proc A"), ("three", "Proc B")]


def test_the_same_report_gives_the_same_bundle() -> None:
    again = REPORT.replace(b"20260106080000", b"20260106090000").replace(b"C2", b"C9")

    assert bundle(PATIENT + OBSERVATIONS + REPORTS) == bundle(PATIENT + OBSERVATIONS + REPORTS, again)


ELEMENTS = """\
      maritalStatus.coding[0]: {system: {value: s}, code: PID-16}
      communication[0].language.coding[0]: {system: {value: s}, code: PID-8}
"""


def test_constants_alone_do_not_keep_an_element() -> None:
    (entry,) = bundle(PATIENT.replace("    set: {", "    set:\n" + ELEMENTS + "      active: true\n      # {"))

    assert "maritalStatus" not in entry["resource"]
    assert entry["resource"]["communication"][0]["language"]["coding"] == [{"system": "s", "code": "F"}]
    assert entry["resource"]["active"] is True


def test_a_resource_whose_condition_is_false_is_not_made() -> None:
    reports = REPORTS.replace("    write", "    when: {OBR-4.1: B}\n    write", 1)

    entries = bundle(PATIENT + OBSERVATIONS + reports)

    assert [one["resource"]["code"]["text"] for one in entries if "result" in one["resource"]] == ["Proc B"]


def test_a_resource_that_cannot_be_found_again_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        bundle(PATIENT, REPORT.replace(b"P1^^^HOSP", b""))

    assert (caught.value.at, caught.value.kind) == ("PID-3", "required")
    assert caught.value.what == "the Patient has no identifier to find it by"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("birthDate", "birthdate"), "7:11: error: Patient has no element `birthdate`; fix: did you mean `birthDate`?"),
        (("birthDate", "name.family"), "`name` repeats; fix: write `name[0]`"),
        (("birthDate", "'birthDate[0]'"), "`birthDate` does not repeat"),
        (("birthDate", "birthDate.x"), "there is nothing below a simple value"),
        (("Patient", "Patent"), "FHIR R4 has no resource `Patent`; fix: did you mean `Patient`?"),
        (("write: create", "write: insert"), "`write` is missing or not known"),
        (("{from: PID-7, as: fhir_date}", "{ref: nobody}"), "no resource is called `nobody`"),
        (("identify: {identifier: {from: PID-3, as: fhir_token}}", "when: {PID-8: F}"), "`identify` names one search"),
        (("{birthDate:", "{birthDate: PID-7, birthDate:"), "`birthDate` is written twice"),
    ],
)
def test_a_mistake_in_a_resource_is_found_when_it_is_compiled(change: tuple[str, str], wanted: str) -> None:
    text = "target: fhir\nmessages: [ORU^R01]\nresources:\n" + PATIENT.replace(*change)

    found = compile_all({"m.yaml": text})

    assert any(wanted in str(one) for one in found.findings), [str(one) for one in found.findings]
    assert not found.mappings


def shipped_cases() -> list[CaseResult]:
    files = {
        one.relative_to(MAPPINGS).as_posix(): one.read_text()
        for one in MAPPINGS.rglob("*")
        if one.suffix in (".yaml", ".csv")
    }
    return run_cases(files, samples(MAPPINGS))


@pytest.mark.parametrize("result", shipped_cases(), ids=lambda one: f"{one.mapping}: {one.name}")
def test_a_shipped_case_holds(result: CaseResult) -> None:
    assert result.differences == ()


EDIT = "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - set: {MSH-5: {value: PACS}}\n"


def case(text: str) -> CaseResult:
    (result,) = run_cases({"m.yaml": EDIT, "m.cases.yaml": text}, {"samples/order.hl7": ORDER})
    return result


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ("expect: {MSH-5: PACS, OBR: 2, 'OBR(2)-18': A200}", ""),
        ("expect: {MSH-5: RIS}", 'MSH-5: expected "RIS", found "PACS"'),
        ("expect: {PID-99: x}", 'PID-99: expected "x", found nothing'),
        ("expect: {PID-8: null}", 'PID-8: expected nothing, found "F"'),
        ("expect: {ZZZ: 1}", "ZZZ: expected 1, found 2"),
        ("expect: {unchanged: true}", "unchanged: expected true, found false"),
        ("expect: {MSH-5: PACS}\n  expect_notes: something", "notes: expected `something`, found ``"),
        ("expect_error: {at: PID-3}", "expected an error at PID-3, but the message was mapped"),
        ("edit: {MSH-9: ADT^A01}\n  expect: {MSH-5: PACS}", "the message was refused: this mapping is for ORM^O01"),
        ("edit: {MSH-9: ADT^A01}\n  expect_error: {at: MSH-9, kind: message_type}", ""),
        ("edit: {MSH-9: ADT^A01}\n  expect_error: {at: MSH-8}", "error at: expected `MSH-8`, found `MSH-9`"),
        ("edit: {MSH-9: ADT^A01}\n  expect_error: {what: other}", "error what: expected `other`, found"),
        ("expects: {MSH-5: PACS}", "unknown key `expects`"),
    ],
)
def test_a_case_says_what_differs(expect: str, difference: str) -> None:
    result = case(f"- name: it\n  given: samples/order.hl7\n  {expect}\n")

    assert result.ok is not bool(difference)
    assert difference in "\n".join(result.differences)
    assert (result.file, result.line, result.name, result.mapping) == ("m.cases.yaml", 1, "it", "m")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("- name: it\n  given: samples/ordre.hl7\n  expect: {}\n", "no sample `samples/ordre.hl7`; fix: did you mean"),
        ("- name: it\n  given: samples/order.hl7\n  mapping: n\n  expect: {}\n", "no mapping or profile `n`"),
        ("- name: it\n  given: samples/order.hl7\n", "nothing is expected"),
        ("name: it\n", "a file of cases is a list"),
        ("- name: [\n", "not YAML"),
    ],
)
def test_a_case_that_cannot_be_run_says_why(text: str, wanted: str) -> None:
    result = case(text)

    assert not result.ok
    assert wanted in "\n".join(result.differences)
