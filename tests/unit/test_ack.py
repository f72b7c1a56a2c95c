"""Acknowledgements: what we answer, and how we read answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import hl7
import pytest

from bridge.codecs.ack import Ack, AckError, acknowledge, read_ack
from bridge.codecs.hl7v2 import parse
from bridge.errors import BridgeError, CodecError, MappingError, Overloaded, Refused

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
MISSING = MappingError("accession missing", at="OBR-18", fix="send OBR-18 or IPC-1")


def question(version: str = "2.5.1", kind: str = "ORM^O01^ORM_O01", charset: str = "8859/15") -> bytes:
    return (
        f"MSH|^~\\&|RIS^1.2^ISO|RADIO|BRIDGE|HUB|20260101||{kind}|C1|P^T|{version}||||||{charset}\rPID|||A||Zoé\r"
    ).encode("iso8859-15")


def answer(raw: bytes, code: str = "AA", error: BridgeError | None = None) -> bytes:
    return acknowledge(parse(raw), raw, code=code, control_id="OWN-1", now=NOW, error=error)


def test_a_positive_answer_turns_the_header_round() -> None:
    assert answer(question()) == (
        b"MSH|^~\\&|BRIDGE|HUB|RIS^1.2^ISO|RADIO|20260102030405+0100||ACK^O01^ACK|OWN-1|P^T|2.5.1||||||8859/15\r"
        b"MSA|AA|C1\r"
    )


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        ("2.5.1", "ORM^O01^ORM_O01", b"ACK^O01^ACK"),
        ("2.3.1", "ORM^O01", b"ACK^O01^ACK"),
        ("2.3", "ORM^O01", b"ACK"),
        ("2.2", "ORM^O01", b"ACK"),
        ("2.5^FRA^2.11", "ADT^A08^ADT_A01", b"ACK^A08^ACK"),
        ("2.5", "ACK", b"ACK"),
        ("", "ADT^A08", b"ACK^A08^ACK"),
    ],
)
def test_the_type_of_the_answer_follows_the_version(version: str, kind: str, expected: bytes) -> None:
    fields = answer(question(version, kind)).split(b"\r")[0].split(b"|")

    assert fields[8] == expected
    assert fields[11] == (version.encode() or b"2.5.1")


def test_from_2_5_on_an_error_has_place_code_severity_what_and_fix() -> None:
    segments = answer(question(), "AE", MISSING).split(b"\r")

    assert segments[1] == b"MSA|AE|C1|accession missing"
    assert segments[2] == (
        b"ERR||OBR^1^18|101^Required field missing^HL70357|E|||accession missing at OBR-18|send OBR-18 or IPC-1"
    )


@pytest.mark.parametrize("version", ["2.2", "2.3.1", "2.4"])
def test_up_to_2_4_an_error_sits_in_err_1(version: str) -> None:
    segments = answer(question(version), "AE", MISSING).split(b"\r")

    assert segments[2] == (
        b"ERR|OBR^1^18^101&Required field missing&HL70357&&accession missing at OBR-18; fix: send OBR-18 or IPC-1"
    )


def test_from_2_7_on_the_withdrawn_msa_3_stays_away() -> None:
    assert answer(question("2.7"), "AE", MISSING).split(b"\r")[1] == b"MSA|AE|C1"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("PID", b"PID^1"),
        ("PID-3", b"PID^1^3"),
        ("PID-3.4", b"PID^1^3^1^4"),
        ("PID-3[2].4.1", b"PID^1^3^2^4^1"),
        ("OBX(3)-5", b"OBX^3^5"),
        ("OBX(3.1=H)-5", b"OBX^1^5"),
        ("bridge.yaml:12:5", b""),
        ("", b""),
    ],
)
def test_the_place_of_an_error_is_written_as_erl(at: str, expected: bytes) -> None:
    assert answer(question(), "AE", CodecError("wrong", at=at)).split(b"\r")[2].split(b"|")[2] == expected


def test_text_of_an_error_cannot_break_the_answer() -> None:
    error = CodecError("a|b^c\r\x0b\x1cMSA|AA", fix="é €")
    body = answer(question(), "AE", error)

    assert len(body.split(b"\r")) == 4
    assert b"\x0b" not in body and b"\x1c" not in body
    assert read_ack(body).errors[0].text == "é €"
    assert parse(body).get("ERR-7") == "a|b^c\r\x0b\x1cMSA|AA"


def test_control_characters_of_the_sender_do_not_reach_the_answers_frame() -> None:
    raw = question().replace(b"C1", b"C\x1c1\x0b")

    assert answer(raw).endswith(b"MSA|AA|C1\r")


def test_the_senders_own_delimiters_are_used() -> None:
    raw = b"MSH$%*!@$RIS$R$B$H$2026$$ADT%A08$7$P$2.5\r"

    assert answer(raw, "AR", Refused("no | route", at="MSH-9.1")).split(b"\r")[1:3] == [
        b"MSA$AR$7$no | route",
        b"ERR$$MSH%1%9%1%1$200%Unsupported message type%HL70357$E$$$no | route at MSH-9.1$",
    ]


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "8859/1", "ISO IR87"])
def test_an_answer_can_be_read_in_the_senders_character_set(charset: str) -> None:
    codec = {"UNICODE UTF-8": "utf-8", "8859/1": "iso8859-1", "ISO IR87": "iso2022_jp_2"}[charset]
    name = "万五共" if codec == "iso2022_jp_2" else "Clé"
    raw = f"MSH|^~\\&|{name}|R|B|H|2026||ADT^A08|7|P|2.5||||||{charset}\r".encode(codec)

    assert parse(answer(raw)).get("MSH-5") == name


# what cannot be parsed


@pytest.mark.parametrize(
    "raw", [b"", b"hello", b"MSH", b"MSH|", b"\xff\xfeM\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100]
)
def test_junk_gets_a_well_formed_answer_without_a_control_id(raw: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        parse(raw)

    body = acknowledge(None, raw, code="AE", control_id="OWN-1", now=NOW, error=caught.value)

    assert parse(body).header.type == "ACK"
    assert read_ack(body).code == "AE"
    assert read_ack(body).control_id == ""
    assert read_ack(body).errors[0].code == "100"


def test_a_message_that_cannot_be_read_is_answered_to_its_sender_all_the_same() -> None:
    raw = b"MSH|^~\\&|RIS|R|B|H|2026||ORM^O01|C7|P|2.5.1||||||UNICODE UTF-8\rPID|||A||\xe9\r"

    body = acknowledge(None, raw, code="AE", control_id="OWN-1", now=NOW, error=CodecError("a byte", at="PID-5"))

    assert body.startswith(b"MSH|^~\\&|B|H|RIS|R|")
    assert read_ack(body) == Ack("AE", "C7", (AckError("100", "PID^1^5", "E", "a byte at PID-5"),), "a byte", "ACK^O01")


def test_broken_delimiters_are_answered_with_the_usual_ones() -> None:
    raw = b"MSH|^^~&|RIS^X|R|B|H|2026||ORM^O01|C7|P|2.4\rPID|||A\r"

    body = acknowledge(None, raw, code="AE", control_id="OWN-1", now=NOW, error=CodecError("broken", at="MSH-2"))

    assert parse(body).get("MSH-5") == "RIS X"
    assert read_ack(body).control_id == "C7"


# reading


def test_an_answer_of_another_library_is_read() -> None:
    sent = hl7.parse(question().decode("iso8859-15"))

    ack = read_ack(str(sent.create_ack("AE", message_id="X")).encode())

    assert (ack.code, ack.control_id, ack.errors) == ("AE", "C1", ())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"MSH|^~\\&|A\nMSA|aa | C1 |fine\n", Ack("AA", "C1", (), "fine")),
        (b"MSH|^~\\&|A\r\nMSA|CA|C1\r\n", Ack("CA", "C1")),
        (
            b"\xef\xbb\xbfMSH$%*!@$A\rMSA$AR$C1\rERR$$PID%1%3$207%x$E\r",
            Ack("AR", "C1", (AckError("207", "PID%1%3", "E"),)),
        ),
        (b"MSH|^~\\&|A\rMSA|AE|C1|caf\xe9", Ack("AE", "C1", (), "café")),
        (
            b"MSH|^~\\&|A\rMSA|AE|C1\rERR|PID^1^3^101&Required&HL70357",
            Ack("AE", "C1", (AckError("101", "PID^1^3", "E", "Required"),)),
        ),
        (b"MSA|AA|C1", Ack("AA", "C1")),
        (b"MSH\rMSA|AA", Ack("AA", "")),
    ],
)
def test_answers_are_read_tolerantly(raw: bytes, expected: Ack) -> None:
    assert read_ack(raw) == expected


@pytest.mark.parametrize("raw", [b"", b"OK", b"MSH|^~\\&|A\r", b"\xff\xfe"])
def test_what_has_no_msa_is_no_answer(raw: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        read_ack(raw)

    assert caught.value.at == "MSA"


@pytest.mark.parametrize(("version", "location"), [("2.3", "OBR^1^18"), ("2.5.1", "OBR^1^18"), ("2.8", "OBR^1^18")])
def test_what_we_write_we_read(version: str, location: str) -> None:
    ack = read_ack(answer(question(version), "AE", MISSING))

    assert (ack.code, ack.control_id) == ("AE", "C1")
    assert (ack.errors[0].code, ack.errors[0].location) == ("101", location)
    assert "send OBR-18 or IPC-1" in ack.errors[0].text


def test_overload_says_207_and_the_time_may_be_without_zone() -> None:
    body = acknowledge(
        parse(question()), b"", code="AR", control_id="X", now=datetime(2026, 1, 2), error=Overloaded("busy")
    )

    assert read_ack(body).errors[0].code == "207"
    assert parse(body).get("MSH-7") == "20260102000000"
    in_utc = acknowledge(None, b"", code="AR", control_id="X", now=NOW.astimezone(UTC))
    assert parse(in_utc).get("MSH-7") == "20260102020405+0000"
