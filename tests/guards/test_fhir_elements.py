"""The reference of FHIR elements is made of the mappings as they are."""

from __future__ import annotations

from bridge.mapping.reference import fhir_reference
from bridge.settings import load
from tests.rigs.need import REPOSITORY


def reference(**changed: str) -> str:
    files = load(REPOSITORY / "config" / "bridge.yaml").mapping_files
    return fhir_reference({**files, **changed})


def test_the_reference_of_elements_is_not_stale() -> None:
    page = (REPOSITORY / "docs" / "fhir-elements.md").read_text(encoding="utf-8")

    assert page == reference(), "write it anew: radbridge docs fhir --out docs/fhir-elements.md"


def test_it_tells_source_function_table_and_default_of_an_element() -> None:
    mapping = """
target: fhir
messages: [ADT^A01]
resources:
  - resource: Patient
    each: PID
    when: {PID-3.1: present, any: [{PID-8: {not: [A, N]}}, {PID-5.1: {matches: "T.*"}}]}
    write: update
    identify: {identifier: {from: PID-3 | PID-2, as: fhir_token, kind: patient}}
    set:
      gender: {from: PID-8, table: gender, unknown: {value: unknown}, when: {PID-30: ["", N]}}
      name: [{each: PID, from: PID-5, as: human_name}]
      active: {value: true}
"""

    page = reference(**{"own.yaml": mapping})

    told = page[page.index("## own") : page.index("## report-to-fhir")]
    assert "Made, or changed. One for each PID." in told
    assert "Only if `PID-3.1` is present and (`PID-8` is not A or N or `PID-5.1` matches `T.*`)." in told
    assert "| *found by* identifier | `PID-3`, else `PID-2` | fhir_token (kind: patient) |  |  |" in told
    assert "| gender | `PID-8`, if `PID-30` is empty or N |  | [gender](#gender) | unknown: unknown |" in told
    assert "| name[0] | in each PID: `PID-5` | human_name |  |  |" in told
    assert "| active | constant `True` |  |  |  |" in told


def test_a_mapping_that_extends_another_is_told_with_all_that_it_takes_over() -> None:
    page = reference(**{"own.yaml": "extends: order-to-fhir\nresources: [{resource: Provenance, write: never}]\n"})

    told = page[page.index("## own") : page.index("## report-to-fhir")]
    assert "| authoredOn | `ORC-9` |" in told
    assert "Not made." in told
