"""Code tables as CSV and as FHIR ConceptMap, and HL7's v2-to-FHIR tables taken in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.conceptmap import ConceptMap
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bridge.cli import app
from bridge.codecs.hl7v2 import parse
from bridge.errors import BridgeError, CodecError, Finding, MappingError, NotFound
from bridge.mapping import compile_all
from bridge.mapping.conceptmap import read_concept_map, read_tables, to_concept_map
from bridge.mapping.rows import with_row, without_row
from bridge.mapping.tables import Table, read_table, to_csv
from bridge.mapping.v2tofhir import is_v2_to_fhir, read_v2_to_fhir
from bridge.mapping.watch import Watch
from bridge.settings import load
from tests.rigs.need import REPOSITORY

SEX = {
    "resourceType": "ConceptMap",
    "status": "active",
    "version": "4.0.1",
    "group": [
        {
            "source": "http://terminology.hl7.org/CodeSystem/v2-0001",
            "target": "http://hl7.org/fhir/administrative-gender",
            "element": [
                {"code": "F", "target": [{"code": "female", "display": "Female", "equivalence": "equivalent"}]},
                {"code": "A", "target": [{"code": "other", "equivalence": "wider"}]},
                {"code": "X", "target": [{"equivalence": "unmatched"}]},
                {"code": "Y", "target": [{"code": "male", "equivalence": "disjoint"}]},
            ],
            "unmapped": {"mode": "fixed", "code": "unknown"},
        }
    ],
}
V2 = (
    "HL7 v2,,,FHIR Version,,Condition (IF True),,,HL7 FHIR,,,,,Comments\n"
    "Code,Text,Code System,Core Version,Incubator Version,Computable ANTLR,Computable FHIRPath,Narrative,"
    "Code,,Display,Code System,,\n"
    "1,First,HL70999,,,,,,one,,One,http://example.org/ones,,\n"
    "2,Second,HL70999,,,,,,,,,,,no counterpart\n"
    '3,Third,HL70999,,,"IF X-1 VALUED",,,three,,Three,http://example.org/ones,,\n'
    "1,First again,HL70999,,,,,,uno,,,http://example.org/ones,,\n"
)
ORDER = (
    b"MSH|^~\\&|RIS|DEMO|||20260105080000||ORM^O01|C1|P|2.5.1\rPID|1||P1||||19700101|%s\rOBR|1" + b"|" * 23 + b"CT\r"
)


def table_of(data: dict[str, Any]) -> tuple[Table, list[Finding]]:
    findings: list[Finding] = []
    table = read_concept_map(json.dumps(data, indent=1), "tables/sex.conceptmap.json", findings)
    assert table is not None, findings
    return table, findings


def mapped(sex: bytes, line: str, tables: dict[str, str]) -> str:
    text = f"target: hl7v2\nmessages: [ORM^O01]\nedits: [{{set: {{PID-10: {line}}}}}]\n"
    compiled = compile_all({"m.yaml": text, **tables})
    assert [finding for finding in compiled.findings if finding.severity == "error"] == []
    rendered = compiled.mappings["m"].render(parse(ORDER % sex), {})
    return parse(rendered.data).get("PID-10")


def test_a_concept_map_is_a_table_like_any_other() -> None:
    files = {"tables/sex.conceptmap.json": json.dumps(SEX)}

    assert mapped(b"F", "{from: PID-8, table: sex}", files) == "female"
    assert mapped(b"F", "{from: PID-8, table: sex, column: display}", files) == "Female"
    assert mapped(b"A", "{from: PID-8, table: sex, column: equivalence}", files) == "wider"


def test_a_code_that_a_concept_map_knows_to_have_no_counterpart_is_empty() -> None:
    files = {"tables/sex.conceptmap.json": json.dumps(SEX)}

    assert mapped(b"X", "{from: PID-8, table: sex}", files) == ""
    assert mapped(b"Y", "{from: PID-8, table: sex}", files) == ""


@pytest.mark.parametrize(
    ("unmapped", "line", "found"),
    [
        ({"mode": "fixed", "code": "unknown"}, "{from: PID-8, table: sex}", "unknown"),
        ({"mode": "provided"}, "{from: PID-8, table: sex}", "Z"),
        ({"mode": "provided"}, "{from: PID-8, table: sex, unknown: {value: N}}", "N"),
    ],
)
def test_unmapped_of_a_concept_map_decides_unless_the_line_does(unmapped: Any, line: str, found: str) -> None:
    data = {**SEX, "group": [{**SEX["group"][0], "unmapped": unmapped}]}  # type: ignore[index]

    assert mapped(b"Z", line, {"tables/sex.conceptmap.json": json.dumps(data)}) == found


def test_a_remark_in_a_csv_decides_the_same_and_gives_the_version() -> None:
    files = {"tables/sex.csv": "# Of our RIS.\n# version: 2024-05\n# unknown: {value: O}\ncode,sex\nF,f\n"}

    table = read_tables(files, [])["sex"]

    assert mapped(b"Z", "{from: PID-8, table: sex}", files) == "O"
    assert (table.version, table.unknown, table.description) == ("2024-05", {"value": "O"}, "Of our RIS.")


def test_without_a_word_a_code_without_a_row_is_refused_and_the_file_is_named() -> None:
    with pytest.raises(MappingError) as refused:
        mapped(b"F", "{from: OBR-24, table: sex}", {"x/tables/sex.csv": "code,sex\nF,f\n"})

    assert refused.value.fix == "add a row to x/tables/sex.csv"


def test_a_remark_that_no_table_understands_is_a_finding_at_its_line() -> None:
    findings: list[Finding] = []

    table = read_table("# Sex\n# unknown: skip\ncode,sex\nF,f\n", "tables/sex.csv", findings)

    assert table is not None and table.unknown == "refuse"
    assert [(one.line, "`unknown` cannot be `skip`" in one.what) for one in findings] == [(2, True)]


def test_groups_of_several_systems_make_the_system_a_key() -> None:
    other = {**SEX["group"][0], "source": "urn:local", "element": [{"code": "F", "target": [{"code": "f"}]}]}  # type: ignore[index]
    table, _ = table_of({**SEX, "group": [*SEX["group"], other]})  # type: ignore[misc]

    assert table.columns[:3] == ("system", "code", "target")
    assert table.find(("urn:local", "F"))["target"] == "f"  # type: ignore[index]


def test_what_a_table_cannot_hold_of_a_concept_map_is_told() -> None:
    element = {"code": "F", "target": [{"code": "a", "equivalence": "wider"}, {"code": "b", "equivalence": "wider"}]}
    group = {"element": [element], "unmapped": {"mode": "other-map", "url": "http://example.org/map"}}

    table, findings = table_of({"resourceType": "ConceptMap", "status": "active", "group": [group]})

    assert [cells[1] for _, cells in table.rows] == ["a"]
    assert sorted(one.severity for one in findings) == ["warning", "warning"]
    assert {"further target" in one.what or "another map" in one.what for one in findings} == {True}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"resourceType": "ValueSet"}', '{"resourceType": "ConceptMap", "group": [1]}']
)
def test_what_is_no_concept_map_is_a_finding(text: str) -> None:
    findings: list[Finding] = []

    assert read_concept_map(text, "tables/x.conceptmap.json", findings) is None
    assert len(findings) == 1 and findings[0].fix


def test_two_files_of_one_table_are_a_finding() -> None:
    files = {"tables/sex.csv": "code,sex\nF,f\n", "tables/sex.conceptmap.json": json.dumps(SEX)}

    assert any("second table `sex`" in one.what for one in compile_all(files).findings)


def test_rows_have_the_line_of_their_element() -> None:
    table, _ = table_of(SEX)
    lines = json.dumps(SEX, indent=1).splitlines()

    assert ['"F"' in lines[line - 1] or '"A"' in lines[line - 1] for line, _ in table.rows[:2]] == [True, True]


@pytest.fixture(scope="module")
def keys() -> dict[str, int]:
    """How many columns of each shipped table are keys."""
    watch = Watch()
    compile_all(load(REPOSITORY / "config" / "bridge.yaml").mapping_files, watch)
    return watch.keys


@pytest.mark.parametrize("path", sorted((REPOSITORY / "mappings" / "tables").glob("*.csv")), ids=lambda path: path.stem)
def test_every_shipped_table_is_the_same_after_a_round_through_a_valid_concept_map(
    path: Path, keys: dict[str, int]
) -> None:
    table = read_table(path.read_text(encoding="utf-8"), f"tables/{path.name}", [])
    assert table is not None
    text = to_concept_map(table, keys.get(table.name, 1))

    again = read_concept_map(text, f"tables/{table.name}.conceptmap.json", [])

    ConceptMap.model_validate_json(text)
    assert again is not None
    assert (again.columns, again.description) == (table.columns, table.description)
    assert [cells for _, cells in again.rows] == [cells for _, cells in table.rows]
    assert to_csv(again) == to_csv(table)


CELL = st.text("ABC é,\"'*#", max_size=5).map(lambda text: " ".join(text.split()))


@given(
    rows=st.dictionaries(st.tuples(CELL, CELL), st.tuples(CELL, CELL), min_size=1, max_size=8),
    unknown=st.sampled_from(["refuse", "park", "pass", "empty", {"value": "O"}]),
)
def test_any_table_survives_a_round_through_both_forms(rows: dict[Any, Any], unknown: Any) -> None:
    cells = [(number, (*key, *value)) for number, (key, value) in enumerate(rows.items()) if any((*key, *value))]
    table = Table("t", ("first key", "b", "c", "d"), cells, "tables/t.csv", "7", unknown)

    through = read_concept_map(to_concept_map(table, 2), "tables/t.conceptmap.json", [])
    assert through is not None
    again = read_table(to_csv(through), "tables/t.csv", [])

    assert again is not None
    assert (again.columns, again.version, again.unknown) == (table.columns, "7", unknown)
    assert [row for _, row in again.rows] == [row for _, row in cells]


def test_a_v2_to_fhir_table_becomes_rows_and_tells_what_is_not_in_them() -> None:
    found = read_v2_to_fhir(V2, "ones")

    assert [cells for _, cells in found.table.rows] == [("1", "one", "One", "First"), ("2", "", "", "Second")]
    assert found.table.source == "http://terminology.hl7.org/CodeSystem/v2-0999"
    assert found.table.target == "http://example.org/ones"
    assert found.left_out == ["row 5 (3): a condition", "row 6 (1): a code that has a row already"]


def test_a_v2_to_fhir_table_in_its_older_form_is_read_too() -> None:
    older = (
        "HL7 v2,,,Condition (IF True),,,HL7 FHIR,,\n"
        "Code,Text,Code System,Computable ANTLR,Computable FHIRPath,Narrative,Code,Display,Code System\n"
        "S,Some,HL70001,,,,some,Some,http://example.org/s\n"
    )

    assert [cells for _, cells in read_v2_to_fhir(older, "s").table.rows] == [("S", "some", "Some", "Some")]


def test_a_v2_to_fhir_table_whose_displays_stand_one_column_to_the_left_is_read_too() -> None:
    shifted = V2.replace("one,,One,http://example.org/ones,,", "one,One,http://example.org/ones,,,")

    found = read_v2_to_fhir(shifted, "ones")

    assert found.table.rows[0][1] == ("1", "one", "One", "First")
    assert found.table.target == "http://example.org/ones"


def test_another_csv_is_no_v2_to_fhir_table() -> None:
    assert not is_v2_to_fhir("code,sex\nF,f\n")
    with pytest.raises(CodecError):
        read_v2_to_fhir("code,sex\nF,f\n", "sex")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one mapping that looks one table up by two keys; its site file."""
    (tmp_path / "mappings" / "tables").mkdir(parents=True)
    (tmp_path / "adapters").mkdir()
    text = "target: hl7v2\nmessages: [ORM^O01]\nedits: [{set: {OBR-18: {from: [OBR-24, OBR-18], table: rooms}}}]\n"
    (tmp_path / "mappings" / "m.yaml").write_text(text)
    rooms = "# Rooms\n# version: 5\n# unknown: park\nmodality,room,title\nCT,*,CT1\nMR,R1,MR1\n"
    (tmp_path / "mappings" / "tables" / "rooms.csv").write_text(rooms)
    path = tmp_path / "bridge.yaml"
    path.write_text(
        "site: {name: test-site, timezone: Europe/Paris}\nmappings: mappings\nadapters: adapters\ndata: var\n"
    )
    return path


