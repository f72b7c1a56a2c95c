"""One order as each version of HL7 has it, 2.1 to 2.8: read, routed, edited and answered alike."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.codecs.ack import acknowledge, read_ack
from bridge.codecs.adt import identity_event
from bridge.codecs.hl7v2 import parse
from bridge.mapping import compile_condition

VERSIONS = ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.2"]
KINDS = {"2.1": "ORM", "2.2": "ORM^O01", "2.3": "ORM^O01", "2.3.1": "ORM^O01"}
ANSWERS = {"2.1": "ACK", "2.2": "ACK", "2.3": "ACK"}
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def order(version: str) -> bytes:
    """Up to 2.6 with the four usual delimiters; the event and the structure in MSH-9 as the version has them."""
    kind, truncation = KINDS.get(version, "ORM^O01^ORM_O01"), "#" if version >= "2.7" else ""
    return (
        f"MSH|^~\\&{truncation}|RIS|SITE|X|Y|20300101||{kind}|C1|P|{version}\r"
        "PID|1||P1^^^HOSP||TEST^ALICE\rORC|NW|P1\rOBR|1|P1||CT^Head\rZZZ|as it is\r"
    ).encode()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_order_of_every_version_is_read_routed_and_edited_alike(version: str) -> None:
    message = parse(order(version))
    editor = message.edit()
    editor.set("OBR-18", "A & 1")

    assert (message.version, message.header.type, message.header.patients) == (version, "ORM^O01", ("P1^HOSP",))
    assert compile_condition({"message": "ORM^O01"}, "when")(message)
    assert message.get("ORDER(1).OBR-4.2") == "Head"
    assert message.edit().encode() == order(version)
    assert editor.encode() == order(version).replace(b"CT^Head", b"CT^Head" + b"|" * 14 + rb"A \T\ 1")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_order_of_every_version_is_answered_in_its_own(version: str) -> None:
    raw = order(version)

    answer = acknowledge(parse(raw), raw, code="AA", control_id="OWN", now=NOW)

    found = parse(answer)
    assert (found.get("MSH-12"), found.get("MSH-9"), found.get("MSH-2")) == (
        version,
        ANSWERS.get(version, "ACK^O01^ACK"),
        parse(raw).get("MSH-2"),
    )
    assert (read_ack(answer).code, read_ack(answer).control_id) == ("AA", "C1")


@pytest.mark.parametrize("version", ["2.1", "2.2"])
def test_an_event_that_stands_in_evn_alone_is_the_messages_event(version: str) -> None:
    raw = f"MSH|^~\\&|HIS|H|X|Y|2030||ADT|C1|P|{version}\rEVN|A08|2030\rPID|1||1^^^H~2^^^SSN\r".encode()
    message = parse(raw)

    assert message.header.type == "ADT^A08"
    assert compile_condition({"message": ["ADT^A08"]}, "when")(message)
    assert not compile_condition({"message": ["ADT^A01"]}, "when")(message)
    event = identity_event(message)
    assert event and event.trigger == "A08"


def test_a_code_with_several_events_and_none_given_has_none() -> None:
    assert parse(b"MSH|^~\\&|RIS|S|X|Y|2030||SIU|C1|P|2.2\rSCH|1\r").header.type == "SIU"
