"""Character sets of HL7 v2 messages: what is declared, what is really there, and what is done when they differ."""

from __future__ import annotations

import pytest

from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.errors import CodecError
from tests.rigs.need import require_data


def message(name: str, codec: str, declared: str = "", default: str = "") -> Hl7Message:
    text = f"MSH|^~\\&|RIS|R|B|H|2026||ADT^A08|1|P|2.5|||||FRA|{declared}\rPID|||A||{name}^Zoé\r"
    return parse(text.encode(codec), default)


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("8859/1", "iso8859-1"),
        ("8859/15", "iso8859-15"),
        ("8859/2", "iso8859-2"),
        ("ISO-8859-1", "iso8859-1"),
        ("UNICODE UTF-8", "utf-8"),
        ("UNICODE", "utf-8"),
        ("UTF-8", "utf-8"),
        ("Windows-1252", "cp1252"),
        ("8859/1~8859/15", "iso8859-1"),
        ("KS X 1001", "euc_kr"),
    ],
)
def test_text_is_read_in_the_declared_character_set(declared: str, codec: str) -> None:
    name = "김" if codec == "euc_kr" else "Čapek" if codec == "iso8859-2" else "Épreuve"
    given = f"MSH|^~\\&|RIS|R|B|H|2026||ADT^A08|1|P|2.5|||||FRA|{declared}\rPID|||A||{name}^X\r".encode(codec)

    read = parse(given)

    assert read.get("PID-5.1") == name
    assert read.charset == codec
    assert read.warnings == ()


def test_repetitions_of_the_declaration_are_parted_as_the_message_says() -> None:
    given = "MSH|*#!$|RIS|R|B|H|2026||ADT*A08|1|P|2.5||||||8859/15#8859/1\rPID|||A||Épreuve*X\r".encode("iso8859-15")

    read = parse(given)

    assert (read.charset, read.get("PID-5.1"), read.warnings) == ("iso8859-15", "Épreuve", ())


def test_utf_8_bytes_under_an_8859_label_are_read_as_utf_8_and_told() -> None:
    read = message("Épreuve", "utf-8", "8859/1")

    assert read.get("PID-5") == "Épreuve^Zoé"
    assert read.charset == "utf-8"
    assert read.header.warnings == ("labelled 8859/1, but the bytes are UTF-8: read as UTF-8",)


def test_the_published_order_that_is_utf_8_under_an_8859_label_is_read() -> None:
    raw = require_data("hl7", "dcm4che", "OMI_O23-ImagingOrder.hl7").read_bytes()

    read = parse(raw)

    assert read.charset == "utf-8"
    assert raw.decode("utf-8").count("\r") == len(read.names) - 1
    assert len(read.warnings) == 1


def test_windows_bytes_under_8859_1_are_read_as_windows_1252_and_told() -> None:
    read = message("L’Œuvre", "cp1252", "8859/1")

    assert read.get("PID-5.1") == "L’Œuvre"
    assert len(read.warnings) == 1


def test_nothing_declared_is_utf_8_else_windows_1252_and_both_are_told() -> None:
    as_utf_8, as_windows = message("Épreuve", "utf-8"), message("Épreuve", "cp1252")

    assert as_utf_8.get("PID-5.1") == as_windows.get("PID-5.1") == "Épreuve"
    assert (as_utf_8.charset, as_windows.charset) == ("utf-8", "cp1252")
    assert len(as_utf_8.warnings) == len(as_windows.warnings) == 1


def test_nothing_declared_and_only_ascii_needs_no_warning() -> None:
    read = parse(b"MSH|^~\\&|RIS|R|B|H|2026||ADT^A08|1|P|2.5\r")

    assert (read.charset, read.warnings) == ("utf-8", ())


def test_the_channels_character_set_holds_when_the_message_declares_none() -> None:
    read = message("Š€", "iso8859-15", default="8859/15")

    assert read.get("PID-5.1") == "Š€"
    assert read.warnings == ()
    assert message("Š€", "iso8859-15", "8859/15", default="8859/1").get("PID-5.1") == "Š€"


@pytest.mark.parametrize(
    ("declared", "default"), [("UNICODE UTF-8", ""), ("ASCII", ""), ("", "UNICODE UTF-8"), ("", "ASCII")]
)
def test_bytes_outside_the_declared_character_set_are_refused_where_they_are(declared: str, default: str) -> None:
    with pytest.raises(CodecError) as caught:
        message("Épreuve", "iso8859-1", declared, default)

    assert caught.value.at == "PID-5"
    assert "MSH-18" in caught.value.fix


def test_the_place_of_a_bad_byte_is_found_far_into_a_long_message() -> None:
    raw = b"MSH|^~\\&|RIS|R|B|H|2026||ORU^R01|1|P|2.5|||||FRA|UNICODE UTF-8\rOBX|1|TX|A||"
    raw += "é".encode() * 100_000 + b"\rOBX|2|TX|B||ok|caf\xe9\r"

    with pytest.raises(CodecError) as caught:
        parse(raw)

    assert caught.value.at == "OBX-6"


def test_an_unknown_character_set_is_refused() -> None:
    with pytest.raises(CodecError) as caught:
        message("A", "utf-8", "KLINGON")

    assert (caught.value.at, caught.value.kind) == ("MSH-18", "code")


@pytest.mark.parametrize(
    ("declared", "codec"), [("ISO IR87", "iso2022_jp_2"), ("~ISO IR87", "iso2022_jp_2"), ("BIG-5", "big5")]
)
def test_text_whose_bytes_look_like_delimiters_is_split_only_after_decoding(declared: str, codec: str) -> None:
    name = "許功蓋" if codec == "big5" else "万五共京几"
    text = f"MSH|^~\\&|RIS|R|B|H|2026||ADT^A08|1|P|2.5|||||JPN|{declared}\rPID|||A||{name}^B||19800101\r"
    raw = text.encode(codec)

    read = parse(raw)
    editor = read.edit()
    editor.set("PID-8", "F")

    assert any(mark in name.encode(codec) for mark in b"|^&~\\")
    assert (read.get("PID-5.1"), read.get("PID-5.2"), read.get("PID-7")) == (name, "B", "19800101")
    assert read.edit().encode() is raw
    assert editor.encode() == text.replace("19800101\r", "19800101|F\r").encode(codec)
