"""The mapping language: what compiles does as written, what does not is found with its place and a way out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.errors import MappingError, Parked, SettingsError
from bridge.mapping import Place, Rendered, compile_all, compile_condition
from bridge.yamlfile import parse as parse_yaml

SITE = {"site": {"name": "here", "timezone": "Europe/Paris"}}
MESSAGE = "\r".join(
    [
        "MSH|^~\\&|RIS|DEMO|||20260106080000||ORM^O01|C1|P|2.5",
        "PID|1||P1^^^HOSP~P2^^^OTHER||TEST^ALICE||19700102|F",
        "ORC|NW|PL1^RIS|FL1^RIS||SC",
        'OBR|1|PL1|FL1|A^Proc A||||||||||||||A100|""|  S1  ||||CT',
        "OBR|2|PL2|FL2|B^Proc B||||||||||||||A200||||||MR",
        "OBX|1|NM|W^Weight||70|kg",
        "OBX|2|NM|H^Height||170|cm",
    ]
)


def message(**fields: str) -> Hl7Message:
    """The message with fields changed: ``OBR_24="XX"``."""
    editor = parse(MESSAGE.encode()).edit()
    for path, text in fields.items():
        editor.set(path.replace("_", "-", 1).replace("_", "."), text)
    return parse(editor.encode())


def fhir(lines: str, tables: Mapping[str, str] | None = None, let: str = "") -> Callable[..., Rendered]:
    """A mapping that puts ``lines`` into a Basic resource, which holds any text in its extensions."""
    indented = "\n".join("      " + line for line in lines.strip("\n").splitlines())
    text = (
        "target: fhir\nmessages: [ORM]\n" + (f"let:\n{let}\n" if let else "") + "resources:\n  - resource: Basic\n"
        "    write: create\n    identify: {identifier: {value: 'a|b'}}\n    set:\n"
        "      code: {text: {value: x}}\n" + indented
    )
    found = compile_all({"m.yaml": text, **(tables or {})})
    assert not found.findings, [str(one) for one in found.findings]
    return found.mappings["m"].render


def value(line: str, tables: Mapping[str, str] | None = None, let: str = "", **fields: str) -> Any:
    """What one source line gives."""
    rendered = fhir(f"id: {line}", tables, let)(message(**fields), SITE)
    return json.loads(rendered.data)["entry"][0]["resource"].get("id", "")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("OBR-18", "A100"),
        ("OBR-17 | OBR-18", "A100"),
        ("OBR-19 | OBR-18", "A100"),
        ("OBR-20", "S1"),
        ("OBR(2)-18", "A200"),
        ("PID-3[4.1=OTHER].1", "P2"),
        ("OBX(3.1=H)-5", "170"),
        ("ZZZ-1", ""),
        ("{value: fixed}", "fixed"),
        ("{from: OBR-17, default: none}", "none"),
        ("{from: [OBR-18, OBR-24], as: join, by: '-'}", "A100-CT"),
        ("{from: OBR-18, when: {OBR-24: CT}}", "A100"),
        ("{from: OBR-18, when: {OBR-24: MR}}", ""),
        ("{from: OBR-4.2 | OBR-18, fits: 4}", "A100"),
        ("{from: 'OBR(*)-18', as: sole}", ""),
        ("{from: OBR-18, max: 4, pattern: '[A-Z][0-9]+'}", "A100"),
        ("context.site.name", "here"),
        ("context.exam.uid", ""),
    ],
)
def test_a_source_line_gives_the_first_alternative_that_holds_something(line: str, wanted: str) -> None:
    assert value(line) == wanted


def test_a_named_value_may_use_those_above_it() -> None:
    assert value("$two", let="  one: OBR-18\n  two: {from: [$one, $one], as: join}") == "A100A100"


@pytest.mark.parametrize(
    ("line", "at", "kind"),
    [
        ("{from: OBR-17 | ZZZ-1, required: true}", "OBR(1)-17", "required"),
        ("{from: OBR-17 | OBR-18, max: 3}", "OBR(1)-18", "datatype"),
        ("{from: OBR-18, pattern: '[0-9]+'}", "OBR(1)-18", "datatype"),
        ("{from: PID-8, as: date}", "PID-8", "datatype"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_at_its_place_and_not_shown(line: str, at: str, kind: str) -> None:
    with pytest.raises(MappingError) as caught:
        value(line)

    assert (caught.value.at, caught.value.kind) == (at, kind)
    assert caught.value.fix
    assert "A100" not in str(caught.value)


def test_a_line_says_itself_how_to_mend_what_it_refuses() -> None:
    with pytest.raises(MappingError) as caught:
        value("{from: OBR-17, required: true, fix: ask the RIS team}")

    assert caught.value.fix == "ask the RIS team"


def test_what_a_line_leaves_out_is_noted() -> None:
    render = fhir("id: {from: PID-8, as: date, unusable: omit}\nlanguage: {value: en}")

    rendered = render(message(), SITE)

    assert "id" not in json.loads(rendered.data)["entry"][0]["resource"]
    assert rendered.notes == ("Basic.id left out: this is not an HL7 date or time (PID-8)",)


TABLE = {"tables/t.csv": "# a remark\ncode,name,note\nCT,tomography,\nUS,,known but empty\n*,other,\n"}
STRICT = {"tables/t.csv": "code,name,note\nCT,tomography,x\n"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("{from: OBR-24, table: t}", "tomography"),
        ("{from: OBR-24, table: t, column: note, default: none}", "none"),
        ("{from: OBR-18, table: t}", "other"),
        ("{from: OBR-17, table: t}", ""),
    ],
)
def test_a_table_translates_a_code(line: str, wanted: str) -> None:
    assert value(line, TABLE) == wanted


def test_an_empty_cell_is_a_known_code_without_a_value() -> None:
    assert value("{from: OBR-24, table: t}", TABLE, OBR_24="US") == ""


@pytest.mark.parametrize(("policy", "wanted"), [("pass", "XX"), ("empty", ""), ("{value: OT}", "OT")])
def test_a_code_without_a_row_follows_the_policy_and_is_noted(policy: str, wanted: str) -> None:
    render = fhir(f"id: {{from: OBR-24, table: t, unknown: {policy}}}", STRICT)

    rendered = render(message(OBR_24="XX"), SITE)

    assert json.loads(rendered.data)["entry"][0]["resource"].get("id", "") == wanted
    assert "table t has no row for the value at OBR(1)-24" in rendered.notes[0]


@pytest.mark.parametrize(("policy", "error"), [("refuse", MappingError), ("park", Parked)])
def test_a_code_without_a_row_is_refused_with_table_place_and_fix(policy: str, error: type[MappingError]) -> None:
    with pytest.raises(error) as caught:
        value(f"{{from: OBR-24, table: t, unknown: {policy}}}", STRICT, OBR_24="XX")

    assert caught.value.what == "table t has no row for `XX`"
    assert caught.value.at == "OBR(1)-24"
    assert caught.value.fix == "add a row to tables/t.csv"
    assert type(caught.value) is error


@pytest.mark.parametrize("path", ["PID-5.1", "PID-3.1", "PID-8"])
def test_a_value_of_the_patient_is_never_shown(path: str) -> None:
    with pytest.raises(MappingError) as caught:
        value(f"{{from: {path}, table: t}}", STRICT)

    assert caught.value.what == "table t has no row for this value"


STATIONS = {
    "tables/s.csv": "site,modality,room,title\n"
    "here,CT,*,CT1\nhere,*,R2,ROOM2\nhere,CT,R2,CT2\n*,*,*,ANY\nhere,MR,,MR0\n"
}


@pytest.mark.parametrize(
    ("modality", "room", "wanted"),
    [
        ("CT", "R1", "CT1"),
        ("CT", "R2", "CT2"),
        ("US", "R2", "ROOM2"),
        ("US", "R9", "ANY"),
        ("MR", "", "MR0"),
        ("MR", "R9", "ANY"),
    ],
)
def test_the_most_specific_row_wins(modality: str, room: str, wanted: str) -> None:
    line = "{from: [context.site.name, OBR-24, OBR-17], table: s}"

    assert value(line, STATIONS, OBR_24=modality, OBR_17=room) == wanted


def test_of_two_rows_as_specific_the_one_that_names_the_more_particular_column_wins() -> None:
    table = {"tables/s.csv": "modality,procedure,title\nCT,*,CT1\n*,PETCT,PET1\n"}

    assert value("{from: [OBR-24, OBR-17], table: s}", table, OBR_24="CT", OBR_17="PETCT") == "PET1"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (None, True),
        ({"message": "ORM^O01"}, True),
        ({"message": ["OMI^O23", "ORM"]}, True),
        ({"message": "OMI^O23"}, False),
        ({"OBR-24": "CT"}, True),
        ({"OBR-24": ["MR", "CT"]}, True),
        ({"OBR-24": "present"}, True),
        ({"OBR-24": {"equals": "present"}}, False),
        ({"OBR-17": "absent"}, True),
        ({"OBR-19": "absent"}, True),
        ({"OBR-24": {"not": "MR"}}, True),
        ({"OBR-24": {"not": ["MR", "CT"]}}, False),
        ({"OBR-18": {"matches": "A[0-9]+"}}, True),
        ({"OBR-18": {"matches": "A"}}, False),
        ({"OBR-17 | OBR-18": "A100"}, True),
        ({"OBR-24": "CT", "OBR-18": "B"}, False),
        ({"any": [{"OBR-24": "MR"}, {"OBR-18": "A100"}]}, True),
        ({"all": [{"OBR-24": "CT"}, {"not": {"OBR-18": "A100"}}]}, False),
        ({"OBX-5": 70}, True),
    ],
)
def test_a_condition_is_about_message_types_and_fields(condition: Any, holds: bool) -> None:
    assert compile_condition(condition, "routes.orders.when")(message()) is holds


def test_every_mistake_in_a_condition_is_found_at_its_place() -> None:
    text = "when:\n  message: ORM-O01\n  OBR24: CT\n  OBR-24: {is: CT}\n  OBR-4: {matches: '('}\n"
    document = parse_yaml(text, "c.yaml")

    with pytest.raises(SettingsError) as caught:
        compile_condition(document.data["when"], Place(document, ("when",)))

    places = [(one.line, one.what.split(":")[0]) for one in caught.value.findings]
    assert places == [
        (2, "`ORM-O01` is no message type"),
        (3, "`OBR24`"),
        (4, "unknown test `is`"),
        (5, "not a regular expression"),
    ]


def test_a_message_of_another_type_is_refused() -> None:
    files = {"m.yaml": "target: hl7v2\nmessages: [OMI^O23]\nedits: []\n"}

    with pytest.raises(MappingError) as caught:
        compile_all(files).mappings["m"].render(message(), SITE)

    assert (caught.value.at, caught.value.kind) == ("MSH-9", "message_type")


MISTAKES = """\
target: worklist
messages: [ORM^O01]
mesages: x
let:
  ok: OBR-18
  late: $later
  later: OBR-18
  Bad Name: OBR-18
