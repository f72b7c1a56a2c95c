"""Where each value comes from, and what no case reaches."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping import compile_all, run_cases
from bridge.mapping.coverage import Gap, coverage
from bridge.mapping.watch import Traced, Watch

ORDER = b"""MSH|^~\\&|RIS|DEMO|RADBRIDGE|DEMO|20260105080000||ORM^O01|C1|P|2.5.1\r\
PID|1||P1^^^HOSP||TESTPATIENT^ANNA||19700101|F\r\
ORC|NW|P1^RIS\r\
OBR|1|P1^RIS||CTHEAD^CT head^99DEMO||||||||||||||A1|||||CT|CT\r\
OBR|2|P1^RIS||XYZ^Something^99DEMO||||||||||||||A2|||||MR|MR\r"""
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
TABLES = {
    "tables/modality.csv": "# version: 3\ncode,modality\nCT,CT\nIRM,MR\n",
    "tables/stations.csv": "modality,room,title\nCT,*,CT1\nMR,*,MR1\n",
}
EDIT = """\
target: hl7v2
messages: [ORM^O01]
let:
  accession: IPC-1.1 | OBR-18.1
edits:
  - set:
      MSH-3: {value: RADBRIDGE}
      MSH-5: {from: MSH-99, default: PACS}
      MSH-6: {from: PID-7, as: fhir_date}
      OBR-19: $accession
    copy: {PID-18: PID-3}
    remove: [NTE, PID-7]
  - each: OBR
    when: {OBR-24: CT}
    set:
      OBR-20: {from: OBR-2.1, when: {OBR-4.1: CTHEAD}}
    translate: {OBR-24: {table: modality, unknown: pass}}
  - each: OBR
    set: {OBR-21: {from: [OBR-24, $accession], table: stations, column: title}}
"""


def traced(name: str, text: str, message: bytes = ORDER, **more: str) -> list[Traced]:
    watch = Watch()
    compiled = compile_all({**TABLES, f"{name}.yaml": text, **more}, watch)
    assert compiled.findings == []
    compiled.mappings[name].render(parse(message), SITE)
    return watch.values


def by_target(values: list[Traced]) -> Mapping[str, Traced]:
    return {one.target: one for one in values}


def test_an_alternative_that_is_empty_is_told_before_the_one_that_is_taken() -> None:
    accession = by_target(traced("m", EDIT))["$accession"]

    assert (accession.value, accession.file, accession.line) == ("A1", "m.yaml", 4)
    assert [(one.source, one.value, one.taken) for one in accession.tried] == [
        ("IPC-1.1", "", False),
        ("OBR-18.1", "A1", True),
    ]


def test_constants_defaults_functions_and_conditions_are_told_as_such() -> None:
    values = by_target(traced("m", EDIT))

    assert (values["MSH-3"].value, values["MSH-3"].rule) == ("RADBRIDGE", "constant")
    assert (values["MSH-5"].value, values["MSH-5"].rule) == ("PACS", "default")
    assert (values["MSH-6"].value, values["MSH-6"].function) == ("1970-01-01", "fhir_date")


def test_a_line_whose_condition_does_not_hold_says_so_and_tries_nothing() -> None:
    values = by_target(traced("m", EDIT, ORDER.replace(b"CTHEAD", b"CTFOOT")))

    assert (values["OBR-20"].value, values["OBR-20"].rule, values["OBR-20"].tried) == ("", "when", [])


def test_a_line_that_looks_through_slices_is_not_left_out_because_the_last_one_does_not_count() -> None:
    line = "{each: OBR, when: {OBR-24: CT}, from: OBR-18, required: true}"
    text = f"target: hl7v2\nmessages: [ORM^O01]\nedits: [{{set: {{PID-18: {line}}}}}]\n"

    value = by_target(traced("m", text))["PID-18"]

    assert (value.value, value.rule, [one.taken for one in value.tried]) == ("A1", "", [True])


def test_the_row_that_gave_a_value_is_named_with_its_line_in_the_table() -> None:
    stations = [one for one in traced("m", EDIT) if one.target == "OBR-21"]

    assert [(one.number, one.value) for one in stations] == [("1", "CT1"), ("2", "MR1")]
    assert [(row.table, row.line) for one in stations for row in one.rows] == [
        ("tables/stations.csv", 2),
        ("tables/stations.csv", 3),
    ]


def test_edits_that_are_no_source_lines_tell_what_they_did() -> None:
    values = by_target(traced("m", EDIT))

    assert (values["PID-18"].value, values["PID-18"].function) == (["P1^^^HOSP"], "copy PID-3")
    assert (values["PID-7"].value, values["NTE"].value) == (["PID-7"], [])
    assert [(row.table, row.line) for row in values["OBR-24"].rows] == [("tables/modality.csv", 3)]


def test_a_code_without_a_row_names_the_table_that_lacks_it() -> None:
    message = ORDER.replace(b"|CT|CT", b"|CT|PX", 1)
    text = (
        "target: hl7v2\nmessages: [ORM^O01]\nedits: [{set: {OBR-24: {from: OBR-24, table: modality, unknown: pass}}}]\n"
    )

    line = by_target(traced("m", text, message.replace(b"|CT|PX", b"|PX|PX")))["OBR-24"]

    assert (line.value, [(row.table, row.line) for row in line.rows]) == ("PX", [("tables/modality.csv", 0)])


def test_what_is_refused_is_told_with_its_error() -> None:
    watch = Watch()
    text = "target: hl7v2\nmessages: [ORM^O01]\nedits: [{set: {OBR-18: {from: OBR-99, required: true}}}]\n"
    mapping = compile_all({"m.yaml": text}, watch).mappings["m"]

    with pytest.raises(MappingError):
        mapping.render(parse(ORDER), SITE)

    (line,) = watch.values
    assert "OBR-18 is missing" in line.refused


COMPOSED = """\
target: hl7v2
messages: [ORM^O01]
message:
  - {segment: MSH, from: MSH, set: {MSH-9.1: {value: OMI}}}
  - copy: [PID, AL1]
  - each: ORC
    group:
      - {segment: ORC, from: ORC}
      - segment: IPC
        copy: {IPC-1: IPC-1 | OBR-18}
        set: {IPC-5: OBR-24}
