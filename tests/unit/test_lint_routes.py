"""What lint finds in routes: what nothing meets, what goes twice, and what its destination cannot read."""

from __future__ import annotations

import pytest

from bridge.lint import findings_of
from bridge.lint.routes import branches, contradicts, wanted
from bridge.settings import Overrides, from_files

SITE = """\
site: {name: test-site, timezone: Europe/Paris}
channels:
  ris: {type: mllp-in, listen: "127.0.0.1:0"}
  his: {type: mllp-in, listen: "127.0.0.1:0"}
  pacs: {type: mllp-out, connect: "127.0.0.1:9"}
  worklist: {type: dicom-worklist, listen: "127.0.0.1:0", ae_title: A}
  fhir: {type: fhir-out, base_url: "http://127.0.0.1:9/fhir"}
  files: {type: file-out, folder: out}
routes:
  rest: {from: his, when: {message: ACK}, to: [pacs, {worklist: orders}, {fhir: reports}, files]}
"""
EDIT = "target: hl7v2\nmessages: [ORM^O01, OMI]\nedits: []\n"
WORKLIST = "target: worklist\nmessages: [ACK, ORM^O01]\npatient: {identifiers: PID-3}\n"
FHIR = """\
target: fhir
messages: [ACK, ORU^R01]
resources:
  - resource: Patient
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set: {gender: {value: female}}
"""


def told(*routes: str) -> list[str]:
    """The findings about these routes."""
    site = SITE + "".join(f"  r{number}: {route}\n" for number, route in enumerate(routes, start=1))
    mappings = {"edit": EDIT, "orders": WORKLIST, "reports": FHIR, "chain": "steps: [edit, edit]\n", "other": FHIR}
    files = {"config/bridge.yaml": site, **{f"mappings/{name}.yaml": text for name, text in mappings.items()}}
    found = findings_of(from_files(files, overrides=Overrides.model_construct()))
    return [str(one).removeprefix("config/bridge.yaml:") for one in found if one.severity != "hint"]


def test_routes_without_a_flaw_have_no_findings() -> None:
    assert told("{from: ris, when: {message: [ORM^O01, OMI^O23]}, to: [{pacs: edit}]}") == []


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ("fhir", "`fhir` takes FHIR, and the message leaves as it came; fix: name a mapping to it: other, reports"),
        ("worklist", "`worklist` takes worklist items, and the message leaves as it came"),
        ("{worklist: edit}", "`worklist` takes worklist items, and `edit` gives HL7 v2"),
        ("{pacs: orders}", "`pacs` takes HL7 v2, and `orders` gives worklist items"),
    ],
)
def test_what_a_destination_cannot_read_is_told(to: str, what: str) -> None:
    (found,) = told(f"{{from: ris, when: {{message: ORM^O01}}, to: [{to}]}}")

    assert found.startswith("11:") and "error" in found and what in found


def test_what_is_asked_is_in_the_format_of_who_is_asked() -> None:
    (found,) = told("{from: ris, when: {message: ORM^O01}, ask: {pacs: orders}}")

    assert "`pacs` takes HL7 v2, and `orders` gives worklist items" in found


def test_a_fhir_server_may_get_several_bundles_of_one_message() -> None:
    two = ("{from: ris, when: {message: ORU^R01}, to: [{fhir: reports}]}", "{from: ris, to: [{fhir: other}]}")

    assert not any("same message" in line for line in told(*two))


def test_a_channel_that_takes_anything_may_have_anything() -> None:
    assert told("{from: ris, when: {message: ORM^O01}, to: [files, {files: orders}]}") == []


@pytest.mark.parametrize(
    ("when", "severity", "what"),
    [
        ("{message: ADT^A08}", "error", "`edit` is made for ORM^O01, OMI, and refuses ADT^A08"),
        ("{message: [ORM^O01, ADT^A08]}", "warning", "and refuses ADT^A08"),
        ("{message: ORM}", "warning", "and refuses ORM"),
        ("{PV1-2: E}", "warning", "wants messages of every type, and `edit` refuses all but ORM^O01, OMI"),
    ],
)
def test_a_mapping_that_refuses_what_its_route_lets_through_is_told(when: str, severity: str, what: str) -> None:
    for mapping in ("edit", "chain"):
        (found,) = told(f"{{from: ris, when: {when}, to: [{{pacs: {mapping}}}]}}")
        assert severity in found and what.replace("`edit`", f"`{mapping}`") in found


@pytest.mark.parametrize(
    "when",
    [
        "{message: ORM^O01, all: [{message: ADT^A08}]}",
        "{PV1-2: E, all: [{PV1-2: [I, O]}]}",
        "{PV1-2: present, all: [{PV1-2: absent}]}",
        "{OBR-24: CT, any: [{OBR-24: MR}, {OBR-24: {not: CT}}]}",
    ],
)
def test_a_route_whose_condition_contradicts_itself_is_told(when: str) -> None:
    (found,) = told(f"{{from: ris, when: {when}, to: [files]}}")

    assert "error: the route `r1` wants no message at all" in found


def test_a_place_in_a_routes_condition_that_cannot_be_is_told() -> None:
    (found,) = told("{from: ris, when: {message: ORU^R01, any: [{PID-77: F}, {not: {TXA-1: x}}]}, to: [files]}")[:1]

    assert "no version of HL7 has PID-77" in found


@pytest.mark.parametrize(
    ("one", "other", "twice"),
    [
        ("{message: ORM^O01}", "{message: [ORM, ORU]}", True),
        ("{PV1-2: E}", "{message: ORM^O01}", True),
        ("{message: ORM^O01}", "{message: ORU^R01}", False),
        ("{message: ORM^O01, PV1-2: E}", "{message: ORM^O01, PV1-2: {not: E}}", False),
    ],
)
def test_a_message_that_two_routes_bring_to_one_place_differently_is_told(one: str, other: str, twice: bool) -> None:
    first = f"{{from: ris, when: {one}, to: [files]}}"

    found = told(first, f"{{from: ris, when: {other}, to: [{{files: orders}}]}}")
    same = told(first, f"{{from: ris, when: {other}, to: [files]}}")

    assert any("`files` gets the same message by the route `r1` too" in line for line in found) == twice
    assert not any("same message" in line for line in same)


@pytest.mark.parametrize(
    ("when", "types"),
    [
        ({}, None),
        ({"message": "ORM"}, ["ORM"]),
        ({"any": [{"message": "ORM^O01"}, {"message": ["ORU^R01", "ACK"]}]}, ["ORM^O01", "ORU^R01", "ACK"]),
        ({"message": ["ORM", "ORU^R01"], "all": [{"message": "ORM^O01"}]}, ["ORM^O01"]),
        ({"any": [{"message": "ORM"}, {"PV1-2": "E"}]}, None),
    ],
)
def test_which_messages_a_condition_lets_through(when: object, types: list[str] | None) -> None:
    assert wanted(when) == types


def test_a_condition_of_very_many_combinations_is_not_judged() -> None:
    pair = {"any": [{"PV1-2": "E"}, {"PV1-2": "I"}]}

    assert branches({"all": [pair] * 8}) == branches({"any": [{"all": [pair] * 8}, {"PV1-2": "E"}]}) == []
    assert wanted({"message": "ORM", "all": [pair] * 8}) == []
    assert contradicts([]) is False
