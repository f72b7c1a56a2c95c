"""What lint finds in mappings before any message comes: places, types, values, and what can never count."""

from __future__ import annotations

import pytest

from bridge.lint import findings_of
from bridge.settings import Overrides, from_files
from tests.unit.test_lint import SITE

EDIT = "target: hl7v2\nmessages: [ORM^O01]\n"
COMPOSED = """\
target: hl7v2
messages: [ORM^O01]
message:
  - {segment: MSH, from: MSH, set: {MSH-12: {value: 2.5.1}}}
"""
FHIR = """\
target: fhir
messages: [ORU^R01]
resources:
  - resource: Patient
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set:
"""
WORKLIST = """\
target: worklist
messages: [ORM^O01]
order:
  identifiers: {placer: {from: ORC-2, as: number_and_issuer}}
  status: {value: scheduled}
step: {each: OBR}
PatientName: {from: PID-5, as: person_name}
PatientID: {from: PID-3, as: patient_id}
StudyInstanceUID: ZDS-1.1
RequestedProcedureID: {from: OBR-19, max: 16}
ScheduledProcedureStepSequence.ScheduledProcedureStepID: {from: OBR-20, max: 16}
ScheduledProcedureStepSequence.ScheduledStationAETitle: {from: ORC-18.1, fits: AE}
ScheduledProcedureStepSequence.Modality: OBR-24
ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate: {from: OBR-36, as: local_date}
ScheduledProcedureStepSequence.ScheduledProcedureStepStartTime: {from: OBR-36, as: local_time}
"""
CODES = "code,value,other\nA,CT,female\nB,not a modality,femal\n"


def told(text: str, *, cases: bool = True, **more: str) -> list[str]:
    """The findings about one mapping that cases try; ``more`` are other files, _yaml and __ for the dot and stroke."""
    files = {"config/bridge.yaml": SITE, "mappings/m.yaml": text}
    if cases:
        files["mappings/m.cases.yaml"] = "[]"
    files |= {f"mappings/{name.replace('__', '/').replace('_yaml', '.yaml')}": found for name, found in more.items()}
    found = findings_of(from_files(files, overrides=Overrides.model_construct()))
    return [str(one).removeprefix("mappings/") for one in found]


def edit(line: str, target: str = "PV1-19.1") -> str:
    return f"{EDIT}edits:\n  - set: {{{target}: {line}}}\n"


def with_table(text: str) -> list[str]:
    return told(text, **{"tables__codes.csv": CODES})


@pytest.mark.parametrize(
    "text",
    [edit("PID-3.1"), edit("ZDS-1.9.9"), edit("OBX-5.40"), edit("{from: OBX-3.1.2}"), COMPOSED, WORKLIST]
    + [FHIR + "      gender: {value: female}\n", edit("ORDER(2).OBR-18"), edit("IPC-1.1")],
)  # fmt: skip
def test_a_mapping_without_a_flaw_has_no_findings(text: str) -> None:
    assert told(text) == []


