"""Reading HL7 v2: segments, paths, escapes, views and the header."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.codecs.hl7v2 import NULL, Hl7Message, compile_path, parse
from bridge.errors import CodecError
from tests.rigs.need import require_data

MSH = b"MSH|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102030405||ORM^O01^ORM_O01|C1|P|2.5.1\r"


def order(*lines: bytes, msh: bytes = MSH) -> Hl7Message:
    return parse(msh + b"\r".join(lines) + b"\r")


def samples() -> list[Path]:
    return sorted(require_data("hl7").glob("*/*.hl7"))


# paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("PID-3", "A^^^HOSP&1.2.3&ISO"),
        ("PID-3.1", "A"),
        ("PID-3.1.1", "A"),
        ("PID-3.4", "HOSP&1.2.3&ISO"),
        ("PID-3.4.2", "1.2.3"),
        ("PID-3[2].1", "B"),
        ("PID-3[2].4.1", "OTHER"),
        ("PID-3[4.1=OTHER].1", "B"),
        ("PID-3[4.1=NOBODY].1", ""),
        ("PID-3[3].1", ""),
        ("PID-5.1.2", "de"),
        ("PID-9", ""),
        ("PID-5.9", ""),
        ("PID-5.1.9", ""),
        ("OBX(2)-5", "second"),
        ("OBX(3.1=H)-5", "third"),
        ("OBX(9)-5", ""),
        ("ZZZ-1", ""),
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-9.2", "O01"),
        ("MSH-12", "2.5.1"),
    ],
)
def test_a_path_finds_its_value(path: str, expected: str) -> None:
    message = order(
        b"PID|||A^^^HOSP&1.2.3&ISO~B^^^OTHER||Testone&de^Alice",
        b"OBX|1|TX|W^weight||first",
        b"OBX|2|TX|W^weight||second",
        b"OBX|3|TX|H^height||third",
    )

    assert message.get(path) == expected


def test_all_gives_every_repetition_of_every_occurrence_and_keeps_the_empty_ones_in_step() -> None:
    message = order(b"PID|||A~~B", b"OBX|1|TX|X||line one", b"OBX|2|TX|X||", b"OBX|3|TX|X||line three")

    assert message.all("PID-3.1") == ["A", "", "B"]
    assert message.all("OBX-5") == ["line one", "", "line three"]
    assert message.all("OBX(3)-5") == ["line three"]
    assert message.all("ZZZ-1") == []


def test_parts_take_a_value_apart_before_anything_is_unescaped() -> None:
    message = order(b"PID|||A^^^H\\T\\K&1.2||Testone&de^Al\\S\\ice~Second^B")

    assert message.parts("PID-3") == [["A"], [""], [""], ["H&K", "1.2"]]
    assert message.all_parts("PID-5") == [[["Testone", "de"], ["Al^ice"]], [["Second"], ["B"]]]
    assert message.parts("PID-3.4") == [["H&K", "1.2"]]


@pytest.mark.parametrize(
    "text",
    ["PID", "PID-", "pid-3", "PID-0", "PID-3.0", "PID-3[0]", "PID-3[x].1", "OBX(a)-5", "PID-1.1.1.1", "PID-3[1.2.3=x]"],
)
def test_what_is_not_a_path_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(CodecError) as caught:
        compile_path(text)

    assert caught.value.at == text
    assert "PID-3[4.1=HOSP].1" in caught.value.fix


# values


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        (b"line one\\.br\\line two", "line one\nline two"),
        (b"\\H\\bold\\N\\ plain", "bold plain"),
        (b"\\X41\\\\X4243\\", "ABC"),
        (b"caf\\XC3A9\\", "café"),
        (b"\\XFF\\", "\\XFF\\"),
        (b"\\X4\\", "\\X4\\"),
        (b"\\Zlocal\\ \\.ce\\ \\Q\\", "\\Zlocal\\ \\.ce\\ \\Q\\"),
        (b"C:\\temp\\new", "C:\\temp\\new"),
        (b"\\E\\F\\E\\", "\\F\\"),
        (b"ends with \\", "ends with \\"),
    ],
)
def test_escape_sequences_are_read_and_unknown_ones_kept(raw: bytes, expected: str) -> None:
    assert order(b"NTE|1||" + raw).get("NTE-3") == expected


def test_an_escaped_carriage_return_makes_no_segment() -> None:
    message = order(b"NTE|1||first\\X0D\\PID|||EVIL", b"PID|||GOOD")

    assert message.names == ["MSH", "NTE", "PID"]
    assert message.get("PID-3") == "GOOD"
    assert message.get("NTE-3") == "first\rPID"


def test_null_and_empty_are_kept_apart() -> None:
    message = order(b'PID|||A||""||19800101|')

    assert message.get("PID-5") == NULL == '""'
    assert message.get("PID-6") == ""
    assert message.get("PID-8") == ""


def test_delimiters_come_from_the_message() -> None:
    message = parse(b"MSH$%*!@$RIS$$$$$$ADT%A08$7$P$2.4\rPID$$$A%%%H@1.2*B$$O'Test!S!%one|^~&\r")

    assert message.header.type == "ADT^A08"
    assert message.get("PID-3.4.2") == "1.2"
    assert message.get("PID-3[2].1") == "B"
    assert message.get("PID-5.1") == "O'Test%"
    assert message.get("PID-5.2") == "one|^~&"


def test_a_message_without_escape_and_subcomponent_characters_is_read() -> None:
    message = parse(b"MSH|^~|RIS||||||ADT^A08|7|P|2.2\rPID|||A\\F\\&B^C\r")

    assert message.get("PID-3.1") == "A\\F\\&B"
    assert message.get("PID-3.2") == "C"


def test_the_truncation_character_of_2_7_is_escaped_as_p() -> None:
    message = parse(b"MSH|^~\\&#|RIS||||||ADT^A08|7|P|2.7\rNTE|1||tag \\P\\1\r")

    assert message.get("NTE-3") == "tag #1"
    assert message.get("MSH-2") == "^~\\&#"


# lines


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n", b"\r\r", b"\n\n"])
def test_every_kind_of_line_end_is_read(end: bytes) -> None:
    message = parse((MSH + b"PID|||A\rPV1||O").replace(b"\r", end))

    assert message.names == ["MSH", "PID", "PV1"]
    assert message.get("PID-3") == "A"
    assert message.warnings == ()


def test_a_line_feed_inside_a_segment_is_text_and_told() -> None:
    message = parse(MSH + b"NTE|1||line one\nline two\rPID|||A\r")

    assert message.get("NTE-3") == "line one\nline two"
    assert message.warnings == ("a line feed inside segment 2",)


def test_a_byte_order_mark_and_blank_lines_before_msh_are_allowed() -> None:
    message = parse(b"\xef\xbb\xbf\r\n" + MSH + "PID|||É\r".encode())

    assert message.get("PID-3") == "É"
    assert message.charset == "utf-8"
    assert message.warnings == ()


def test_a_line_that_is_no_segment_is_kept_and_told() -> None:
    message = parse(MSH.replace(b"\r", b"\n") + b"OBX|1|TX|X||wrapped\ntext of a report\nOBXX|1\nPID|||A\n")

    assert message.warnings == ("line 3 is not a segment", "line 4 is not a segment")
    assert message.edit().encode() == message.raw
    assert message.get("PID-3") == "A"


@pytest.mark.parametrize(
    ("raw", "at", "what"),
    [
        (b"", "MSH", "empty"),
        (b" \r\n", "MSH", "empty"),
        (b"PID|||A\r", "MSH", "does not begin"),
        (b"GET / HTTP/1.1\r\n", "MSH", "does not begin"),
        (b"MSH", "MSH-1", "ends before"),
        (b"MSH|\rPID|1", "MSH-1", "ends before"),
        (b"MSH|^|A|B|C|D|1||ORM^O01|1|P|2.5\r", "MSH-2", "too few"),
        (b"MSH|^~\\&#!|A|B|C|D|1||ORM^O01|1|P|2.5\r", "MSH-2", "too many"),
        (b"MSH|^~^&|A|B|C|D|1||ORM^O01|1|P|2.5\r", "MSH-2", "twice"),
        (b"MSH|^|~&|A|B|C|D|1||ORM^O01|1|P|2.5\r", "MSH-2", "too few"),
        (b"MSH|ABCD|A|B|C|D|1||ORM^O01|1|P|2.5\r", "MSH-2", "punctuation"),
        (b"MSHA^~\\&ARISA\r", "MSH-2", "punctuation"),
        (b"MSH|^~\\&|A|B|C|D|1\r", "MSH-9", "type missing"),
        (b"MSH|^~\\&|A|B|C|D|1|||1|P|2.5\r", "MSH-9", "type missing"),
        (b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + MSH, "FHS", "batch"),
        (b"BHS|^~\\&|A\r" + MSH, "BHS", "batch"),
        (MSH + b"PID|||A\r" + MSH, "segment 3", "another message"),
        (MSH.decode().encode("utf-16"), "MSH", "UTF-16"),
        (MSH.decode().encode("utf-16-le"), "MSH", "UTF-16"),
    ],
)
def test_a_broken_message_is_refused_with_place_and_fix(raw: bytes, at: str, what: str) -> None:
    with pytest.raises(CodecError) as caught:
        parse(raw)

    assert caught.value.at == at
    assert what in caught.value.what
    assert caught.value.fix


# views


def test_each_order_sees_its_own_segments_first_and_the_patient_after() -> None:
    message = order(
        b"PID|||P1",
        b"NTE|1||for the patient",
        b"ORC|NW|1",
        b"OBR|1|1||CT",
        b"NTE|1||for order 1",
        b"ORC|NW|2",
        b"OBR|2|2||MR",
    )

    first, second = message.split("ORC")

    assert [view.get("OBR-4") for view in (first, second)] == ["CT", "MR"]
    assert [view.get("PID-3") for view in (first, second)] == ["P1", "P1"]
    assert first.all("NTE-3") == ["for order 1", "for the patient"]
    assert second.all("NTE-3") == ["for the patient"]
    assert [segment.name for segment in second.segments()] == ["ORC", "OBR", "MSH", "PID", "NTE"]
    assert message.split("IPC") == []


def test_the_orc_before_an_obr_belongs_to_that_obr() -> None:
    message = order(
        b"PID|||P1", b"ORC|RE|1", b"OBR|1||F1", b"OBX|1|TX", b"ORC|RE|2", b"TQ1|1", b"OBR|2||F2", b"OBR|3||F3"
    )

    views = message.split("OBR")

    assert [(view.get("ORC-2"), view.get("OBR-3")) for view in views] == [("1", "F1"), ("2", "F2"), ("", "F3")]
    assert [len(view.segments("OBX")) for view in views] == [1, 0, 0]


def test_a_slice_of_a_slice_still_sees_its_order_and_the_patient() -> None:
    message = order(
        b"PID|||P1", b"ORC|NW|1", b"OBR|1", b"IPC|A1|R1||S1", b"IPC|A1|R1||S2", b"ORC|NW|2", b"OBR|2", b"IPC|A2|R2||S3"
    )

    found = [
        (step.get("IPC-4"), step.get("ORC-2"), step.get("PID-3"))
        for one in message.split("ORC")
        for step in one.split("IPC")
    ]

    assert found == [("S1", "1", "P1"), ("S2", "1", "P1"), ("S3", "2", "P1")]


def test_a_segment_is_read_alone() -> None:
    message = order(b"OBX|1|TX|A||x", b"OBX|2|TX|B||y")

    assert [(one.number, one.get("OBX-3"), one.raw) for one in message.segments("OBX")] == [
        (1, "A", b"OBX|1|TX|A||x"),
        (2, "B", b"OBX|2|TX|B||y"),
    ]


# header


def test_the_header_names_what_the_engine_needs() -> None:
    message = order(
        b"PID||OLD|1^^^HOSP&1.2.3&ISO^PI~2^^^&1.2.4&ISO^INS~~3",
        b"MRG|9^^^HOSP",
        b"ORC|NW|P1^RIS|F1^^1.2.5^ISO",
        b"OBR|1|P1^RIS|F1^^1.2.5^ISO|CT||||||||||||||A1",
        b"OBR|2|P2||MR||||||||||||||A2",
    )

    header = message.header

    assert (header.type, header.control_id, header.sender, header.version) == ("ORM^O01", "C1", "RIS|RADIO", "2.5.1")
    assert header.patients == ("1^HOSP", "2^1.2.4", "3^", "9^HOSP")
    assert header.orders == ("placer:P1^RIS", "filler:F1^1.2.5", "placer:P2^")
    assert header.accession == "A1"
    assert (header.test, header.charset, header.warnings) == (False, "utf-8", ())


@pytest.mark.parametrize(("pid", "expected"), [(b"PID||2^^^H", "2^H"), (b"PID||||4^^^H~5", "4^H"), (b'PID||2|""', "")])
def test_the_patient_is_in_pid_2_or_4_when_pid_3_is_empty(pid: bytes, expected: str) -> None:
    assert order(pid).header.patients[:1] == ((expected,) if expected else ())


def test_an_appointment_knows_its_order_and_ipc_goes_before_obr_18() -> None:
    message = order(b"SCH|" + b"|" * 24 + b"|P1^RIS|F1^RIS", b"OBR|1" + b"|" * 17 + b"B1", b"IPC|A1^RIS")

    assert message.header.orders == ("placer:P1^RIS", "filler:F1^RIS")
    assert message.header.accession == "A1"


@pytest.mark.parametrize(("mode", "expected"), [(b"P", False), (b"T", True), (b"D^A", True), (b"", False)])
def test_training_and_debugging_are_test_messages(mode: bytes, expected: bool) -> None:
    assert parse(MSH.replace(b"|P|", b"|" + mode + b"|")).header.test is expected


def test_the_digest_leaves_the_time_of_sending_out_and_nothing_else() -> None:
    raw = MSH + b"PID|||A\r"
    digest = parse(raw).header.digest

    assert len(digest) == 16
    assert parse(raw.replace(b"20260102030405", b"20270101")).header.digest == digest
    assert parse(raw.replace(b"20260102030405", b"")).header.digest == digest
    assert parse(raw.replace(b"|C1|", b"|C2|")).header.digest != digest
    assert parse(raw.replace(b"|||A", b"|||B")).header.digest != digest


def test_a_missing_control_id_is_told() -> None:
    assert parse(MSH.replace(b"|C1|", b"||")).header.warnings == ("MSH-10 is empty",)


# published samples and size


def test_every_published_sample_is_read_and_comes_back_byte_for_byte() -> None:
    for path in samples():
        raw = path.read_bytes()
        message = parse(raw)

        assert message.edit().encode() is raw, path.name
        assert message.header.type.count("^") == 1, path.name
        assert message.header.control_id, path.name
        assert "MSH" in message.names and "" not in message.names, path.name


def test_a_report_of_20_megabytes_is_read_without_splitting_its_document() -> None:
    document = b"QUJD" * 5_000_000
    message = parse(MSH + b"PID|||A\rOBX|1|ED|PDF||^application^pdf^Base64^" + document + b"||||||F\rNTE|1||end\r")

    assert message.header.patients == ("A^",)
    assert message.get("OBX-3") == "PDF"
    assert message.get("OBX-11") == "F"
    assert message.get("OBX-5.4") == "Base64"
    assert len(message.get("OBX-5.5")) == len(document)
    assert message.get("NTE-3") == "end"
