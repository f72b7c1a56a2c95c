"""Changes to HL7 v2 messages that keep their shape: lines, fields, escapes, delimiters, character sets, frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_CHARSETS = [b"ASCII", b"8859/1", b"8859/5", b"8859/15", b"8859/99", b"UNICODE", b"UNICODE UTF-8", b"WINDOWS-1252",
             b"ISO IR14", b"ISO IR87", b"ISO IR6~ISO IR87", b"~ISO IR159", b"GB 18030-2000", b"BIG-5", b"KS X 1001",
             b"ISO_IR 100", b"", b"~", b"NONE"]  # fmt: skip
_CODECS = ["utf-8", "iso8859-1", "cp1252", "iso8859-15", "iso2022_jp_2", "gb18030", "big5", "euc_kr", "utf-16"]
_MARKS = [b"|^~\\&", b"|^~\\&#", b"$%*!@", b"#:;?/", b"|^~", b"|^~\\", b"|^~&", b"||~\\&", b"|^", b"\t^~\\&",
          b"\x1b$B\\&"]  # fmt: skip
_TYPES = [b"ORM^O01", b"ORU^R01^ORU_R01", b"ADT^A40", b"ADT^A24", b"ADT^A47", b"ACK", b"", b"^", b"ACK^^", b'""',
          b"A\\F\\B^C"]  # fmt: skip
_VERSIONS = [b"2.1", b"2.3", b"2.3.1", b"2.4", b"2.5.1", b"2.8", b"", b"9" * 30, b"2.x", b"2.5.1^FRA&ISO"]
_SEGMENTS = [b"PID|1||A^^^H&1.2&ISO~B^^^O", b"MRG|C^^^H", b"ORC|NW|P1^RIS|F1^PACS", b"OBR|1|P1|F1", b"OBX|1|TX|X||text",
             b"MSA|AE|C1|why", b"ERR||PID^1^5|101^x^HL70357|E", b"ERR|PID^1^5^101&x", b"IPC|ACC1^RIS", b"SCH||||",
             b"FHS|^~\\&", b"BHS|^~\\&|", b"BTS|1", b"FTS|x", b"MRG|A^^^H~B^^^O",
             b"MSH|^~\\&|A|B|C|D|2026||ACK|1|P|2.5", b"Z",
             b"PID", b"ZZ1|\\Zlocal\\"]  # fmt: skip
_ESCAPES = [b"\\F\\", b"\\S\\", b"\\T\\", b"\\R\\", b"\\E\\", b"\\P\\", b"\\H\\", b"\\N\\", b"\\.br\\", b"\\.sp 3\\",
            b"\\X0D\\", b"\\X1C0D\\", b"\\XE9\\", b"\\X1B2442\\", b"\\X0\\", b"\\Zx\\", b"\\C2842\\", b"\\M2442\\",
            b"\\", b"\\\\"]  # fmt: skip
_BYTES = [b"\x0b", b"\x1c", b"\x1c\r", b"\x1c\x0b", b"\x1c\n", b"\r", b"\n", b"\r\n", b"|", b"^", b"~", b"&", b"\x00",
          b"\xef\xbb\xbf", b"\xe9", b"\xc3\xa9", b"\x80", b"\x81", b"\xff\xfe", b"\x1b$B", b"\x1b(B",
          b"\x1b$BF|K\\\x1b(B",
          b"\x1b.A\x1bN", b"\x81\x30\x81\x30", b"\xa4\x5c", b'""', b"\x7f", b"MSH", b"MSH|"]  # fmt: skip
_TEXTS = ["é", "Ÿ", "日本語", "한국", "Ω", "\u2028", "\x85", "😀", "ß~"]
_ENDS = re.compile(rb"\r\n|\r|\n")


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """``data`` after one or a few changes, at most ``size`` bytes; the same for the same seed."""
    chance = Random(seed)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(_CHANGES)(data, chance)[:size]
    return data


def cross(data: bytes, other: bytes, size: int, seed: int) -> bytes:
    """The beginning of one message and the end of another, cut at line ends."""
    chance = Random(seed)
    first, second = data.split(b"\r"), other.split(b"\r")
    head, tail = first[: chance.randint(1, len(first))], second[chance.randrange(len(second)) :]
    return b"\r".join(head + tail)[:size]


def _parts(data: bytes, mark: bytes, tokens: list[bytes], chance: Random) -> bytes:
    """One of the parts between ``mark`` taken out, doubled, moved, emptied, replaced or put before."""
    parts = data.split(mark)
    at = chance.randrange(len(parts))
    match chance.randrange(6):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[at])
        case 2:
            parts.insert(chance.randrange(len(parts)), parts.pop(at))
        case 3:
            parts[at] = b""
        case 4:
            parts[at] = chance.choice(tokens)
        case _:
            parts.insert(at, chance.choice(tokens))
    return mark.join(parts)


def _lines(data: bytes, chance: Random) -> bytes:
    return _parts(data, b"\r" if b"\r" in data else b"\n", _SEGMENTS, chance)


def _inside(data: bytes, chance: Random) -> bytes:
    """A change among the fields, repetitions, components or subcomponents of one line."""
    lines = data.split(b"\r")
    at = chance.randrange(len(lines))
    lines[at] = _parts(lines[at], chance.choice((b"|", b"|", b"~", b"^", b"&")), _ESCAPES + _BYTES, chance)
    return b"\r".join(lines)


def _insert(data: bytes, chance: Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(_ESCAPES + _BYTES) + data[at:]


def _cut(data: bytes, chance: Random) -> bytes:
    """A stretch taken out, or repeated."""
    at = chance.randint(0, len(data))
    end = at + chance.choice((1, 2, 5, 30, 500))
    return data[:at] + chance.choice((b"", data[at:end] * chance.choice((2, 3, 20, 500)))) + data[end:]


def _flip(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _declare(data: bytes, chance: Random) -> bytes:
    """MSH says something else: its delimiters, type, control id, version or character set."""
    lines = data.split(b"\r")
    mark = lines[0][lines[0].find(b"MSH") + 3 :][:1] or b"|"
    fields = lines[0].split(mark)
    at, tokens = chance.choice(
        ((1, _MARKS), (8, _TYPES), (9, _ESCAPES + _BYTES), (11, _VERSIONS), (17, _CHARSETS), (17, _CHARSETS))
    )
    fields += [b""] * (at + 1 - len(fields))
    fields[at] = chance.choice(tokens).removeprefix(b"|")
    lines[0] = mark.join(fields)
    return b"\r".join(lines)


def _delimit(data: bytes, chance: Random) -> bytes:
    """Other delimiters, in the whole message."""
    marks = chance.choice([one for one in _MARKS if len(one) == 5])
    return data.translate(bytes.maketrans(b"|^~\\&", marks))


def _encode(data: bytes, chance: Random) -> bytes:
    """Text that only some character sets have, in one of them."""
    at = chance.randint(0, len(data))
    text = data[:at].decode("iso8859-1") + chance.choice(_TEXTS) + data[at:].decode("iso8859-1")
    return text.encode(chance.choice(_CODECS), "ignore")


def _end_lines(data: bytes, chance: Random) -> bytes:
    return _ENDS.sub(chance.choice((b"\r", b"\n", b"\r\n", b"\r\r", b"\n\r")), data)


def _frame(data: bytes, chance: Random) -> bytes:
    """The message as a frame, alone or one after another."""
    ends = (b"\x1c\r", b"\x1c\r", b"\x1c\n", b"\x1c", b"\r", b"")
    return b"".join(b"\x0b" + data + chance.choice(ends) for _ in range(chance.choice((1, 1, 2, 3))))


_CHANGES: list[Callable[[bytes, Random], bytes]] = [
    _lines, _lines, _inside, _inside, _inside, _insert, _insert, _cut, _flip, _declare, _declare, _delimit, _encode,
    _end_lines, _frame,
]  # fmt: skip
