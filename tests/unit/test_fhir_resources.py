"""The words of a FHIR mapping's ``resources:`` that say how a resource is written, beyond create and update."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.codecs.fhir import REOPENS, WHOLE
from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping.compile import compile_all

SITE = {"site": {"name": "here", "timezone": "Europe/Paris"}}
HEAD = "target: fhir\nmessages: [ADT]\nresources:\n"
PATIENT = """
  - resource: Patient
    each: PID
    write: update
    {words}
    identify: {{identifier: {{from: PID-3, as: fhir_token}}}}
    set:
      identifier: {{from: PID-3, as: fhir_identifier}}
      name: {{from: PID-5, as: human_name}}
      address: [{{from: PID-11, as: address}}]
"""
PROVENANCE = """
  - resource: Provenance
    about: all
    write: create
    set:
      recorded: {from: MSH-7, as: fhir_instant}
      agent: [{who.display: MSH-3}]
"""
MESSAGE = b"MSH|^~\\&|HIS|A|B|C|20260106080000||ADT^A08|1|P|2.5\rPID|1||P1^^^H||TEST^ALICE||||||%s\r"
TWICE = MESSAGE % b"" + b"PID|2||P1^^^H||TEST^ALICE~TEST^BERTHE||||||1 rue^^VILLE\r"


def compiled(text: str) -> Any:
    result = compile_all({"own.yaml": HEAD + text})
    assert result.findings == []
    return result.mappings["own"]


def entries(text: str, message: bytes = MESSAGE % b"") -> list[dict[str, Any]]:
    return list(json.loads(compiled(text).render(parse(message), SITE).data)["entry"])


def told(text: str) -> list[tuple[str, str]]:
    return [(one.what, one.fix) for one in compile_all({"own.yaml": HEAD + text}).findings if one.severity == "error"]


def extensions(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return list(entry["request"].get("extension", []))


def test_what_repeats_one_resource_is_refused_unless_it_is_joined() -> None:
    with pytest.raises(MappingError):
        entries(PATIENT.format(words=""), TWICE)

    (entry,) = entries(PATIENT.format(words="repeats: join"), TWICE)

    patient = entry["resource"]
    assert [one["given"] for one in patient["name"]] == [["ALICE"], ["BERTHE"]]
    assert patient["address"][0]["city"] == "VILLE" and len(patient["identifier"]) == 1


def test_a_message_that_undoes_something_says_so_in_its_request() -> None:
    words = "reopens: {value: undone, when: {MSH-9.2: A08}}"

    (entry,) = entries(PATIENT.format(words=words))
    (other,) = entries(PATIENT.format(words=words), (MESSAGE % b"").replace(b"A08", b"A01"))

    assert extensions(entry) == [{"url": REOPENS, "valueBoolean": True}]
    assert extensions(other) == []


def test_elements_that_are_said_whole_and_those_that_a_null_deletes_are_named() -> None:
    (entry,) = entries(PATIENT.format(words="whole: [identifier]"), MESSAGE % b'""')

    assert extensions(entry) == [
        {"url": WHOLE, "valueCode": "identifier"},
        {"url": WHOLE, "valueCode": "address"},
    ]


def test_a_provenance_is_about_all_the_others() -> None:
    first, provenance = entries(PATIENT.format(words="") + PROVENANCE)

    assert provenance["request"] == {"method": "POST", "url": "Provenance"}
    assert provenance["resource"]["target"] == [{"reference": first["fullUrl"]}]


def test_what_is_never_written_is_not_made_nor_pointed_at() -> None:
    never = PROVENANCE.replace("create", "never")
    encounter = """
  - resource: Encounter
    each: PID
    write: create
    identify: {identifier: {from: PID-3, as: fhir_token}}
    set: {status: {value: unknown}, class.code: {value: AMB}, subject: {ref: patient}}
"""

    assert len(entries(PATIENT.format(words="") + never)) == 1
    (entry,) = entries(PATIENT.format(words="").replace("write: update", "write: never") + encounter)
    assert "subject" not in entry["resource"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (PATIENT.format(words="repeats: all"), "`repeats` is not known"),
        (PATIENT.format(words="whole: [photo]"), "`photo` is not an element of `set`"),
        (PATIENT.format(words="whole: identifier"), "`identifier` is not an element of `set`"),
        (PATIENT.format(words="about: all"), "`about` is not for this"),
        (PROVENANCE.replace("all", "some"), "`about` is not for this"),
        (PATIENT.replace("update", "replace").format(words=""), "`write` is missing or not known"),
    ],
)
def test_words_that_are_not_known_are_told(text: str, what: str) -> None:
    assert [one for one, fix in told(text) if fix] == [what]
