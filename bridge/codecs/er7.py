"""ER7 delimiters and escape sequences (HL7 v2 chapter 2, "Message delimiters" and "Use of escape sequences")."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from bridge.errors import CodecError

NULL = '""'
"""A value that says "delete what you have", as opposed to an empty one, which says nothing."""

_FIX = "declare in MSH-1 and MSH-2 five different punctuation characters, best the usual ones"
_CONTROL = "".join(map(chr, range(32))).replace("\t", "").replace("\n", "") + "\x7f"


@dataclass(frozen=True, slots=True, eq=False)
class Delimiters:
    """The separators one message uses, each one byte; a separator that MSH-2 leaves out is CR, which never matches."""

    field: bytes
    component: bytes
    repetition: bytes
    escape: bytes
    subcomponent: bytes
    encoding: bytes
    """MSH-2 as written."""
    field_text: str
    component_text: str
    repetition_text: str
    subcomponent_text: str
    """The same as text."""
    escape_text: str
    """The escape character as text; empty when MSH-2 has none."""
    unescape: Callable[[str, str], str]
    """``unescape(text, codec)``: escape sequences to what they stand for. ``\\.br\\`` is a line feed, ``\\H\\`` and
    ``\\N\\`` are dropped, ``\\Xdd..\\`` is bytes in ``codec``; unknown sequences stay as they are."""
    escape_value: Callable[[str], str]
    """Text to ER7: delimiters, line feeds and control characters as escape sequences."""


@lru_cache(maxsize=64)
def delimiters(declared: bytes) -> Delimiters:
    """Delimiters for MSH-1 and MSH-2 written together (``|^~\\&``, with ``#`` from 2.7 on). Raises CodecError."""
    if len(declared) < 3:
        raise CodecError("too few delimiters", at="MSH-2", fix=_FIX)
    if len(declared) > 6:
        raise CodecError("too many delimiters", at="MSH-2", fix=_FIX)
    if any(byte <= 32 or byte >= 127 or chr(byte).isalnum() for byte in declared):
        raise CodecError("a delimiter is not a punctuation character", at="MSH-2", fix=_FIX)
    if len(set(declared)) < len(declared):
        raise CodecError("the same delimiter twice", at="MSH-2", fix=_FIX)
    parts = [declared[i : i + 1] or b"\r" for i in range(5)]
    escape = declared[3:4].decode()
    letters = dict(zip("FSRET", (chr(byte) for byte in declared), strict=False)) if escape else {}
    if len(declared) == 6:
        letters["P"] = chr(declared[5])
    return Delimiters(
        field=parts[0],
        component=parts[1],
        repetition=parts[2],
        escape=parts[3],
        subcomponent=parts[4],
        encoding=declared[1:],
        field_text=parts[0].decode(),
        component_text=parts[1].decode(),
        repetition_text=parts[2].decode(),
        subcomponent_text=parts[4].decode(),
        escape_text=escape,
        unescape=_unescaper(escape, letters) if escape else lambda text, codec: text,
        escape_value=_escaper(escape, letters) if escape else _without_escape(declared.decode()),
    )


def _unescaper(escape: str, letters: dict[str, str]) -> Callable[[str, str], str]:
    mark = re.escape(escape)
    known = re.compile(
        f"{mark}(?:([{''.join(letters)}HN])|(\\.(?:br|BR))|X((?:[0-9A-Fa-f]{{2}})+)"
        f"|(?:Z[^{mark}\r]*|C[0-9A-F]{{4}}|M[0-9A-F]{{4,6}}|\\.[a-z]{{2}} ?[+-]?\\d*)){mark}"
    )
    plain = {**letters, "H": "", "N": ""}

    def unescape(text: str, codec: str) -> str:
        def one(match: re.Match[str]) -> str:
            letter, line_break, hexadecimal = match.groups()
            if letter:
                return plain[letter]
            if line_break:
                return "\n"
            if hexadecimal:
                try:
                    return bytes.fromhex(hexadecimal).decode(codec)
                except UnicodeDecodeError:
                    return "\x1b" if hexadecimal.upper() == "1B" else match[0]
            return match[0]

        return known.sub(one, text)

    return unescape


def _escaper(escape: str, letters: dict[str, str]) -> Callable[[str], str]:
    table = {character: f"{escape}X{ord(character):02X}{escape}" for character in _CONTROL}
    table |= {character: f"{escape}{letter}{escape}" for letter, character in letters.items()}
    table["\n"] = f"{escape}.br{escape}"
    special = re.compile("[" + re.escape("".join(table)) + "]")

    def escape_value(text: str) -> str:
        return special.sub(lambda match: table[match[0]], text) if special.search(text) else text

    return escape_value


def _without_escape(characters: str) -> Callable[[str], str]:
    special = re.compile("[" + re.escape(characters + _CONTROL + "\n") + "]")

    def escape_value(text: str) -> str:
        if special.search(text):
            fix = "have the sender declare an escape character in MSH-2"
            raise CodecError("the text holds a delimiter and the message has no escape character", fix=fix)
        return text

    return escape_value
