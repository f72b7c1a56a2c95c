"""Messages that nobody means to send: each was found by fuzzing (docs/fuzzing.md)."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import pytest

from bridge.codecs import batch
from bridge.codecs.ack import acknowledge, read_ack
from bridge.codecs.charset import codec_for
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.paths import compile_path
from bridge.errors import CodecError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def order(charset: str = "", *segments: bytes, marks: bytes = b"|^~\\&", end: bytes = b"\r") -> bytes:
    msh = b"MSH" + marks + b"|RIS|RADIO|BRIDGE|HUB|20260101||ORM^O01|C1|P|2.5.1||||||" + charset.encode()
    return end.join((msh, *segments, b""))


def refused(raw: bytes) -> CodecError:
    with pytest.raises(CodecError) as caught:
        parse(raw)
    return caught.value


def answered(raw: bytes, error: CodecError | None = None, message: Hl7Message | None = None) -> Hl7Message:
    """The answer to ``raw``, read as its sender would."""
    answer = acknowledge(message, raw, code="AE" if error else "AA", control_id="OWN-1", now=NOW, error=error)
    assert read_ack(answer).code in ("AA", "AE")
    return parse(answer)


# answers


def test_a_message_whose_separator_is_a_control_character_is_answered() -> None:
    raw = b"MSH\x01^~\\&nothing"

    assert answered(raw, refused(raw)).names == ["MSH", "MSA", "ERR"]


@pytest.mark.parametrize(("declared", "expected"), [("KLINGON", ""), ("ISO IR6~ISO IR87", "ISO IR6~ISO IR87")])
def test_the_answer_to_what_cannot_be_read_names_a_character_set_only_if_it_is_known(
    declared: str, expected: str
) -> None:
    raw = order(declared, b"PID|||A||\xff\xfe", b"MSH|^~\\&|again")

    answer = answered(raw, refused(raw))

    assert "~".join(answer.all("MSH-18")) == expected
    assert answer.get("MSA-2") == "C1"


def test_with_broken_delimiters_a_repeated_character_set_is_not_repeated_in_the_answer() -> None:
    raw = order("ISO IR6~ISO IR87").replace(b"|", b"\t")

    answer = answered(raw, refused(raw))

    assert (answer.get("MSH-18"), answer.get("MSA-2")) == ("", "C1")


def test_bytes_of_an_unreadable_header_do_not_make_the_answer_unreadable() -> None:
    raw = order("UNICODE UTF-8").replace(b"RADIO", b"R\xc4DIO")

    assert answered(raw, refused(raw)).get("MSH-6") == "R DIO"


def test_what_replaces_bytes_of_an_unreadable_header_is_no_delimiter_of_the_answer() -> None:
    raw = b"MSH?#:;*?RIS?B?C?D????\xc4\xc4?P?2.5"

    assert answered(raw, refused(raw)).get("MSA-2") == "  "


def test_utf_8_under_the_label_of_another_set_is_answered_under_its_true_name() -> None:
    raw = b"\xef\xbb\xbf" + order("ISO IR87", "PID|||A||Zoé".encode())

    answer = answered(raw, CodecError("a value is wrong", at="PID-5", fix="send Zoë"), parse(raw))

    assert answer.get("MSH-18") == "UNICODE UTF-8"
    assert answer.get("ERR-8") == "send Zoë"


def test_text_of_an_error_that_the_senders_character_set_lacks_is_answered_with_question_marks() -> None:
    raw = order("BIG-5", "PID|||A||許".encode("big5"))

    answer = answered(raw, CodecError("a value is wrong", at="PID-5", fix="send Zoé"), parse(raw))

    assert answer.get("ERR-8") == "send Zo?"


def test_without_an_escape_character_no_line_end_reaches_the_answer() -> None:
    raw = order(marks=b"|^~")

    answer = answered(raw, CodecError("wrong", at="line\r1", fix="one\rtwo"), parse(raw))

    assert answer.names == ["MSH", "MSA", "ERR"]
    assert answer.get("ERR-8") == "one two"


def test_a_batch_whose_separator_frames_answers_is_answered_with_another() -> None:
    message = order("")
    cut = batch.split(b"BHS\x0b^~\\&\r" + message + b"BTS\x0b1\r")

    assert batch.split(batch.answer(cut, [[message]], control_id="OWN-1", now=NOW)).messages == [message]


# character sets


def test_shifted_text_where_the_separator_should_be_is_refused() -> None:
    assert refused(b"MSH\x1b$(CGQ19\x1b(B|^~\\&|RIS|RADIO|B|H|2026||ORU^R01").at == "MSH-2"


def test_shift_sequences_count_only_in_a_message_that_declares_iso_2022() -> None:
    raw = order("8859/1").replace(b"RIS", b"RIS\x1b$BFK\x1b(B")
    shifted = order("ISO IR87").replace(b"RIS", b"RIS\x1b$BF|K\\\x1b(B")

    assert parse(raw).get("MSH-3") == "RIS\x1b$BFK\x1b(B"
    assert parse(shifted).get("MSH-3") == "RIS日本"


def test_a_delimiter_of_msh_that_is_half_a_character_is_refused() -> None:
    error = refused(order("GB 18030-2000").replace(b"|C1|", b"|\x81|"))

    assert (error.at, "gb18030" in error.what) == ("MSH", True)


def test_the_place_of_a_bad_byte_names_no_text_of_a_wrapped_line() -> None:
    assert refused(order("ASCII", b"NTE|1||first", b"Testone \xe9")).at == "line 3"
    assert refused(order("ASCII", b"PID|1||A\xe9")).at == "PID-3"


def test_an_escaped_escape_character_is_read_in_iso_2022() -> None:
    editor = parse(order("ISO IR87", b"NTE|1||x")).edit()
    editor.set("NTE-3", "\x1b[1m 日本")

    assert parse(editor.encode()).get("NTE-3") == "\x1b[1m 日本"


@pytest.mark.parametrize("charset", ["ISO IR87", "GB 18030-2000", "BIG-5", "KS X 1001", "WINDOWS-1250", "8859/15"])
def test_a_codecs_own_name_is_a_character_set(charset: str) -> None:
    assert codec_for(codec_for(charset)) == codec_for(charset)


def test_an_endless_list_of_character_sets_is_refused_and_not_remembered() -> None:
    error = refused(order("~".join(["ASCII"] * 100)))

    assert (error.at, error.kind) == ("MSH-18", "code")


@pytest.mark.parametrize("text", [b"1\x1b$(D)N\x1b(B", b"1\x1b$BB\\", b"1\x1bN2"])
def test_text_with_shift_sequences_of_its_own_is_not_rewritten_in_iso_2022(text: bytes) -> None:
    editor = parse(order("UNICODE UTF-8", b"NTE|1||" + text)).edit()

    with pytest.raises(CodecError) as caught:
        editor.set("MSH-18", "ISO IR87")

    assert caught.value.at == "MSH-18"


def test_a_second_character_set_that_does_not_count_rewrites_nothing() -> None:
    editor = parse(order("8859/1", b"NTE|1||caf\xe9")).edit()
    editor.set("MSH-18[2]", "UNICODE UTF-8")

    assert editor.encode() == order("8859/1~UNICODE UTF-8", b"NTE|1||caf\xe9")


# edits


def test_without_a_subcomponent_delimiter_no_second_subcomponent_is_set() -> None:
    editor = parse(order("", b"PID|||A||Testone^Alice", marks=b"|^~\\")).edit()
    editor.set("PID-5.1.1", "Testtwo")

    with pytest.raises(CodecError) as caught:
        editor.set("PID-5.1.2", "de")

    assert caught.value.at == "PID-5.1.2"
    assert editor.encode() == order("", b"PID|||A||Testtwo^Alice", marks=b"|^~\\")


def test_removing_a_segment_does_not_join_the_ends_of_its_neighbours() -> None:
    raw = order("", b"PID|||A", b"OBX|1\r\n\nMSH|not a segment")
    editor = parse(raw).edit()
    editor.remove_segment("OBX")

    assert parse(editor.encode()).names == ["MSH", "PID", ""]


def test_removing_the_first_segment_after_msh_leaves_the_kind_of_line_end() -> None:
    raw = order("", b"OBX|1\rNTE|1", end=b"\n")
    editor = parse(raw).edit()
    editor.remove_segment("OBX")

    assert parse(editor.encode()).names == ["MSH", "NTE"]


@pytest.mark.parametrize("path", ["PID-3[100000].1", "PID-3[" + "9" * 5000 + "]", "PID-" + "9" * 5000, "PID-\u0663"])
def test_a_path_cannot_ask_for_endless_repetitions(path: str) -> None:
    with pytest.raises(CodecError):
        compile_path(path)


def test_of_two_new_segments_only_the_one_named_is_removed() -> None:
    editor = parse(order("")).edit()
    editor.add_segment("ZDS")
    editor.add_segment("ZDS")
    editor.remove_segment("ZDS", 1)

    assert parse(editor.encode()).names == ["MSH", "ZDS"]


def test_a_message_of_very_many_segments_is_split_without_a_copy_of_the_rest_for_each_slice() -> None:
    message = parse(order("", *[b"NTE"] * 20_000, *[b"OBR|x"] * 20_000))
    tracemalloc.start()
    views = message.split("OBR")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (len(views), views[-1].get("OBR-1"), len(views[-1].segments())) == (20_000, "x", 20_002)
    assert peak < 50_000_000


@pytest.mark.parametrize("end", [b"\r", b"\n"])
def test_a_message_that_is_little_but_line_ends_is_refused(end: bytes) -> None:
    assert "500000 lines" in refused(order("", *[b"A"] * 600_000, end=end)).what