def radbridge(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["table", *(str(one) for one in arguments)])
    return done.exit_code, done.output


@pytest.mark.parametrize("command", ["list", "show", "export", "import", "unmapped", "set", "remove"])
def test_every_table_command_shows_an_example_and_speaks_json(command: str) -> None:
    code, text = radbridge(command, "--help")

    assert code == 0 and "--json" in text
    assert f"Examples:\n    radbridge table {command}" in text


def test_the_command_lists_shows_and_exports_a_table(site: Path) -> None:
    _, listed = radbridge("list", "--json", "--config", site)
    _, shown = radbridge("show", "rooms", "--config", site)
    _, exported = radbridge("export", "rooms", "--config", site)
    _, as_csv = radbridge("export", "rooms", "--as", "csv", "--config", site)

    (facts,) = json.loads(listed)
    assert (facts["version"], facts["keys"], facts["unknown"], facts["rows"]) == ("5", ["modality", "room"], "park", 2)
    assert "version 5" in shown and "MR1" in shown
    target = ConceptMap.model_validate_json(exported).group[0].element[1].target[0]
    assert (target.code, target.dependsOn[0].value) == ("MR1", "R1")
    assert as_csv == (site.parent / "mappings" / "tables" / "rooms.csv").read_text()


def test_the_command_takes_in_what_it_exports_and_never_overwrites_unasked(site: Path) -> None:
    _, exported = radbridge("export", "rooms", "--config", site)
    file = site.parent / "rooms.json"
    file.write_text(exported)
    before = (site.parent / "mappings" / "tables" / "rooms.csv").read_text()

    refused, _ = radbridge("import", file, "--config", site)
    taken, _ = radbridge("import", file, "--force", "--config", site)
    kept, _ = radbridge("import", file, "--as", "conceptmap", "--force", "--config", site)

    assert (refused, taken, kept) == (1, 0, 0)
    tables = site.parent / "mappings" / "tables"
    assert [path.name for path in tables.iterdir()] == ["rooms.conceptmap.json"]
    assert (tables / "rooms.conceptmap.json").read_text() == exported
    _, text = radbridge("export", "rooms", "--as", "csv", "--config", site)
    assert list(csv.reader(io.StringIO(text))) == list(csv.reader(io.StringIO(before)))