@pytest.mark.parametrize(
    ("text", "place", "what", "fix"),
    [
        (edit("PIX-3"), "4:11: warning", "no version of HL7 has a segment PIX", "did you mean `PID`"),
        (edit("TXA-3"), "4:11: warning", "ORM^O01 has no TXA", ""),
        (edit("PID-99"), "4:11: warning", "no version of HL7 has PID-99", "PID ends with PID-40"),
        (edit("PID-3.22"), "4:11: warning", "no version of HL7 has PID-3.22", "PID-3 (CX) has 12 components"),
        (edit("PID-3.4.7"), "4:11: warning", "no version of HL7 has PID-3.4.7", "PID-3.4 (HD) has 3 subcomponents"),
        (edit("PID-3", "PID-77"), "4:11: warning", "no version of HL7 has PID-77", "PID ends"),
        (edit("OBSERVATION(1).RESOURCES.OBX-5"), "4:11: error", "ORM^O01 has no group RESOURCES", ""),
        (edit("{from: PID-3, when: {PV9-2: E}}"), "4:", "has a segment PV9", "did you mean `PV2`"),
        (f"{EDIT}edits:\n  - {{each: TXA, remove: [ZZZ]}}\n", "4:6: warning", "ORM^O01 has no TXA", ""),
        (f"{EDIT}edits:\n  - copy: {{PID-18: PID-88}}\n", "4:12: warning", "has PID-88", "PID ends"),
        (f"{EDIT}edits:\n  - remove: [PID-88]\n", "4:5: warning", "has PID-88", "PID ends"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - max: {PID-88: 3}\n", "4:", "has PID-88", "PID ends"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - require: [PID-88]\n", "4:15: warning", "has PID-88", "PID ends"),
    ],
)
def test_a_place_that_cannot_be_is_told_with_the_nearest(text: str, place: str, what: str, fix: str) -> None:
    (found,) = told(text)

    assert found.startswith(f"m.yaml:{place}") and what in found and fix in found


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("{from: OBR-4, as: local_date}", "`local_date` takes TS", "for CE there are"),
        ("{from: PID-3, as: person_name}", "`person_name` takes XPN, PPN, PN, and PID-3 is CX", "patient_id"),
        ("{from: PID-5.1, as: person_name}", "and PID-5.1 is", "write PID-5, without the component"),
        ("{from: PID-7, as: codeable_concept}", "`codeable_concept` takes CE", "local_date"),
        ("{from: OBR-4, table: codes, unknown: pass}", "OBR-4 (CE) has components: a table finds none", "OBR-4.1"),
    ],
)
def test_a_function_or_table_on_what_it_is_not_made_for_is_told(line: str, what: str, fix: str) -> None:
    found = [one for one in with_table(edit(line)) if "warning" in one and "codes.csv" not in one]

    assert len(found) == 1 and what in found[0] and fix in found[0]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("PID-3.1 | PV1-19.1 | PID-3.1", "`PID-3.1` is there twice"),
        ("PID-5 | PID-5.1", "`PID-5.1` is never read: `PID-5` holds something whenever it does"),
        ("$index | PID-3.1", "`PID-3.1` is never read: `$index` always gives a value"),
        ("$fixed | PID-3.1", "`PID-3.1` is never read: `$fixed` always gives a value"),
        ("$must | PID-3.1", "`PID-3.1` is never read: `$must` always gives a value"),
        ("$through | PID-3.1", "`PID-3.1` is never read: `$through` always gives a value"),
        ("{from: $fixed, required: true, default: A}", "`required` never counts"),
    ],
)
def test_an_alternative_that_is_never_read_is_told(line: str, what: str) -> None:
    names = "let:\n  fixed: {from: PID-2, default: none}\n  through: $fixed\n  must: {from: PID-3.1, required: true}\n"
    text = f"{EDIT}{names}edits:\n  - set: {{PV1-19.1: {line}, PV1-5.1: $through, PV1-5.4: $must}}\n"

    (found,) = told(text)

    assert "warning" in found and what in found


@pytest.mark.parametrize("line", ["PID-5.1 | PID-5", "{from: PID-5 | PID-5.1, fits: 3}", '"PID-3[2].1 | PID-3.1"'])
def test_an_alternative_that_may_still_be_read_is_not_told(line: str) -> None:
    assert told(edit(line)) == []


def test_a_local_segment_is_not_judged() -> None:
    assert [one for one in with_table(edit("{from: ZDS-1, table: codes, unknown: pass}")) if "ZDS" in one] == []


def test_a_place_in_the_condition_of_a_reference_is_judged_too() -> None:
    (found,) = told(f"{FHIR}      managingOrganization: {{ref: patient, when: {{PID-88: x}}}}\n")

    assert "no version of HL7 has PID-88" in found


