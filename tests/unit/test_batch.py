"""Batches: cut into the messages they hold, and answered by a batch."""

from __future__ import annotations

from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.ack import acknowledge
from bridge.codecs.batch import answer, is_batch, split
from bridge.codecs.hl7v2 import parse
from bridge.errors import CodecError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def message(number: int, text: str = "x") -> bytes:
    return (
        f"MSH|^~\\&|RIS|A|BRIDGE|B|20260101||ORM^O01|C{number}|P|2.5.1\rPID|||{number}^^^A||Testone^Zoé\rNTE|1||{text}\r"
    ).encode()


def whole(*messages: bytes, count: int | None = None) -> bytes:
    head = b"FHS|^~\\&|RIS|A|BRIDGE|B|20260101||orders|night|F-1\rBHS|^~\\&|RIS|A|BRIDGE|B|20260101||||B-1\r"
    tail = f"BTS|{len(messages) if count is None else count}\rFTS|1\r".encode()
    return head + b"".join(messages) + tail


@pytest.mark.parametrize("ends", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\xef\xbb\xbf"])
def test_a_batch_is_cut_into_its_messages_byte_for_byte(ends: bytes, before: bytes) -> None:
    messages = [message(number).replace(b"\r", ends) for number in range(3)]
    raw = before + whole(*(message(number) for number in range(3))).replace(b"\r", ends)

    cut = split(raw)

    assert is_batch(raw)
    assert cut.messages == messages
    assert cut.remarks == []
    assert cut.header.startswith(b"FHS|") and cut.groups[0].header.startswith(b"BHS|")


def test_the_batches_of_a_file_stay_apart() -> None:
    one, two = (f"BHS|^~\\&|R|A|B|B|||||N{n}\r".encode() + message(n) + b"BTS|1\r" for n in (1, 2))

    cut = split(b"FHS|^~\\&|R\r" + one + two + b"FTS|2\r")

    assert [group.messages for group in cut.groups] == [[message(1)], [message(2)]]
    assert cut.remarks == []


def test_a_third_party_reads_the_same_messages() -> None:
    raw = whole(*(message(number) for number in range(5)))
    (batch,) = hl7.parse_file(raw.decode())

    assert [str(one).encode() for one in batch] == split(raw).messages


@pytest.mark.parametrize("raw", [message(1), b"", b"\r\n", b"BHSX|", b"\xef\xbb\xbf" + message(1), b"\x00BHS|"])
def test_what_is_no_batch_is_not_taken_for_one(raw: bytes) -> None:
    assert not is_batch(raw)


def test_a_line_feed_inside_a_text_begins_no_message() -> None:
    odd = message(1, "see\nMSH|^~\\&|this is text\nBTS|9")

    assert split(whole(odd, message(2))).messages == [odd, message(2)]


@pytest.mark.parametrize(
    ("raw", "remark"),
    [
        (whole(message(1), count=2), "BTS-1 says 2, 1 came"),
        (whole(message(1)).replace(b"BTS|1", b"BTS|one"), "BTS-1 says no number, 1 came"),
        (whole(message(1)).replace(b"FTS|1", b"FTS|3"), "FTS-1 says 3, 1 came"),
        (whole(message(1)).partition(b"BTS")[0], "the trailer (BTS or FTS) is missing"),
        (whole(message(1)) + b"NTE|1||lost\r", "text after FTS"),
        (whole(message(1)).replace(b"B-1\r", b"B-1\rNTE|1||lost\r"), "text after BHS"),
    ],
)
def test_what_does_not_fit_is_told_and_the_messages_are_taken(raw: bytes, remark: str) -> None:
    cut = split(raw)

    assert cut.messages == [message(1)]
    assert cut.remarks == [remark]
    said = answer(cut, [[]], control_id="OWN", now=NOW).decode()
    assert f"BTS|0|{remark}" in said


def test_the_answer_is_a_batch_that_refers_to_the_one_it_answers() -> None:
    raw = whole(message(1), message(2))
    cut = split(raw)
    acks = [
        [acknowledge(parse(one), one, code="AA", control_id=f"OWN{number}", now=NOW)]
        for number, one in enumerate(cut.messages)
    ]

    said = answer(cut, acks, control_id="OWN", now=NOW)

    (batch,) = hl7.parse_file(said.decode())
    assert [str(one.segment("MSA")(2)) for one in batch] == ["C1", "C2"]
    lines = said.split(b"\r")
    assert lines[0] == b"FHS|^~\\&|BRIDGE|B|RIS|A|20260102030405+0000||||OWN|F-1"
    assert lines[1] == b"BHS|^~\\&|BRIDGE|B|RIS|A|20260102030405+0000||||OWN-1|B-1"
    assert lines[-3:] == [b"BTS|2", b"FTS|1", b""]


def test_a_batch_without_messages_is_answered_by_one_without_answers() -> None:
    said = answer(split(whole()), [], control_id="OWN", now=NOW)

    assert said.endswith(b"\rBTS|0\rFTS|1\r")


@given(st.lists(st.text(alphabet="ab|^~\\&\nMSHBT é", max_size=30), max_size=6))
def test_whatever_the_messages_say_they_come_out_as_they_went_in(texts: list[str]) -> None:
    messages = [message(number, text) for number, text in enumerate(texts)]

    assert split(whole(*messages)).messages == messages


@given(st.lists(st.sampled_from([b"FHS", b"BHS", b"MSH", b"BTS", b"FTS", b"|", b"\r", b"\n", b"\x1c", b"x", b"9"])))
def test_any_bytes_are_cut_and_answered_without_an_exception(parts: list[bytes]) -> None:
    raw = b"BHS|" + b"".join(parts)
    cut = split(raw)

    said = answer(cut, [[] for _ in cut.messages], control_id="OWN", now=NOW)

    assert b"\x1c" not in said
    assert sum(map(len, cut.messages)) <= len(raw)


def test_a_message_inside_a_batch_is_still_checked_where_it_is_parsed() -> None:
    bad = b"MSH|\r"

    assert split(whole(message(1), bad, message(2))).messages == [message(1), bad, message(2)]
    with pytest.raises(CodecError):
        parse(bad)