def test_the_command_takes_a_table_of_the_v2_to_fhir_guide_in(site: Path) -> None:
    file = site.parent / "HL7 Concept Map - Ones - Sheet1.csv"
    file.write_text(V2)

    code, said = radbridge("import", file, "--from", "v2-to-fhir", "--name", "ones", "--json", "--config", site)

    assert code == 0
    assert len(json.loads(said)["left_out"]) == 2
    assert (site.parent / "mappings" / "tables" / "ones.csv").read_text().splitlines()[-2:] == [
        "1,one,One,First",
        "2,,,Second",
    ]


ROOMS = '# Rooms\r\nmodality,room,title\r\n\r\n# Scanners\r\nCT,*,CT1\r\n"MR",R1,"MR\r\n1"\r\n# The end'


def rooms() -> Table:
    table = read_table(ROOMS, "tables/rooms.csv", [])
    assert table is not None
    return table


def test_a_row_is_set_in_its_place_and_nothing_else_changes() -> None:
    changed = with_row(ROOMS, rooms(), ["MR", "R1"], {"title": "MR2"})
    added = with_row(ROOMS, rooms(), ["US", "#1"], {"title": "a, b"})

    assert changed == ROOMS.replace('"MR",R1,"MR\r\n1"', "MR,R1,MR2")
    assert added == ROOMS.replace('"MR\r\n1"\r\n', '"MR\r\n1"\r\nUS,#1,"a, b"\r\n')