def test_a_name_that_nothing_uses_is_told_at_its_line() -> None:
    used = "let: {a: PID-2, b: $a}\nedits:\n  - {when: {$b: present}, remove: [IN1]}\n"
    unused = "let: {a: PID-2, b: $a}\nedits:\n  - {remove: [IN1]}\n"

    assert told(EDIT + used) == []
    assert told(EDIT + unused) == ["m.yaml:3:17: warning: nothing uses `$b`; fix: take the line out, or use it"]


def test_a_table_and_a_mapping_that_nothing_uses_are_told() -> None:
    table = with_table(EDIT + "edits: []\n")
    mapping = told(EDIT + "edits: []\n", cases=False)

    assert table == [
        "tables/codes.csv:1:1: warning: no mapping uses the table `codes`; fix: remove it, or look it up with `table:`"
    ]
    assert mapping == [
        "m.yaml:1:1: hint: nothing uses the mapping `m`, and no case tries it; "
        "fix: name it in a route, write cases, or remove it"
    ]


def test_a_mapping_that_is_a_step_of_another_is_used() -> None:
    steps = told("steps: [one, two]\n", one_yaml=EDIT + "edits: []\n", two_yaml=EDIT + "edits: []\n")

    assert steps == []


@pytest.mark.parametrize(
    ("table", "line", "told_of"),
    [
        (CODES, "{from: OBR-24, table: codes}", True),
        (CODES, "{from: OBR-24, table: codes, unknown: refuse}", False),
        (CODES, "{from: OBR-24, table: codes, fix: send one of ours}", False),
        (CODES + "*,CT,x\n", "{from: OBR-24, table: codes}", False),
        ("# our codes\n# unknown: refuse\n" + CODES, "{from: OBR-24, table: codes}", False),
    ],
)
def test_a_lookup_that_does_not_say_what_an_unknown_code_means_is_a_hint(table: str, line: str, told_of: bool) -> None:
    found = told(edit(line), **{"tables__codes.csv": table})

    assert [("hint" in one, "unknown: refuse" in one) for one in found] == ([(True, True)] if told_of else [])


def worklist(line: str, target: str = "PatientState", let: str = "") -> str:
    return f"{WORKLIST}{let}{target}: {line}\n"


@pytest.mark.parametrize(
    ("line", "target", "place", "what"),
    [
        ("{value: lower case}", "PatientSex", "m.yaml:16:1: error", "may only have capitals"),
        ("{value: 1.02.3}", "ReferencedSOPClassUID", "m.yaml:16:1: error", "is not a UID"),
        (
            "{from: OBR-12, default: 2024-01-31}",
            "PatientBirthDate",
            "m.yaml:16:34: error",
            "characters long and DICOM allows 8 (DA)",
        ),
        ("{from: PV1-8, table: codes, column: other, unknown: {value: ok}}", "PatientSex", "m.yaml", "capitals"),
        ("$fixed", "PatientSex", "m.yaml:16:7: error", "may only have capitals"),
        ("{from: OBR-24, table: codes, unknown: pass}", "PatientSex", "tables/codes.csv:3:1: warning", "capitals"),
    ],
)
def test_a_value_that_dicom_can_never_take_is_told_before_any_message(
    line: str, target: str, place: str, what: str
) -> None:
    let = "let: {fixed: {value: lower case}}\n" if "$fixed" in line else ""

    found = [one for one in with_table(worklist(line, target, let)) if "never be sent" in one]

    assert any(one.startswith(place) for one in found) and all(what in one for one in found)


@pytest.mark.parametrize("rule", ["unusable: omit", "as: upper, unusable: omit"])
def test_a_type_1_attribute_that_a_rule_may_leave_empty_is_told(rule: str) -> None:
    line = "RequestedProcedureID: {from: OBR-19, max: 16"
    spoiled = WORKLIST.replace(line, f"{line}, {rule}")

    (found,) = told(spoiled)

    assert found.startswith("m.yaml:10:") and "type 1" in found
    assert told(spoiled.replace(rule, f"{rule}, default: NONE")) == []