order:
  each: orc
  identifiers: {placr: ORC-2}
  status: {from: ORC-1, table: staus}
step: {}
PatientNam: PID-5
PatientName: {from: PID-5, as: person_nam}
PatientID: {from: PID-3, as: patient_id, isuer: X}
AccessionNumber: {from: OBR18}
Modality.CodeValue: OBR-24
StudyInstanceUID: {form: ZDS-1}
RequestedProcedureID: {from: OBR-19, max: many}
ScheduledProcedureStepSequence:
  Modality: OBR-24
"""


def test_every_mistake_is_found_at_once_with_its_place_and_a_suggestion() -> None:
    found = compile_all({"m.yaml": MISTAKES, "tables/status.csv": "a,b\n1,2\n"})

    texts = [str(one) for one in found.findings]
    for wanted in [
        "m.yaml:3:1: error: unknown key `mesages`; fix: did you mean `messages`?",
        "m.yaml:6:3: error: no value is named `$later` here; fix: ",
        "m.yaml:8:3: error: `Bad Name` cannot be a name",
        "m.yaml:10:3: error: `orc` is no segment",
        "m.yaml:11:17: error: unknown kind of identifier `placr`; fix: did you mean `placer`?",
        "m.yaml:12:25: error: unknown table `staus`; fix: did you mean `status`?",
        "m.yaml:14:1: error: `PatientNam` is no DICOM attribute; fix: did you mean `PatientName`?",
        "m.yaml:15:28: error: unknown function `person_nam`; fix: did you mean `person_name`?",
        "m.yaml:16:42: error: unknown option of patient_id: `isuer`; fix: did you mean `issuer`?",
        "m.yaml:17:19: error: `OBR18`: not a path into an HL7 message",
        "m.yaml:18:1: error: only a sequence has attributes inside",
        "m.yaml:19:1: error: this is no source line",
        "m.yaml:19:20: error: unknown key `form`; fix: did you mean `from`?",
        "m.yaml:20:38: error: `max` is a number of characters",
        "m.yaml:1:1: error: no line for `ScheduledProcedureStepSequence.Modality`",
    ]:
        assert any(text.startswith(wanted) for text in texts), (wanted, texts)
    assert not found.mappings


def test_a_mapping_with_mistakes_does_not_keep_others_from_use() -> None:
    found = compile_all({"bad.yaml": "target: fihr\n", "good.yaml": "target: hl7v2\nmessages: [ORM]\nedits: []\n"})

    assert list(found.mappings) == ["good"]
    assert str(found.findings[0]) == "bad.yaml:1:1: error: unknown target `fihr`; fix: did you mean `fhir`?"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "the table is empty"),
        ("a,a\n1,2\n", "each column needs a name of its own"),
        ("a,b\n1\n", "1 cells in a table of 2 columns"),
        ('a,b\n"1,2\n', "not CSV"),
    ],
)
def test_a_broken_table_is_found_with_its_line(text: str, wanted: str) -> None:
    (finding,) = compile_all({"tables/t.csv": text}).findings

    assert wanted in finding.what
    assert finding.file == "tables/t.csv"
    assert finding.line > 0


def test_a_row_that_can_never_be_found_is_reported_where_the_table_is_used() -> None:
    table = {"tables/t.csv": "code,name\nCT,one\nCT,two\n"}
    mapping = "target: hl7v2\nmessages: [ORM]\nedits:\n  - translate: {OBR-24: t}\n"

    (finding,) = compile_all({"m.yaml": mapping, **table}).findings

    assert finding.what == "line 3 of table `t` repeats the keys of line 2"
    assert (finding.file, finding.line) == ("m.yaml", 4)