def test_a_row_is_taken_out_with_all_its_lines() -> None:
    assert without_row(ROOMS, rooms(), ["MR", "R1"]) == ROOMS.replace('"MR",R1,"MR\r\n1"\r\n', "")
    with pytest.raises(NotFound, match="no row for `CT`, `R9`"):
        without_row(ROOMS, rooms(), ["CT", "R9"])


@pytest.mark.parametrize(("values", "what"), [({"titel": "x"}, "no value column `titel`"), ({}, "nothing is set")])
def test_a_row_takes_only_values_that_its_table_has(values: dict[str, str], what: str) -> None:
    with pytest.raises(BridgeError, match=what):
        with_row(ROOMS, rooms(), ["CT", "*"], values)


@given(
    rows=st.dictionaries(st.tuples(CELL, CELL), CELL, min_size=1, max_size=6),
    key=st.tuples(CELL, CELL),
    value=CELL,
)
def test_a_row_that_is_set_is_read_again_with_its_value_and_all_others_as_before(
    rows: dict[tuple[str, str], str], key: tuple[str, str], value: str
) -> None:
    filled = {cells: cell for cells, cell in rows.items() if any((*cells, cell))}
    cells: list[Any] = [(number, (*one, cell)) for number, (one, cell) in enumerate(filled.items())]
    text = to_csv(Table("t", ("a", "b", "c"), cells, "tables/t.csv"))
    table = read_table(text, "tables/t.csv", [])
    assert table is not None

    again = read_table(with_row(text, table, key, {"c": value}), "tables/t.csv", [])

    assert again is not None
    assert {row[:2]: row[2] for _, row in again.rows if any(row)} == {
        found: cell for found, cell in {**filled, key: value}.items() if any((*found, cell))
    }


