"""Strict validation: what hl7apy finds, as places and codes of table 0357."""

from __future__ import annotations

import json

import pytest

from bridge.codecs.strict import validate
from tests.rigs.need import require_data

VALID = (
    "MSH|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102030405||ORM^O01^ORM_O01|C1|P|2.5.1\r"
    "PID|1||A^^^HOSP||Testone^Alice||19800101|F\r"
    "PV1|1|O\r"
    "ORC|NW|P1\r"
    "OBR|1|P1||CT^CT head||||||||||||||||||||CT\r"
    "ZDS|1.2.3^anything\r"
)


def found(old: str, new: str) -> list[tuple[str, str, str]]:
    assert old in VALID
    return [(one["code"], one["kind"], one["at"]) for one in validate(VALID.replace(old, new).encode())]


def test_a_valid_order_has_no_violations() -> None:
    assert validate(VALID.encode()) == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_do_not_matter(end: str) -> None:
    assert validate(VALID.replace("\r", end).encode()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ORC|NW|P1\r", "ORC||P1\r", ("101", "required", "ORC-1")),
        ("A^^^HOSP", "", ("101", "required", "PID-3")),
        ("ORC|NW|P1\r", "", ("101", "required", "ORC")),
        ("19800101", "yesterday", ("102", "datatype", "PID-7.1")),
        ("OBR|1|", "OBR|one|", ("102", "datatype", "OBR-1")),
        ("PV1|1|O\r", "PV1|1|O\rBLG|D\rTXA|1|CN\r", ("100", "syntax", "TXA")),
        ("|CT\r", "|CT" + "|" * 40 + "x\r", ("100", "syntax", "OBR")),
        ("2.5.1", "9.9", ("203", "version", "MSH-12")),
        ("ORM_O01", "ORM_O99", ("200", "message_type", "MSH-9.3")),
        ("MSH|^~\\&", "MSH|^^^^", ("100", "syntax", "MSH-2")),
    ],
)
def test_a_violation_has_its_place_and_code(old: str, new: str, expected: tuple[str, str, str]) -> None:
    assert expected in found(old, new)


def test_a_second_segment_of_a_kind_is_numbered() -> None:
    assert found("ZDS|1.2.3^anything\r", "NTE|1\rNTE|two\r") == [("102", "datatype", "NTE(2)-1")]


def test_null_is_a_value_of_every_type() -> None:
    assert found("19800101", '""') == []


def test_what_is_found_holds_no_content_and_can_cross_a_process_border() -> None:
    marker = "Zzyzx"
    for path in sorted(require_data("hl7").glob("*/*.hl7")):
        raw = path.read_bytes().replace(b"ADAM", marker.encode()).replace(b"EVERYMAN", marker.encode())
        for one in json.loads(json.dumps(validate(raw))):
            assert marker not in json.dumps(one), path.name
            assert one["code"].isdigit() and one["what"] and one["at"] and one["fix"], path.name


def test_the_published_teleradiology_orders_are_valid() -> None:
    for path in sorted(require_data("hl7", "ans").glob("*.hl7")):
        assert validate(path.read_bytes()) == [], path.name
