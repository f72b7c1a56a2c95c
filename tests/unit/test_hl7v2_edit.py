"""Editing HL7 v2 in place: only what is named changes."""

from __future__ import annotations

import pytest

from bridge.codecs.editor import Editor
from bridge.codecs.hl7v2 import parse
from bridge.errors import CodecError
from tests.rigs.need import require_data

MSH = b"MSH|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102030405||ORM^O01^ORM_O01|C1|P|2.5.1\r"
BODY = MSH + b"PID|||A^^^HOSP&1.2.3&ISO~B^^^OTHER||Testone^Alice|\rOBX|1|TX|W||first\rOBX|2|TX|H||second\r"


def edited(path: str, text: str, raw: bytes = BODY) -> bytes:
    editor = parse(raw).edit()
    editor.set(path, text)
    return editor.encode()


@pytest.mark.parametrize(
    ("path", "text", "before", "after"),
    [
        ("PID-5.1", "Testtwo", b"Testone^Alice", b"Testtwo^Alice"),
        ("PID-5.3", "Zoe", b"Testone^Alice", b"Testone^Alice^Zoe"),
        ("PID-5.1.2", "de", b"Testone^Alice", b"Testone&de^Alice"),
        ("PID-5", "whole", b"Testone^Alice", b"whole"),
        ("PID-3.1", "C", b"A^^^HOSP", b"C^^^HOSP"),
        ("PID-3[2].1", "C", b"~B^", b"~C^"),
        ("PID-3[4.1=OTHER].4.2", "9.9", b"B^^^OTHER", b"B^^^OTHER&9.9"),
        ("PID-3[3].1", "C", b"^OTHER", b"^OTHER~C"),
        ("PID-3[*].5", "PI", b"A^^^HOSP&1.2.3&ISO~B^^^OTHER", b"A^^^HOSP&1.2.3&ISO^PI~B^^^OTHER^PI"),
        ("PID-3", "C", b"A^^^HOSP&1.2.3&ISO~B^^^OTHER", b"C"),
        ("PID-8", "F", b"Alice|\r", b"Alice|||F\r"),
        ("OBX(2)-5", "other", b"second", b"other"),
        ("OBX(3=H)-5", "other", b"second", b"other"),
        ("OBX-5", "other", b"first", b"other"),
        ("MSH-5", "PACS", b"|BRIDGE|", b"|PACS|"),
        ("MSH-15", "AL", b"2.5.1\r", b"2.5.1|||AL\r"),
        ("PID-5.1", "a|b^c&d~e\\f", b"Testone", b"a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f"),
        ("OBX-5", "one\ntwo\rthree\x0b", b"first", b"one\\.br\\two\\X0D\\three\\X0B\\"),
        ("PID-5.1", "Épreuve", b"Testone", "Épreuve".encode()),
        ("PID-5.2", "", b"Testone^Alice", b"Testone^"),
        ("PID-9.4", "", b"", b""),
    ],
)
def test_a_value_set_changes_itself_and_no_other_byte(path: str, text: str, before: bytes, after: bytes) -> None:
    assert edited(path, text) == BODY.replace(before, after, 1)


def test_setting_every_occurrence() -> None:
    assert edited("OBX(*)-11", "F").count(b"||||||F\r") == 2


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r"])
def test_line_ends_blank_lines_and_a_missing_last_end_stay(end: bytes) -> None:
    raw = b"\xef\xbb\xbf" + BODY.replace(b"\r", end).removesuffix(end)

    assert edited("OBX(2)-5", "other", raw) == raw.replace(b"second", b"other")


def test_editing_one_field_of_every_published_sample_changes_only_that_field() -> None:
    for path in sorted(require_data("hl7").glob("*/*.hl7")):
        message = parse(path.read_bytes())
        old = message.get("MSH-6")
        editor = message.edit()
        editor.set("MSH-6.1", "OTHER PLACE")
        after = editor.encode()

        again = parse(after)
        assert again.get("MSH-6.1") == "OTHER PLACE", path.name
        assert after.replace(b"OTHER PLACE", message.get("MSH-6.1").encode(), 1) == message.raw, path.name
        assert parse(message.raw).get("MSH-6") == old
        assert [one.raw for one in again.segments()][1:] == [one.raw for one in message.segments()][1:], path.name


def test_null_delete_and_copy() -> None:
    editor = parse(BODY).edit()
    editor.set_null("PID-5")
    editor.delete("PID-3[4.1=OTHER]")
    editor.delete("OBX-3")
    editor.delete("PID-30")
    editor.delete("ZZZ-1")
    editor.copy("PID-3", "PID-18")
    editor.copy("PID-9", "PID-3")

    assert editor.encode().split(b"\r")[1:3] == [
        b'PID|||A^^^HOSP&1.2.3&ISO||""|||||||||||||A^^^HOSP&1.2.3&ISO',
        b"OBX|1|TX|||first",
    ]


def test_deleting_a_component_leaves_the_others_where_they_are() -> None:
    editor = parse(BODY).edit()
    editor.delete("PID-3.4.2")
    editor.delete("PID-3[*].1")

    assert b"|^^^HOSP&&ISO~^^^OTHER|" in editor.encode()


def test_er7_is_put_as_it_is_where_it_fits() -> None:
    editor = parse(BODY).edit()
    editor.set_er7("PID-3", "C^^^X&1.9&ISO~D")
    editor.set_er7("PID-5.1", "Test&de")

    assert editor.encode() == BODY.replace(b"A^^^HOSP&1.2.3&ISO~B^^^OTHER", b"C^^^X&1.9&ISO~D").replace(
        b"Testone", b"Test&de"
    )


