"""Mappings read identifiers that were merged away as the ones that survive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.codecs.formats import read_any
from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping import Rendered, compile_all
from tests.rigs.need import REPOSITORY

EDIT = "target: hl7v2\nmessages: [ADT]\nedits:\n  - surviving: [PID-3, MRG-1]\n"
KEEP = "target: hl7v2\nmessages: [ADT]\nedits:\n  - set: {MSH-3: {value: HIS}}\n"
SHOW = """
target: worklist
messages: [ADT]
patient: {each: PID, identifiers: PID-3 | PID-2 | PID-4}
PatientID: PID-3.1 | PID-2.1 | PID-4.1
OtherPatientIDsSequence: {from: PID-3, as: other_patient_ids}
"""


def known(**survivors: str) -> dict[str, Any]:
    """``O="S^H"``: O^H was merged into S^H; its authority in full comes after a blank."""
    found = {}
    for retired, survivor in survivors.items():
        key, _, rest = survivor.partition(" ")
        authority = [*(rest or key.rpartition("^")[2]).split("&"), "", ""][:3]
        found[f"{retired}^H"] = {"survivor": key, "authority": authority}
    return {"site": {"name": "x"}, "identity": found}


def message(*segments: str, charset: str = "UNICODE UTF-8", marks: str = "|^~\\&") -> bytes:
    head = f"MSH{marks}|HIS|H|R|H|2026||ADT^A08|C1|P|2.5.1||||||{charset}"
    return "\r".join([head, *segments, ""]).encode("latin-1" if charset == "8859/1" else "utf-8")


def render(text: str, raw: bytes, context: dict[str, Any]) -> Rendered:
    mappings = compile_all({"m.yaml": text})
    assert mappings.findings == []
    return mappings.mappings["m"].render(parse(raw), context)


def patient(raw: bytes, context: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(SHOW, raw, context).data)["patients"][0]
    return found


@pytest.mark.parametrize(
    ("field", "edited"),
    [
        ("O^^^H^PI", "S^^^H^PI"),
        ("O^7^M11^H&1.2&ISO^PI^FAC^2020", "S^^^H&1.2&ISO^PI"),
        ("O^^^H", "S^^^H"),
        ("1^^^SSN~O^^^H", "1^^^SSN~S^^^H"),
        ("O^^^H~S^^^H^PI", "S^^^H^PI"),
        ("S^^^H^PI~O^^^H", "S^^^H^PI"),
        ("O^^^H~Q^^^H", "S^^^H"),
        ("O^^^OTHER", "O^^^OTHER"),
        ("S^^^H", "S^^^H"),
        ("", ""),
    ],
)
def test_an_edit_puts_the_survivor_in_its_place(field: str, edited: str) -> None:
    raw = message(f"PID|1||{field}||TEST^ÉLODIE", "ZZZ|O^^^H")

    assert render(EDIT, raw, known(O="S^H", Q="S^H")).data == message(f"PID|1||{edited}||TEST^ÉLODIE", "ZZZ|O^^^H")


def test_an_edit_that_does_not_say_so_sends_identifiers_as_they_came() -> None:
    raw = message("PID|1||O^^^H")

    assert render(KEEP, raw, known(O="S^H")).data == raw


def test_a_survivor_of_another_authority_brings_its_authority_in_full() -> None:
    edited = render(EDIT, message("PID|1||O^^^H^PI"), known(O="S^G G&1.2.3&ISO")).data

    assert edited == message("PID|1||S^^^G&1.2.3&ISO^PI")


def test_a_survivor_with_a_delimiter_in_it_is_escaped() -> None:
    edited = render(EDIT, message("PID|1||O^^^H"), known(O="S~1&^H")).data

    assert edited == message(r"PID|1||S\R\1\T\^^^H")


def test_every_group_and_the_named_fields_are_edited() -> None:
    raw = message("PID|1||S^^^H", "MRG|O^^^H", "PID|2||O^^^H", "MRG|X^^^H")

    edited = render(EDIT, raw, known(O="S^H")).data

    assert edited == message("PID|1||S^^^H", "MRG|S^^^H", "PID|2||S^^^H", "MRG|X^^^H")


def test_the_worklist_shows_the_survivor_and_says_so() -> None:
    raw = message("PID|1||O^^^H~9^^^SSN")

    assert patient(raw, known(O="S^H")) == {
        "patients": ["S^H", "9^SSN"],
        "retired": ["O^H"],
        "attributes": {
            "PatientID": "S",
            "OtherPatientIDsSequence": [{"PatientID": "9", "IssuerOfPatientID": "SSN", "TypeOfPatientID": "TEXT"}],
        },
    }
    assert render(SHOW, raw, known(O="S^H")).notes == (
        "PID-3 has an identifier that was merged away: the surviving one is used",
    )


@pytest.mark.parametrize("segment", ["PID|1|O^^^H", "PID|1|||O^^^H"])
def test_identifiers_where_older_senders_put_them_are_read_too(segment: str) -> None:
    assert patient(message(segment), known(O="S^H"))["attributes"] == {"PatientID": "S"}


def test_nothing_known_means_nothing_changed() -> None:
    raw = message("PID|1||O^^^H")

    for context in ({"site": {}}, {"site": {}, "identity": {}}, known(X="S^H")):
        assert patient(raw, context)["patients"] == ["O^H"]
        assert render(SHOW, raw, context).notes == ()


def test_a_survivor_that_the_messages_characters_lack_is_refused_with_its_place() -> None:
    raw = message("PID|1||O^^^H||ÉLODIE", charset="8859/1")

    with pytest.raises(MappingError) as caught:
        patient(raw, known(O="Š^H"))

    assert "PID(1)-3" in caught.value.at
    assert caught.value.fix


def test_only_whole_fields_survive() -> None:
    text = "target: hl7v2\nmessages: [ADT]\nedits:\n  - surviving: [PID-3.1]\n"

    (finding,) = compile_all({"m.yaml": text}).findings

    assert "whole fields" in finding.what
    assert finding.line == 4


STEP = """
target: hl7v2
messages: [MPPS]
message:
  - segment: MSH
    set: {MSH-9: {value: ADT}, MSH-12: {value: 2.5.1}}
  - segment: PID
    set:
      PID-3.1: PatientID
      PID-3.4.1: IssuerOfPatientID
      PID-3.4.2: IssuerOfPatientIDQualifiersSequence.UniversalEntityID
"""


@pytest.mark.parametrize(
    ("merged", "survivor", "told"),
    [
        ("4711^HOSP", ("S^HOSP", "HOSP", "", ""), "S^^^HOSP"),
        ("4711^HOSP", ("S^HIS", "HIS", "1.2", "ISO"), "S^^^HIS&1.2"),
        ("4711^OTHER", ("S^OTHER", "OTHER", "", ""), "4711^^^HOSP"),
    ],
)
def test_what_a_modality_tells_of_a_patient_who_was_merged_away_is_of_the_survivor(
    merged: str, survivor: tuple[str, ...], told: str
) -> None:
    mapping = compile_all({"m.yaml": STEP}).mappings["m"]
    raw = (REPOSITORY / "mappings/samples/mpps_completed.json").read_bytes()
    identity = {merged: {"survivor": survivor[0], "authority": list(survivor[1:])}}

    made = mapping.render(read_any(raw), {"site": {"name": "x"}, "identity": identity})

    assert parse(made.data).get("PID-3") == told
    assert any("merged away" in note for note in made.notes) is (merged == "4711^HOSP")