"""


def test_a_composed_message_tells_each_segment_and_copy() -> None:
    values = traced("m", COMPOSED)
    segments = [(one.target, one.value) for one in values if one.function in ("segment", "copy")]

    assert [name for name, _ in segments] == ["MSH", "PID AL1", "ORC", "IPC"]
    assert dict(segments)["ORC"] == ["ORC|NW|P1^RIS"]
    assert (by_target(values)["IPC-1"].value, by_target(values)["IPC-1"].function) == ("A1", "copy IPC-1 | OBR-18")


FHIR = """\
target: fhir
messages: [ORM^O01]
resources:
  - resource: Patient
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set: {birthDate: {from: PID-7, as: fhir_date}}
  - resource: ServiceRequest
    when: {OBR-24: [CT, MR]}
    write: update
    identify: {identifier: {from: ORC-2, as: fhir_token, form: EI}}
    set: {status: {value: active}, intent: {value: order}, subject: {ref: patient}}
"""


def test_a_resource_tells_its_elements_references_and_identity() -> None:
    values = traced("m", FHIR)
    told = {(one.target, one.function or one.rule): one.value for one in values}

    assert told["Patient.birthDate", "fhir_date"] == "1970-01-01"
    assert told["ServiceRequest.status", "constant"] == "active"
    assert told["ServiceRequest.subject", "ref"] == {"reference": "entry:patient"}
    assert [one.value for one in values if one.target == "when"] == [True]
    assert sum(one.target == "identify.identifier" for one in values) == 2


def test_steps_are_traced_one_after_the_other_each_in_its_own_file() -> None:
    files = {"a.yaml": EDIT, "b.yaml": COMPOSED}

    values = traced("m", "steps: [a, b]\n", **files)

    assert list(dict.fromkeys(one.file for one in values)) == ["a.yaml", "b.yaml"]


def test_watching_changes_nothing_of_the_result() -> None:
    files = {**TABLES, "edit.yaml": EDIT, "composed.yaml": COMPOSED, "fhir.yaml": FHIR}
    plain, watched = compile_all(files), compile_all(files, Watch())

    for name, mapping in plain.mappings.items():
        assert watched.mappings[name].render(parse(ORDER), SITE) == mapping.render(parse(ORDER), SITE)


CASES = """\
- name: a CT
  given: o.hl7
  remove: NTE
  expect: {MSH-3: RADBRIDGE}
"""


def uncovered(cases: str, **more: str) -> tuple[list[Gap], Watch]:
    watch = Watch()
    results = run_cases({**TABLES, "m.yaml": EDIT, "m.cases.yaml": cases, **more}, {"o.hl7": ORDER}, watch)
    assert all(result.ok for result in results), results
    return coverage(watch).gaps, watch


def test_what_no_case_reaches_is_listed_by_file_and_line() -> None:
    found, _ = uncovered(CASES)

    assert [str(gap) for gap in found] == [
        "m.yaml:4: no case takes `IPC-1.1`",
        "m.yaml:12: no case reaches this line: NTE",
        "m.yaml:16: no case where `when` does not hold",
        "tables/modality.csv:4: no case finds this row",
    ]


def test_a_case_that_goes_the_other_way_fills_the_gap() -> None:
    other = "- name: no head\n  given: o.hl7\n  edit: {OBR-4.1: FOOT}\n  expect: {OBR-20: null}\n"

    found, watch = uncovered(CASES + other)

    assert not any("`when`" in gap.what for gap in found)
    counted = coverage(watch)
    assert counted.lines.all - counted.lines.reached == 2
    assert (counted.rows.all, counted.rows.reached) == (4, 3)


def test_a_line_that_refuses_is_reached() -> None:
    text = EDIT.replace("MSH-5: {from: MSH-99, default: PACS}", "MSH-5: {from: MSH-99, required: true}")
    case = "- {name: refused, given: o.hl7, expect_error: {at: MSH-99}}\n"

    found, _ = uncovered(case, **{"m.yaml": text})

    assert not any("MSH-5" in gap.what for gap in found)


def test_a_mapping_without_a_case_is_one_line_and_left_out_where_only_one_mapping_is_asked_for() -> None:
    found, watch = uncovered(CASES, **{"other.yaml": COMPOSED})

    assert [str(gap) for gap in found if gap.file == "other.yaml"] == ["other.yaml:1: no case reaches this mapping"]
    assert not any(gap.file == "other.yaml" for gap in coverage(watch, everything=False).gaps)


def test_a_rule_that_no_case_breaks_is_a_gap() -> None:
    profile = "profile: P\nmessages: [ORM]\nrules:\n  - require: [NTE, PID]\n  - max: {OBR-24: 16}\n"
    case = "- {name: no note, given: o.hl7, expect_faults: [{at: NTE}]}\n"

    found, _ = uncovered(CASES, **{"p.yaml": profile, "p.cases.yaml": case})

    assert [str(gap) for gap in found if gap.file == "p.yaml"] == [
        "p.yaml:4: no case breaks this rule: require PID",
        "p.yaml:5: no case breaks this rule: max OBR-24",
    ]