@pytest.mark.parametrize(
    ("path", "er7"),
    [("PID-3", "a|b"), ("PID-3", "a\rPID|b"), ("PID-3[1]", "a~b"), ("PID-3.1", "a^b"), ("PID-3.1.1", "a&b")],
)
def test_er7_that_would_break_out_of_its_place_is_refused(path: str, er7: str) -> None:
    with pytest.raises(CodecError) as caught:
        parse(BODY).edit().set_er7(path, er7)

    assert caught.value.at == path


def test_segments_are_added_and_removed_and_take_values_at_once() -> None:
    editor = parse(BODY).edit()
    editor.remove_segment("OBX", 1)
    editor.add_segment("PV1", after="PID")
    editor.set("PV1-2", "O")
    editor.add_segment("ZDS")
    editor.set("ZDS-1", "1.2.3")

    assert editor.encode() == BODY.replace(b"OBX|1|TX|W||first\r", b"PV1||O\r") + b"ZDS|1.2.3\r"


def test_a_segment_added_after_an_unfinished_last_line_keeps_the_style() -> None:
    raw = BODY.replace(b"\r", b"\r\n").removesuffix(b"\r\n")
    editor = parse(raw).edit()
    editor.add_segment("ZDS")
    editor.set("ZDS-1", "1")

    assert editor.encode() == raw + b"\r\nZDS|1"


def test_removing_every_segment_of_a_name() -> None:
    editor = parse(BODY).edit()
    editor.remove_segment("OBX")
    editor.remove_segment("ZZZ")

    assert editor.encode() == BODY[: BODY.index(b"OBX")]


def test_an_edit_leaves_the_message_it_came_from_alone() -> None:
    message = parse(BODY)
    editor = message.edit()
    editor.set("PID-5.1", "other")
    editor.encode()

    assert message.get("PID-5.1") == "Testone"
    assert message.edit().encode() is BODY


def test_a_later_edit_sees_an_earlier_one() -> None:
    editor = parse(BODY).edit()
    editor.set("OBX(2)-3", "X")
    editor.set("OBX(3=X)-5", "found")
    editor.set("PID-3[2].4.1", "NEW")
    editor.set("PID-3[4.1=NEW].1", "found")

    assert editor.encode().count(b"found") == 2


@pytest.mark.parametrize(
    ("path", "at"),
    [("ZDS-1", "ZDS-1"), ("OBX(9)-5", "OBX(9)-5"), ("OBX(3=Q)-5", "OBX(3=Q)-5"), ("PID-3[4.1=Q].1", "PID-3[4.1=Q].1"),
     ("MSH-1", "MSH-1"), ("MSH-2", "MSH-2"), ("PID", "PID")],
)  # fmt: skip
def test_what_cannot_be_set_is_refused_naming_the_path(path: str, at: str) -> None:
    with pytest.raises(CodecError) as caught:
        parse(BODY).edit().set(path, "x")

    assert caught.value.at == at
    assert caught.value.fix


def test_msh_cannot_be_removed_nor_a_bad_segment_added() -> None:
    editor = parse(BODY).edit()

    with pytest.raises(CodecError):
        editor.remove_segment("MSH")
    for name in ("zds", "A\rB", "ZDSX", ""):
        with pytest.raises(CodecError):
            editor.add_segment(name)
    with pytest.raises(CodecError, match="no such segment"):
        editor.add_segment("ZDS", after="PV1")


# character sets


def declared(charset: bytes, name: bytes = b"Testone") -> Editor:
    return parse(MSH.replace(b"2.5.1", b"2.5.1||||||" + charset) + b"PID|||A||" + name + b"\r").edit()


@pytest.mark.parametrize(("charset", "text"), [(b"ASCII", "é"), (b"8859/1", "€"), (b"8859/15", "ÿ Ź"), (b"", "\ud800")])
def test_text_that_the_character_set_lacks_is_refused_naming_the_path(charset: bytes, text: str) -> None:
    with pytest.raises(CodecError) as caught:
        declared(charset).set("PID-5.1", text)

    assert caught.value.at == "PID-5.1"
    assert "U+" in caught.value.what


def test_text_is_written_in_the_character_set_that_the_message_really_uses() -> None:
    latin, mislabelled = declared(b"8859/15"), declared(b"8859/1", "Zoé".encode())
    latin.set("PID-6", "Œ€")
    mislabelled.set("PID-6", "€")

    assert latin.encode().endswith("|Œ€\r".encode("iso8859-15"))
    assert mislabelled.encode().endswith("|Zoé|€\r".encode())


def test_setting_msh_18_writes_the_whole_message_in_that_character_set() -> None:
    editor = declared(b"8859/1", "Zoé".encode("iso8859-1"))
    editor.set("MSH-18", "UNICODE UTF-8")
    editor.set("PID-6", "€")

    assert editor.encode() == MSH.replace(b"2.5.1", b"2.5.1||||||UNICODE UTF-8") + "PID|||A||Zoé|€\r".encode()


def test_a_character_set_that_lacks_text_of_the_message_is_refused() -> None:
    editor = declared(b"UNICODE UTF-8", "€".encode())

    with pytest.raises(CodecError) as caught:
        editor.set("MSH-18", "8859/1")

    assert caught.value.at == "MSH-18"


def test_without_an_escape_character_a_delimiter_cannot_be_written() -> None:
    editor = parse(b"MSH|^~|RIS||||||ADT^A08|7|P|2.2\rPID|||A\r").edit()
    editor.set("PID-5", "plain & simple")

    with pytest.raises(CodecError) as caught:
        editor.set("PID-5", "a^b")

    assert caught.value.at == "PID-5"
    assert editor.encode().endswith(b"PID|||A||plain & simple\r")
