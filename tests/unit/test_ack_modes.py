"""Which answers a sender wants (HL7 v2 2.9; MSH-15, MSH-16, table 0155)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.codecs.ack import asks_for_nothing, read_ack, wanted
from bridge.codecs.formats import FORMATS
from bridge.codecs.hl7v2 import parse
from bridge.errors import BridgeError, CodecError, Overloaded
from bridge.ports import Reply

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BAD = CodecError("bad", at="PID-3", kind="required")
BUSY = Overloaded("busy")


def said(accept: str, application: str, kind: str = "ORM^O01") -> bytes:
    return f"MSH|^~\\&|RIS|A|B|C|20260101||{kind}|C1|P|2.5.1|||{accept}|{application}\rPID|||1\r".encode()


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        ("", "", ["AA"], ["AE"]),
        ('""', '""', ["AA"], ["AE"]),
        ("AL", "NE", ["CA"], ["CE"]),
        ("AL", "", ["CA"], ["CE"]),
        ("AL", "AL", ["CA", "AA"], ["CE"]),
        ("NE", "AL", ["AA"], ["AE"]),
        ("", "AL", ["AA"], ["AE"]),
        ("NE", "NE", [], []),
        ("NE", "", [], []),
        ("ER", "NE", [], ["CE"]),
        ("SU", "NE", ["CA"], []),
        ("ER", "ER", [], ["CE"]),
        ("SU", "AL", ["CA", "AA"], ["AE"]),
        ("SU", "SU", ["CA", "AA"], []),
        ("al", "ne", ["CA"], ["CE"]),
    ],
)
def test_the_sender_gets_the_answers_it_asks_for(
    accept: str, application: str, good: list[str], bad: list[str]
) -> None:
    message = parse(said(accept, application))

    assert wanted(message) == good
    assert wanted(message, BAD) == bad


@pytest.mark.parametrize(("error", "codes"), [(None, ["AA"]), (BAD, ["AE"]), (BUSY, ["AR"])])
def test_what_could_not_be_read_is_answered_in_original_mode(error: BridgeError | None, codes: list[str]) -> None:
    assert wanted(None, error) == codes


def test_an_acknowledgement_is_not_acknowledged_unless_it_asks_for_it() -> None:
    assert wanted(parse(said("", "", "ACK^O01"))) == []
    assert wanted(parse(said("AL", "NE", "ACK"))) == ["CA"]


def test_two_answers_have_ids_of_their_own_and_the_commit_goes_first() -> None:
    raw = said("AL", "AL")
    body = FORMATS["hl7v2"].answer(parse(raw), raw, control_id="0123456789", now=NOW)
    first, second = Reply(True, "m1", body).answers

    assert [read_ack(one).code for one in (first, second)] == ["CA", "AA"]
    assert [parse(one).get("MSH-10") for one in (first, second)] == ["0123456789", "A123456789"]


@pytest.mark.parametrize(
    ("accept", "application", "nothing"),
    [("NE", "NE", True), ("NE", "", True), ("", "NE", True), ("", "", False), ("AL", "NE", False), ("NE", "ER", False)],
)
def test_a_message_that_asks_for_no_answer_is_known_before_it_is_sent(
    accept: str, application: str, nothing: bool
) -> None:
    assert asks_for_nothing(said(accept, application)) is nothing
