"""Properties of the HL7 v2 codec and of MLLP framing that hold for any input."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.er7 import delimiters
from bridge.codecs.hl7v2 import parse
from bridge.codecs.mllp import Framer, TooLong, wrap
from bridge.errors import CodecError

DELIMITERS = st.sampled_from([b"|^~\\&", b"|^~\\&#", b"$%*!@", b"#:;?/"])
TRICKY = st.sampled_from("|^~\\&#$%*!@FSTREXH.br\r\n\x0b\x1c")
TEXT = st.text(st.one_of(TRICKY, st.characters(codec="utf-8")), max_size=60)
MSH = b"MSH|^~\\&|RIS|R|B|H|2026||ORM^O01|C1|P|2.5.1||||||UNICODE UTF-8\r"
ER7 = st.text(st.sampled_from("AB1|^~&\\é "), max_size=40)
SEGMENT = st.builds(lambda name, rest: f"{name}|{rest}", st.sampled_from(["PID", "OBX", "NTE", "ZZZ"]), ER7)
STREAM = st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n", b"A", b"BCD"]), max_size=60).map(b"".join)


@given(TEXT, DELIMITERS)
def test_escaped_text_holds_no_delimiter_and_comes_back(text: str, declared: bytes) -> None:
    marks = delimiters(declared)

    value = marks.escape_value(text)

    assert marks.unescape(value, "utf-8") == text
    assert not any(chr(byte) in value.replace(marks.escape_text, "") for byte in declared if byte != declared[3])
    assert not set(value) & set("\r\n\x0b\x1c")


@given(TEXT, st.sampled_from(["PID-5", "PID-5.2", "PID-3[2].4.2", "PID-30", "OBX(2)-5"]))
def test_text_set_at_a_path_is_read_there_and_nothing_else_changes(text: str, path: str) -> None:
    raw = MSH + b"PID|1||A^B~C^D||E^F&G|\rOBX|1|TX|x||y\rOBX|2|TX|x||y"
    editor = parse(raw).edit()
    editor.set(path, text)
    after = parse(editor.encode())

    assert after.get(path) == text
    editor = after.edit()
    editor.set(path, "!")
    other = parse(raw).edit()
    other.set(path, "!")
    if text:
        assert editor.encode() == other.encode()
    assert after.names == ["MSH", "PID", "OBX", "OBX"]


@given(st.lists(SEGMENT, max_size=6), st.sampled_from(["\r", "\n", "\r\n"]), st.booleans())
def test_whatever_parses_is_written_back_byte_for_byte(lines: list[str], end: str, last: bool) -> None:
    text = end.join([MSH.decode().rstrip("\r"), *lines]) + (end if last else "")
    message = parse(text.encode())
    editor = message.edit()
    editor.set("MSH-5", message.get("MSH-5"))

    assert message.edit().encode() is message.raw
    assert editor.encode() == message.raw
    assert message.names == ["MSH", *(line[:3] for line in lines)]


@given(st.binary(max_size=200), st.booleans())
def test_reading_either_refuses_or_reads_everything(tail: bytes, after_msh: bool) -> None:
    try:
        message = parse(MSH.replace(b"UNICODE UTF-8", b"8859/1") + tail if after_msh else tail)
    except CodecError as error:
        assert error.what and error.fix
        return
    assert message.header.digest
    for segment in message.segments():
        if segment.name:
            segment.all(f"{segment.name}-1")
            segment.all_parts(f"{segment.name}-3")


@given(STREAM, st.lists(st.integers(1, 9)), st.integers(1, 8))
def test_any_split_of_any_stream_gives_the_same_frames_and_loses_no_byte(
    stream: bytes, sizes: list[int], limit: int
) -> None:
    whole, split = Framer(limit), Framer(limit)
    expected = whole.feed(stream)

    frames: list[bytes | TooLong] = []
    rest = stream
    for size in [*sizes, len(stream)]:
        frames += split.feed(rest[:size])
        rest = rest[size:]
        payloads = sum(len(frame) for frame in frames if isinstance(frame, bytes))
        assert split.received == payloads + split.envelope + split.discarded + split.buffered

    assert frames == expected
    assert (split.discarded, split.envelope, split.sample) == (whole.discarded, whole.envelope, whole.sample)


@given(st.lists(st.binary(max_size=30).map(lambda data: data.translate(None, b"\x0b\x1c")), max_size=8))
def test_frames_come_out_as_they_went_in(payloads: list[bytes]) -> None:
    assert Framer(100).feed(b"".join(map(wrap, payloads))) == payloads
