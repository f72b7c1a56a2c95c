"""Character sets of HL7 v2 messages: MSH-18 (table 0211) to Python codecs, and what a message's bytes really are."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache

from bridge.errors import CodecError

ISO_2022 = "iso2022_jp_2"
_NAMES = {
    "ASCII": "ascii",
    "US-ASCII": "ascii",
    "ISO IR6": "ascii",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "ISO IR192": "utf-8",
    "WINDOWS-1252": "cp1252",
    "CP1252": "cp1252",
    "WINDOWS-1250": "cp1250",
    "ISO IR14": ISO_2022,
    "ISO IR87": ISO_2022,
    "ISO IR159": ISO_2022,
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
}
_CODECS = frozenset(_NAMES.values())
_LATIN = re.compile(r"(?:ISO[ _-]?)?8859[/_-](\d{1,2})")
SHIFTED = re.compile(rb"\x1b\$[^\x1b]*\x1b\([BJ]")
"""Text of an ISO 2022 set in more bytes than one, with the escapes around it; in it no byte is a delimiter."""
_NOT_LATIN_1 = re.compile(rb"[\x80-\x9f]")
FIX = "declare the character set that is really sent in MSH-18, for example UNICODE UTF-8 or 8859/1"
_CHUNK = 1 << 16
_LONGEST = 200

OPAQUE = frozenset({ISO_2022, "gb18030", "big5"})
"""Codecs in which a byte of a long character may look like a delimiter: such text is split only after decoding."""


@dataclass(frozen=True, slots=True)
class Charset:
    """What the bytes of one message are read with, and what had to be assumed for it."""

    codec: str
    warnings: tuple[str, ...] = ()


class NotInCharset(Exception):
    """Bytes that the declared character set does not have; ``offset`` is where, in bytes from the start."""

    def __init__(self, codec: str, offset: int) -> None:
        super().__init__(codec)
        self.codec, self.offset = codec, offset


@lru_cache(maxsize=256)
def codec_for(declared: str) -> str:
    """The Python codec for MSH-18 as written (repetitions parted by ``~``), or for a codec's own name.

    Empty when nothing is declared. With ISO 2022 sets among the repetitions the whole is one ISO 2022 stream;
    else the first repetition counts. Raises CodecError for a name outside table 0211 and its usual spellings.
    """
    if declared in _CODECS:
        return declared
    if len(declared) > _LONGEST:
        raise _unknown()
    names = [" ".join(name.upper().replace("_", " ", 1).split()) for name in declared.split("~")]
    names = [name.replace("ISO IR ", "ISO IR") for name in names]
    found = [_codec(name) for name in names if name]
    if ISO_2022 in found:
        return ISO_2022
    if not found:
        return ""
    return found[0] if names[0] else "ascii"


def _codec(name: str) -> str:
    latin = _LATIN.fullmatch(name)
    codec = f"iso8859-{int(latin[1])}" if latin else _NAMES.get(name, "")
    try:
        return codecs.lookup(codec).name
    except LookupError:
        raise _unknown() from None


def _unknown() -> CodecError:
    return CodecError("unknown character set", at="MSH-18", fix=FIX, kind="code")


def detect(data: bytes, declared: str, default: str = "") -> Charset:
    """Which codec reads ``data``, strictly: the declared one, unless the bytes prove that label wrong.

    Bytes that are UTF-8 under a single-byte label are UTF-8; C1 control codes under 8859/1 are Windows-1252. Nothing
    declared: ``default``, else UTF-8, else Windows-1252. Each such reading is in ``warnings``. Raises NotInCharset.
    """
    codec = codec_for(declared) or codec_for(default)
    if data.isascii() and codec not in OPAQUE:
        return _as_declared(codec or "utf-8")
    if data.startswith(codecs.BOM_UTF8):
        codec = "utf-8"
    if codec in OPAQUE or codec == "utf-8":
        _check(data, codec)
        return _as_declared(codec)
    label = declared if codec_for(declared) else default
    if _decodes(data, "utf-8"):
        told = f"labelled {label}" if codec else "without a character set in MSH-18"
        return Charset("utf-8", (f"{told}, but the bytes are UTF-8: read as UTF-8",))
    if not codec:
        _check(data, "cp1252")
        return Charset("cp1252", ("without a character set in MSH-18 and not UTF-8: read as Windows-1252",))
    if codec == "iso8859-1" and _NOT_LATIN_1.search(data) and _decodes(data, "cp1252"):
        return Charset("cp1252", (f"labelled {label}, but with bytes it lacks: read as Windows-1252",))
    _check(data, codec)
    return _as_declared(codec)


@lru_cache(maxsize=64)
def _as_declared(codec: str) -> Charset:
    return Charset(codec)


def _decodes(data: bytes, codec: str) -> bool:
    try:
        _check(data, codec)
    except NotInCharset:
        return False
    return True


def _check(data: bytes, codec: str) -> None:
    """Decode in pieces and forget the text: a 20 MB message costs no 20 MB of it. Raises NotInCharset."""
    if codec == "iso8859-1":
        return
    decoder = codecs.getincrementaldecoder(codec)("strict")
    view = memoryview(data)
    for start in range(0, len(data), _CHUNK):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(view[start : start + _CHUNK], start + _CHUNK >= len(data))
        except UnicodeDecodeError as error:
            raise NotInCharset(codec, max(0, start - pending) + error.start) from None
