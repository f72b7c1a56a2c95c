"""DICOM text: specific character sets both ways, transliteration, and the form in which names are compared.

Nothing here replaces a character in silence. Encoding is strict (:class:`Unfit`). Decoding, which only queries need,
turns what it cannot read into the wild card ``?``: the standard's own advice for a set that the SCP does not know
(PS3.4 C.2.2.2).
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding

from bridge.errors import CodecError

_SINGLE = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 192": "utf_8",
    "ISO_IR 203": "iso8859_15",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
"""Defined terms that stand alone (PS3.3 C.12.1.1.2) and their Python codec."""

_EXTENSIBLE = frozenset(term for term in python_encoding if term.startswith("ISO 2022 IR ")) | {"ISO_IR 13"}
"""Defined terms with escape sequences (PS3.5 6.1.2.5)."""

_LETTERS = str.maketrans(
    {
        "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Ø": "O", "ø": "o", "ß": "ss", "ẞ": "SS", "Ł": "L", "ł": "l",
        "Đ": "D", "đ": "d", "Ð": "D", "ð": "d", "Þ": "TH", "þ": "th", "Ħ": "H", "ħ": "h", "ı": "i", "ĸ": "k",
        "Ŋ": "N", "ŋ": "n", "Ŧ": "T", "ŧ": "t", "‘": "'", "’": "'", "ʼ": "'", "‚": "'", "“": '"', "”": '"', "„": '"',
        "«": '"', "»": '"', "–": "-", "—": "-", "‐": "-", "‑": "-", "…": "...", "€": "EUR",
        "\u00a0": " ", "\u202f": " ",
    }
)  # fmt: skip
"""Letters and marks that Unicode does not decompose, as they are commonly written in ASCII."""

_MARKS = re.compile("[\u0300-\u036f]")
_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, 0x5C}
_NAME_DELIMITERS = _DELIMITERS | {0x3D, 0x5E}


class Unfit(CodecError):
    """A character that the chosen character set lacks."""

    kind = "datatype"


def _wild(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "?", error.end


codecs.register_error("radbridge.wild", _wild)


def charset(text: str) -> str:
    """``text`` as the value of SpecificCharacterSet (0008,0005): a defined term, or several joined by backslashes.

    Raises CodecError (kind ``settings``) for a term that is not known, or cannot stand where it does.
    """
    terms = [term.strip() for term in text.split("\\")]
    alone = len(terms) == 1
    for place, term in enumerate(terms):
        if not (alone and term in _SINGLE) and not (term in _EXTENSIBLE or (not alone and place == 0 and not term)):
            raise CodecError(
                f"{term or 'an empty term'} is no DICOM character set here",
                fix="for example ISO_IR 192 (UTF-8), ISO_IR 100 (Latin-1) or \\ISO 2022 IR 87 (Japanese)",
                kind="settings",
            )
    return "\\".join(terms)


def is_charset(text: str) -> bool:
    """Whether :func:`charset` would take it."""
    try:
        charset(text)
    except CodecError:
        return False
    return True


def encode_text(value: str, into: str, *, name: bool = False) -> bytes:
    """``value`` in the character set ``into``; ``name`` for PN, whose delimiters end an escape. Raises Unfit."""
    if value.isascii() and "\\" not in into:
        return value.encode("ascii")
    codec = _SINGLE.get(into)
    if codec is not None:
        try:
            return value.encode(codec)
        except UnicodeEncodeError:
            raise Unfit(f"a character is not in {into or 'the default repertoire'}") from None
    encodings = _encodings(into)
    if not all(_fits(character, encodings) for character in value):
        raise Unfit(f"a character is not in {into}")
    parts = re.split(r"([=^\n\r\t\f])" if name else r"([\n\r\t\f])", value)
    encoded = b"".join(encode_string(part, encodings) if part else b"" for part in parts)
    if decode_bytes(encoded, encodings, _NAME_DELIMITERS if name else _DELIMITERS) != value:
        raise Unfit(f"a character is not in {into}")
    return encoded


def decode_text(raw: bytes, out_of: str, *, name: bool = False) -> str:
    """``raw`` read in the character set ``out_of``; each byte that cannot be read becomes the wild card ``?``."""
    if is_charset(out_of) and out_of not in _SINGLE:
        return decode_bytes(raw, _encodings(out_of), _NAME_DELIMITERS if name else _DELIMITERS).replace("\ufffd", "?")
    return raw.decode(_SINGLE.get(out_of, "ascii"), errors="radbridge.wild")


@lru_cache(maxsize=64)
def _encodings(term: str) -> list[str]:
    return list(convert_encodings(term.split("\\")))


@lru_cache(maxsize=4096)
def _encodable(character: str, encoding: str) -> bool:
    try:
        character.encode("ascii" if encoding == "iso8859" else encoding)
    except UnicodeEncodeError:
        return False
    return True


def _fits(character: str, encodings: list[str]) -> bool:
    return any(_encodable(character, encoding) for encoding in encodings)


def transliterate(value: str, into: str) -> str:
    """``value`` with each character that ``into`` lacks in its plainest Latin spelling, where there is one."""
    whole = unicodedata.normalize("NFC", value)
    return "".join(letter if _has(letter, into) else _plain(letter) for letter in whole)


def _has(letter: str, into: str) -> bool:
    try:
        encode_text(letter, into)
    except Unfit:
        return False
    return True


def _plain(value: str) -> str:
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", value.translate(_LETTERS))))


def fold(value: str) -> str:
    """The form in which names are compared: without case, accents, width or ligatures (PS3.4 C.2.2.2.1 allows it)."""
    return _plain(value.translate(_LETTERS).casefold())


def name_keys(name: str) -> tuple[str, str, str]:
    """What each component group of a PN is matched by: folded, without trailing empty components, ended by ``^``.

    The closing ``^`` lets ``DOE^*`` match ``DOE`` and keeps ``DOE`` from matching ``DOE^JANE``. An absent group is "".
    """
    groups = [fold(group).strip(" ").rstrip("^ ") for group in name.split("=", 2)]
    keys = [group + "^" if group else "" for group in groups]
    keys += [""] * (3 - len(keys))
    return keys[0], keys[1], keys[2]