def test_the_command_sets_and_removes_a_row_only_where_every_case_still_holds(site: Path) -> None:
    file = site.parent / "mappings" / "tables" / "rooms.csv"
    before = file.read_text()
    order = ORDER.replace(b"|" * 23 + b"CT", b"|" * 17 + b"R1" + b"|" * 6 + b"MR")
    (site.parent / "mappings" / "order.hl7").write_bytes(order)
    case = "- {name: the room has its scanner, given: order.hl7, expect: {OBR-18: MR1}}\n"
    (site.parent / "mappings" / "m.cases.yaml").write_text(case)

    added, said = radbridge("set", "rooms", "US", "*", "title=US1", "--json", "--config", site)
    with_us = file.read_text()
    wrong, why = radbridge("set", "rooms", "MR", "R1", "title=MR9", "--config", site)
    few, _ = radbridge("set", "rooms", "MR", "--config", site)
    gone, _ = radbridge("remove", "rooms", "US", "*", "--config", site)

    assert (added, wrong, few, gone) == (0, 1, 1, 0)
    assert json.loads(said)["changed"] is True
    assert with_us == before + "US,*,US1\n"
    assert file.read_text() == before


def test_a_row_that_is_set_runs_at_once_as_a_revision_with_who_and_why(site: Path) -> None:
    unanswered, _ = radbridge("set", "rooms", "US", "*", "title=US1", "--deploy", "--config", site)
    before = (site.parent / "mappings" / "tables" / "rooms.csv").read_text()
    done, said = radbridge("set", "rooms", "US", "*", "title=US1", "--deploy", "--yes", "--why", "a new scanner",
                           "--json", "--config", site)  # fmt: skip

    # Nothing is written before somebody can be asked
    assert unanswered == 1 and "US" not in before
    assert done == 0 and json.loads(said)["revision"] == load(site).revision
    listed = CliRunner().invoke(app, ["revisions", "--json", "--config", str(site)])
    (made,) = json.loads(listed.stdout)["deployments"]
    assert (made["kind"], made["why"], made["actor"][:4]) == ("deploy", "a new scanner", "cli:")
