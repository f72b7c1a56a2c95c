"""Any bytes under any label: read strictly in one character set or refused at the first byte that it lacks, and written
in another character set with the same text."""

from __future__ import annotations

from tests.fuzz.harness import fuzz, instrumented

with instrumented(__name__):
    from bridge.codecs.charset import OPAQUE, NotInCharset, codec_for, detect
    from bridge.codecs.hl7v2 import Hl7Message, parse
    from bridge.errors import CodecError

_LABELS = ("", "ASCII", "8859/1", "8859/15", "UNICODE UTF-8", "WINDOWS-1252", "ISO IR87", "~ISO IR159", "GB 18030-2000",
           "BIG-5", "KS X 1001", "8859/7", "8859/12", "utf-8", "UNICODE UTF-16", "ISO IR6~ISO IR14")  # fmt: skip
_LARGE = 1 << 16


def check(data: bytes) -> None:
    """The last two bytes of ``data`` choose the labels; the rest is the message, and a label too."""
    text, control = data[:-2], data[-2:].rjust(2, b"\0")
    declared, other = _LABELS[control[0] % 16], _LABELS[control[1] % 16]
    _detect(text, declared, other)
    _detect(text, other, "")
    _detect(b"x" * (_LARGE - 1 - control[1] % 4) + text, declared, "")
    _name(text[:40].decode("iso8859-1"))
    try:
        message = parse(text, other)
    except CodecError:
        return
    _rewrite(message, declared)


def _detect(data: bytes, declared: str, default: str) -> None:
    try:
        found = detect(data, declared, default)
    except CodecError as error:
        assert error.fix and (_unknown(declared) or _unknown(default))
        return
    except NotInCharset as error:
        assert not _decodes(data, error.codec)
        assert 0 <= error.offset < max(len(data), 1)
        if error.codec not in OPAQUE:
            assert _decodes(data[: error.offset], error.codec) and not _decodes(data[: error.offset + 4], error.codec)
        return
    assert _decodes(data, found.codec)
    label = codec_for(declared) or codec_for(default)
    assert found.codec == label or found.warnings or data.isascii() or data.startswith(b"\xef\xbb\xbf")
    assert codec_for(found.codec) == found.codec


def _unknown(label: str) -> bool:
    try:
        codec_for(label)
    except CodecError:
        return True
    return False


def _name(label: str) -> None:
    """A name is a character set's, or refused; a codec's own name is the codec's."""
    if not _unknown(label):
        codec = codec_for(label)
        assert codec_for(codec) == codec


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _rewrite(message: Hl7Message, label: str) -> None:
    """The same message in another character set: every text as it was, or refused with the reason."""
    texts = _texts(message)
    editor = message.edit()
    try:
        editor.set("MSH-18", label)
        again = parse(editor.encode(), message.charset)
    except CodecError as error:
        assert error.what and error.fix
        return
    assert again.names == message.names
    if label and again.charset == codec_for(label):
        assert _texts(again) == texts


def _texts(message: Hl7Message) -> list[str]:
    """The text of every line but MSH, its escape sequences as they are."""
    return [segment.raw.decode(message.codec) for segment in message.segments() if segment.name != "MSH"]


if __name__ == "__main__":
    fuzz(check)
