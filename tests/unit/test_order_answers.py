"""Application answers to orders: which answer, what it says of each order, and that the standard's structures hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.codecs.ack import read_ack
from bridge.codecs.formats import FORMATS
from bridge.codecs.hl7v2 import parse
from bridge.codecs.order_answers import acknowledge
from bridge.codecs.strict import validate
from bridge.errors import MappingError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MISSING = MappingError("accession missing", at="OBR-18", fix="send OBR-18 or IPC-1")
IPC = "IPC|A1|RP1|1.2.3|S1|CT\r"


def order(kind: str = "ORM^O01^ORM_O01", version: str = "2.5.1", orders: str = "", modes: str = "|") -> bytes:
    details = IPC if kind.startswith("OMI") else ""
    orders = orders or f"ORC|NW|P1^HIS\rOBR|1|P1^HIS||CT^CT head\r{details}"
    return (
        f"MSH|^~\\&|HIS|HOSP|BRIDGE|HUB|20260102||{kind}|C1|P|{version}|||{modes}\r"
        f"PID|1||A^^^HOSP||Testone^Alice||19800101|F\r{orders}"
    ).encode()


def answer(raw: bytes, error: MappingError | None = None, code: str = "") -> bytes:
    return acknowledge(
        parse(raw), raw, code=code or ("AE" if error else "AA"), control_id="OWN-1", now=NOW, error=error
    )


def segments(raw: bytes, name: str) -> list[bytes]:
    return [line for line in raw.split(b"\r") if line.startswith(name.encode())]


@pytest.mark.parametrize(
    ("kind", "version", "expected"),
    [
        ("ORM^O01^ORM_O01", "2.5.1", "ORR^O02^ORR_O02"),
        ("ORM^O01^ORM_O01", "2.5", "ORR^O02^ORR_O02"),
        ("ORM^O01", "2.4", "ORR^O02^ORR_O02"),
        ("ORM^O01", "2.3.1", "ORR^O02^ORR_O02"),
        ("OMG^O19^OMG_O19", "2.4", "ORG^O20^ORG_O20"),
        ("OMG^O19^OMG_O19", "2.5.1", "ORG^O20^ORG_O20"),
        ("OMI^O23^OMI_O23", "2.5", "ORI^O24^ORI_O24"),
        ("OMI^O23^OMI_O23", "2.5.1", "ORI^O24^ORI_O24"),
    ],
)
@pytest.mark.parametrize("error", [None, MISSING])
def test_an_order_is_answered_by_its_order_answer_as_the_standard_has_it(
    kind: str, version: str, expected: str, error: MappingError | None
) -> None:
    said = answer(order(kind, version), error)

    assert parse(said).get("MSH-9") == expected
    assert (read_ack(said).code, read_ack(said).control_id) == ("AE" if error else "AA", "C1")
    assert segments(said, "ORC") == [b"ORC|UA|P1^HIS" if error else b"ORC|OK|P1^HIS"]
    assert validate(said) == []


def test_before_2_3_1_the_type_of_an_order_answer_has_no_structure() -> None:
    assert parse(answer(order("ORM^O01", "2.3"))).get("MSH-9") == "ORR^O02"


@pytest.mark.parametrize(
    ("asked", "taken", "refused"),
    [
        ("NW", "OK", "UA"),
        ("CA", "RR", "UC"),
        ("DC", "RR", "UD"),
        ("HD", "RR", "UH"),
        ("RL", "RR", "UR"),
        ("RP", "RR", "UM"),
        ("XO", "RR", "UX"),
        ("SN", "RR", "UA"),
        ("SC", "OK", "UA"),
    ],
)
def test_nobody_is_told_that_a_filler_did_what_it_was_only_asked_to_do(asked: str, taken: str, refused: str) -> None:
    raw = order(orders=f"ORC|{asked}|P1\rOBR|1|P1||CT\r")

    assert parse(answer(raw)).get("ORC-1") == taken
    assert parse(answer(raw, MISSING)).get("ORC-1") == refused


def test_each_order_of_a_message_is_answered_with_its_own_numbers() -> None:
    raw = order(
        "OMI^O23^OMI_O23",
        orders=f"ORC|NW|P1|F1\rOBR|1|||CT\r{IPC}{IPC}ORC|CA|\rOBR|2|P2|F2|MR\r{IPC}ORC|XO|P3\rOBR|3|||MR\r{IPC}",
    )
    said = answer(raw)

    assert segments(said, "ORC") == [b"ORC|OK|P1|F1", b"ORC|RR|P2|F2", b"ORC|RR|P3"]
    assert [len(segments(said, name)) for name in ("OBR", "IPC", "PID")] == [3, 4, 0]
    assert validate(said) == []


def test_the_orders_are_written_with_the_senders_delimiters_and_character_set() -> None:
    raw = order(orders="ORC|NW|P1^HIS\rOBR|1|P1||CT^Schädel\r").decode().translate(str.maketrans("|^~&", "$%*@"))
    raw = raw.replace("$P$2.5.1", "$P$2.5.1").replace("2.5.1$$$$", "2.5.1$$$$$$8859/1")
    said = answer(raw.encode("latin-1"))

    assert said.startswith(b"MSH$%*\\@$BRIDGE$HUB$HIS$HOSP$")
    assert segments(said, "ORC") == [b"ORC$OK$P1%HIS"]
    assert parse(said).get("OBR-4.2") == "Schädel"


@pytest.mark.parametrize("kind", ["ADT^A08^ADT_A01", "ORU^R01^ORU_R01", "ORR^O02^ORR_O02"])
def test_anything_else_is_answered_by_a_general_acknowledgement(kind: str) -> None:
    assert parse(answer(order(kind))).get("MSH-9.1") == "ACK"


def test_what_cannot_be_read_is_answered_by_a_general_acknowledgement() -> None:
    said = acknowledge(None, b"MSH|^~\\&|HIS", code="AE", control_id="OWN-1", now=NOW, error=MISSING)

    assert parse(said).get("MSH-9.1") == "ACK"


def test_in_enhanced_mode_the_commit_answer_stays_a_general_acknowledgement() -> None:
    raw = order(modes="AL|AL")
    said = FORMATS["hl7v2"].answer(parse(raw), raw, control_id="OWN-1", now=NOW, orders=True).split(b"\x1c")

    assert [(parse(one).get("MSH-9.1"), parse(one).get("MSA-1")) for one in said] == [("ACK", "CA"), ("ORR", "AA")]


@pytest.mark.parametrize("kind", ["RSP^K22^RSP_K21", "ADR^A19", "ORR^O02", "ORI^O24^ORI_O24", "ORG^O20^ORG_O20"])
def test_an_answer_of_any_type_is_understood_as_an_acknowledgement(kind: str) -> None:
    raw = f"MSH|^~\\&|A|B|C|D|2026||{kind}|X|P|2.5\rMSA|AA|C1\rPID|1||4711\rORC|NA|P1|F1\rORC|UA|P2\r".encode()
    read = read_ack(raw)

    assert (read.code, read.control_id, read.orders) == ("AA", "C1", ("NA", "UA"))
    assert read.is_message
    assert read.summary == f"AA {kind[:7]} NA UA"


def test_the_summary_of_an_answer_holds_no_content() -> None:
    raw = b"MSH|^~\\&|A|B|C|D|2026||Doe^John|X|P|2.5\rMSA|Jane|C1\rORC|Doe|P1\r"

    assert read_ack(raw).summary == "?"
