"""Any bytes as a message: refused with a reason or read whole, written back as it was, edited only where named, and
always answered with an acknowledgement that can be read."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from zlib import crc32

from tests.fuzz.harness import fuzz, instrumented

with instrumented(__name__):
    from bridge.codecs import batch
    from bridge.codecs.ack import acknowledge, asks_for_nothing, read_ack, wanted
    from bridge.codecs.adt import identity_event
    from bridge.codecs.hl7v2 import Hl7Message, Segment, parse
    from bridge.codecs.paths import compile_path
    from bridge.errors import BridgeError, CodecError

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_PATHS = ("MSH-9.2", "PID-3[4.1=H].1", "PID-3[*].4.2", "PID-5.1.2", "OBX(*)-5", "OBX(3=X)-5.1", "OBX(3.1=X)-5[2]",
          "MSH-1", "MSH-2", "ORC-3.2", "ZZ1-1", "PID-999.999.999")  # fmt: skip
_TEXTS = ("", "!", "a|b^c&d~e\\f#g", "one\ntwo\rthree", "é", "日", "\x0b\x1c\x1b$B", '""', "2.5.1", "8859/1", "x" * 300)
_FRAMES = b"\x0b\x1c"
_WRONG = CodecError("a value | that is ^ wrong", at="PID-3[2].1", fix="send \\ another é", kind="code")
_ACK = b"MSH|^~\\&|A|B|C|D|2026||ACK|1|P|2.5\rMSA|AA|1\r"
_LAST = 998
"""The last field that a path can name, counted as a segment is split."""
_SEPARATE = frozenset(b"\r\n")


def check(data: bytes) -> None:
    chance = Random(crc32(data))
    _read_paths(data)
    asks_for_nothing(data)
    _cut(data)
    try:
        read_ack(data)
    except CodecError as error:
        _told(error)
    try:
        message = parse(data)
    except CodecError as error:
        _told(error)
        _answer(None, data, error.face.ack, error)
        return
    _read(message, chance)
    _answer(message, data, "AA", None)
    _answer(message, data, "AE", _WRONG)
    assert message.edit().encode() is data
    for _ in range(4):
        _edit_one_field(message, chance)
    _edit_much(message, chance)


def _told(error: BridgeError) -> None:
    assert error.what and (error.fix or error.at), error
    str(error).encode()


def _read_paths(data: bytes) -> None:
    """A path may be any text too."""
    try:
        compile_path(data[:300].decode("utf-8", "replace"))
    except CodecError as error:
        _told(error)


def _cut(data: bytes) -> None:
    """The messages of a batch are stretches of it, in sequence, and each is answered in a batch."""
    if not batch.is_batch(data):
        return
    cut, at = batch.split(data), 0
    for message in cut.messages:
        assert message.startswith(b"MSH")
        at = data.index(message, at) + len(message)
    answer = batch.answer(cut, [[_ACK] for _ in cut.messages], control_id="R1", now=_NOW)
    assert batch.is_batch(answer) and not set(answer) & set(_FRAMES)
    assert batch.split(answer).messages == [_ACK] * len(cut.messages)


def _read(message: Hl7Message, chance: Random) -> None:
    """Some fields of every segment are read in every way, and nothing lies outside of segments."""
    header = message.header
    repr(header).encode("utf-8", "surrogatepass").decode()
    try:
        identity_event(message)
    except CodecError as error:
        _told(error)
    at = message.span(0)[0]
    for segment in message.segments():
        start, end, following = message.span(segment.number)
        assert start == at and set(message.body[end:following]) <= _SEPARATE
        at = following
        _read_segment(message, segment, chance)
    for path in _PATHS:
        found, values = message.get(path), message.all(path)
        assert not values or "=" in path or found == values[0]
        message.parts(path)
        message.all_parts(path)
    for anchor in ("ORC", "OBR", "OBX"):
        views = message.split(anchor)
        assert bool(views) == (anchor in message.names)
        for view in views:
            assert view.segments("MSH")
            assert view.get(f"{anchor}-1") == view.all(f"{anchor}-1")[0]


def _read_segment(message: Hl7Message, segment: Segment, chance: Random) -> None:
    marks, number, name = message.delimiters, segment.number, segment.name
    fields = message.fields(number)
    if number:
        assert marks.field.join(fields) == segment.raw
    if not name:
        return
    for index in {chance.randrange(len(fields)) for _ in range(5)}:
        assert message.field(number, index) == fields[index]
        if number:
            start, end = message.field_span(number, index)
            assert message.body[start:end] == fields[index]
        if 0 < index < _LAST:
            path = f"{name}-{index + (name == 'MSH')}"
            texts, parts = segment.all(path), segment.all_parts(path)
            assert len(parts) == len(texts) and segment.get(path) == texts[0]
            "".join(texts).encode()
            segment.get(f"{path}.2.1")


def _answer(message: Hl7Message | None, data: bytes, code: str, error: BridgeError | None) -> None:
    """Whatever came, the answer is a message, has the segments of an answer, and says what it was made to say."""
    assert set(wanted(message, error)) <= {"AA", "AE", "AR", "CA", "CE", "CR"}
    answer = acknowledge(message, data, code=code, control_id="R1", now=_NOW, error=error)
    assert not set(answer) & set(_FRAMES)
    back = parse(answer)
    assert back.names == ["MSH", "MSA", "ERR"][: 3 if error else 2], back.names
    assert back.header.type.startswith("ACK")
    assert (back.get("MSH-10"), back.get("MSA-1")) == ("R1", code)
    read = read_ack(answer)
    assert read.code == code and len(read.errors) == (error is not None)
    if error is not None:
        assert read.errors[0].code == error.face.hl7
    if message is not None and message.charset == back.charset:
        assert back.field(1, 2) == message.field(0, 9).translate(None, _FRAMES)


def _edit_one_field(message: Hl7Message, chance: Random) -> None:
    """The value set is read at its place, and all other bytes are as they were."""
    named = [segment for segment in message.segments() if segment.name]
    segment, text = chance.choice(named), chance.choice(_TEXTS)
    numbers = [one.number for one in named if one.name == segment.name]
    index = chance.randrange(1 + (segment.name == "MSH"), min(len(message.fields(segment.number)) + 3, _LAST))
    path = f"{segment.name}({numbers.index(segment.number) + 1})-{index + (segment.name == 'MSH')}"
    start, end = message.field_span(segment.number, index)
    missing = index + 1 - len(message.fields(segment.number))
    editor = message.edit()
    try:
        value = message.delimiters.escape_value(text)
        editor.set(path, text)
        after = editor.encode()
    except CodecError as error:
        _told(error)
        return
    if path in ("MSH(1)-18", "MSH-18") and text:
        return
    padding = message.delimiters.field * max(missing, 0) if text else b""
    expected = message.body[:start] + padding + value.encode(message.codec) + message.body[end:]
    if message.codec != message.charset:
        expected = expected.decode(message.codec).encode(message.charset)
    assert after == expected
    _read_again(message, after, path, text)


def _read_again(message: Hl7Message, after: bytes, path: str, text: str) -> None:
    if b"\x1b" in message.segment_bytes(0):
        return
    try:
        again = parse(after)
    except CodecError:
        assert path in ("MSH(1)-9", "MSH(1)-18")
        return
    assert again.names == message.names
    if again.charset == message.charset:
        assert again.get(path) == text


def _edit_much(message: Hl7Message, chance: Random) -> None:
    """A few edits of any kind: each is done or refused, and the result has the segments that it should have."""
    editor, names = message.edit(), list(message.names)
    for _ in range(chance.randint(1, 6)):
        path, other = _path(message, chance), _path(message, chance)
        try:
            match chance.randrange(8):
                case 0 | 1:
                    editor.set(path, chance.choice(_TEXTS))
                case 2:
                    editor.set_er7(path, chance.choice(("A^B&C", "~", "x\\F\\", "\x1b$B", "a\rb", "a|b")))
                case 3:
                    editor.set_null(path)
                case 4:
                    editor.copy(path, other)
                case 5:
                    editor.delete(path)
                case 6:
                    editor.add_segment("ZZ9", chance.choice(("", names[-1])))
                    names.append("ZZ9")
                case _:
                    editor.remove_segment("OBX")
                    names = [name for name in names if name != "OBX"]
        except CodecError as error:
            _told(error)
    try:
        after = editor.encode()
        if b"\x1b" in after:
            return
        again = parse(after)
    except CodecError as error:
        assert error.at.startswith("MSH-") or "character set" in error.fix, error
        return
    assert sorted(again.names) == sorted(names)


def _path(message: Hl7Message, chance: Random) -> str:
    name = chance.choice([name for name in message.names if name])
    occurrence = chance.choice(("", "", "(2)", "(*)", "(1=1)", "(3.1=X)"))
    repetition = chance.choice(("", "", "[1]", "[3]", "[*]", "[4.1=H]"))
    parts = chance.choice(("", "", ".1", ".4", ".2.2", ".5.1"))
    return f"{name}{occurrence}-{chance.choice((2, 3, 5, 9, 18, 30))}{repetition}{parts}"


if __name__ == "__main__":
    fuzz(check)