def test_free_text_into_a_short_attribute_is_a_hint_until_the_line_says_what_to_do() -> None:
    for line in ("OBR-18", "$number", "{from: $number}"):
        (found,) = told(worklist(line, "AccessionNumber", "let: {number: OBR-18.1}\n" if "$" in line else ""))
        assert "hint: OBR-18" in found and "longer than 16 characters (SH)" in found and "max: 16" in found
    for line in ("{from: OBR-18, max: 16}", "{from: OBR-18, fits: SH}", "{from: OBR-18, unusable: omit}", "OBR-24"):
        assert told(worklist(line, "AccessionNumber")) == []


@pytest.mark.parametrize(
    ("set_", "place", "what"),
    [
        ("gender: {value: femal}", "m.yaml:8:7: error", "`femal` is no code of Patient.gender"),
        ("gender: {from: PID-8, default: f}", "m.yaml:8:29: error", "`f` is no code of Patient.gender"),
        (
            "gender: {from: PID-8, table: codes, column: other, unknown: empty}",
            "tables/codes.csv:3",
            "`femal` is no code",
        ),
        ("name[0].use: {value: offical}", "m.yaml:8:7: error", "`offical` is no code of Patient.name[0].use"),
    ],
)
def test_a_code_that_fhir_does_not_allow_is_told(set_: str, place: str, what: str) -> None:
    found = [one for one in with_table(f"{FHIR}      {set_}\n") if "is no code" in one]

    assert len(found) == 1 and found[0].startswith(place) and what in found[0]


def test_an_element_that_every_resource_of_its_type_needs_is_missed() -> None:
    report = (
        FHIR.replace("resource: Patient", "resource: DiagnosticReport")
        + "      code: {from: OBR-4, as: codeable_concept}\n"
    )

    (found,) = told(report)

    assert "error: no line for `status`, which every DiagnosticReport needs; fix: add `status:`" in found


def test_a_field_that_the_version_of_a_new_message_requires_is_missed() -> None:
    (found,) = told(COMPOSED + "  - {segment: OBR, set: {OBR-2: ORC-2.1}}\n")

    assert found.startswith("m.yaml:5:6: warning: no line for OBR-4, which HL7 2.5.1 requires")


def test_what_an_extended_mapping_says_is_told_where_it_is_written_and_once() -> None:
    found = told("extends: base\nlet: {other: PID-99}\n", base_yaml=edit("PID-88"))

    assert [one.split(" ")[0] for one in found] == ["base.yaml:4:11:", "m.yaml:2:7:", "m.yaml:2:7:"]


FROM_FHIR = """\
target: hl7v2
messages: [ServiceRequest]
message:
  - segment: MSH
    set: {MSH-9.1: {value: ORM}, MSH-12: {value: 2.5.1}}
  - segment: ORC
    set: {ORC-1: {value: NW}, ORC-12.2: LINE}
"""


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{from: ServiceRequest.requester, as: staff_name}", ""),
        ("{from: ServiceRequest.subject -> Patient.name, as: person_name}", ""),
        ("{from: ServiceRequest.occurrence, as: local_date}", ""),
        (
            "{from: ServiceRequest.requester -> Practitioner.name, as: staff_name}",
            "and ServiceRequest.requester -> Practitioner.name is HumanName; fix: for HumanName there are",
        ),
        ("{from: ServiceRequest.status, as: person_name}", "and ServiceRequest.status is text"),
        ("ServiceRequest.state", "ServiceRequest has no element `state`; fix: did you mean `status`?"),
    ],
)
def test_elements_of_fhir_are_known_with_their_types(line: str, what: str) -> None:
    found = told(FROM_FHIR.replace("LINE", line))
    assert len(found) == (1 if what else 0), found
    assert what in "".join(found)
