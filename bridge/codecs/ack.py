"""HL7 v2 acknowledgements: writing them for what we received, reading them for what we sent.

HL7 v2 chapter 2, MSA and ERR; tables 0008 (acknowledgement code) and 0357 (error condition).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.codecs.charset import SHIFTED, codec_for
from bridge.codecs.er7 import Delimiters, delimiters
from bridge.codecs.hl7v2 import Hl7Message
from bridge.codecs.paths import compile_path
from bridge.errors import BridgeError, CodecError

CONDITIONS = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}
"""HL7 table 0357."""

_STANDARD = delimiters(b"|^~\\&")
_CONTROL = bytes(range(32))
_ASCII = bytes(range(127)) + b" " * 129
"""What is not ASCII becomes a space, which is never a delimiter."""
_MSH = re.compile(rb"(?<![A-Za-z0-9])MSH[^\r\n]*")
_ANSWER = re.compile("[AC][AER]")
_TYPE = re.compile("[A-Z]{3}")
_EVENT = re.compile("[A-Z][A-Z0-9]{2}")
_CONTROL_CODE = re.compile("[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class AckError:
    """One ERR of an answer. ``location`` as the peer writes it, with its delimiters; ``code`` from table 0357."""

    code: str
    location: str = ""
    severity: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """An answer as its receiver reads it. ``text`` and the errors' texts may hold patient content."""

    code: str
    control_id: str
    """MSA-2: the control id of the message that is answered."""
    errors: tuple[AckError, ...] = ()
    text: str = ""
    type: str = ""
    """``ACK^O01``, ``ORR^O02``: message code and trigger event; empty when they are none."""
    orders: tuple[str, ...] = ()
    """ORC-1 of each order that the answer speaks of (table 0119): ``OK``, ``NA``, ``UA``."""

    @property
    def is_message(self) -> bool:
        """It says more than an acknowledgement does."""
        return self.type[:3] not in ("", "ACK", "MCF")

    @property
    def summary(self) -> str:
        """``AA``, ``AA ORR^O02 UA``: without content."""
        parts = [self.code if _ANSWER.fullmatch(self.code) else "?"]
        parts += [self.type, *dict.fromkeys(self.orders)] if self.is_message else []
        return " ".join(parts)


def timestamp(now: datetime) -> bytes:
    """HL7 TS to the second, with the offset if there is one; ``strftime`` takes several times as long."""
    text = now.isoformat(timespec="seconds")
    return (text[:19].replace("-", "").replace("T", "") + text[19:]).replace(":", "").encode()


def acknowledge(
    message: Hl7Message | None,
    raw: bytes,
    *,
    code: str,
    control_id: str,
    now: datetime,
    error: BridgeError | None = None,
    type_: Sequence[bytes] = (),
    orders: Sequence[bytes] = (),
) -> bytes:
    """The answer to ``message``: MSH, MSA and, for an error, ERR in the form of the message's version.

    ``control_id`` is the answer's own MSH-10; MSA-2 is the message's. ``message`` is None when ``raw`` could not be
    parsed: the answer is then made from what of its MSH can be read, and says version 2.5.1 if that gives none.
    ``type_`` is MSH-9 in parts, without it ACK; ``orders`` are segments, in the message's delimiters, that follow.
    """
    marks, msh, codec = _question(message, raw)
    if len(msh) < 18:
        msh = [*msh, *[b""] * (18 - len(msh))]
    version = msh[11].split(marks.component, 1)[0].decode("ascii", "replace")
    stamp = timestamp(now)
    kind = _type(type_ or _ack_type(msh[8], marks), marks, version)
    header = [b"MSH", marks.encoding, msh[4], msh[5], msh[2], msh[3], stamp, b"", kind]
    header += [_text(control_id, marks, codec), msh[10] or b"P", msh[11] or b"2.5.1"]
    if msh[17]:
        header += [b""] * 5 + [_label(msh[17], message)]
    msa = [b"MSA", code.encode(), msh[9]]
    segments = [header, msa]
    if error is not None:
        if _before(version, (2, 7)):
            msa.append(_text(_short(error.what), marks, codec))
        faults = [error] if _before(version, (2, 5)) else error.faults
        segments += [_err(fault, marks, codec, version) for fault in faults]
    lines = [*(marks.field.join(segment) for segment in segments), *orders]
    body = b"".join(line + b"\r" for line in lines).translate(None, b"\x0b\x1c")
    if message is not None and message.codec != message.charset:
        return body.decode(message.codec).encode(message.charset, "replace")
    return body


def wanted(message: Hl7Message | None, error: BridgeError | None = None) -> list[str]:
    """MSA-1 of each answer that the sender of ``message`` wants, in the sequence in which they go out.

    Original mode (MSH-15 and MSH-16 empty): AA, AE or AR, and none for a message that is itself an ACK. Enhanced mode
    (HL7 v2 2.9.3; table 0155): the commit answer as MSH-15 asks, then the application's as MSH-16 asks; an empty one of
    the two asks for none. What is refused never reaches an application: it has one answer, the first that is asked for.
    """
    letter = "A" if error is None else error.face.ack[1]
    if message is None:
        return ["A" + letter]
    accept, application = modes(message.fields(0))
    if not accept and not application:
        return [] if message.header.type.partition("^")[0] == "ACK" else ["A" + letter]
    silent = (b"", b"NE", b"ER" if error is None else b"SU")
    codes = [kind + letter for kind, mode in (("C", accept), ("A", application)) if mode not in silent]
    return codes if error is None else codes[:1]


def modes(msh: Sequence[bytes]) -> tuple[bytes, bytes]:
    """MSH-15 and MSH-16 of an MSH that was split at its separator; empty is as HL7 null."""
    accept, application = msh[14] if len(msh) > 14 else b"", msh[15] if len(msh) > 15 else b""
    if not accept and not application:
        return b"", b""
    return accept.strip(b'" ').upper(), application.strip(b'" ').upper()


def asks_for_nothing(raw: bytes) -> bool:
    """Whether a message that we send tells its receiver never to answer (MSH-15, 16: NE or empty, not both empty)."""
    msh = raw[: raw.find(b"\r") + 1 or len(raw)].strip().split(raw[3:4] or b"|")[1:]
    accept, application = modes([b"", *msh])
    return bool(accept or application) and {accept, application} <= {b"", b"NE"}


def _question(message: Hl7Message | None, raw: bytes) -> tuple[Delimiters, list[bytes], str]:
    """Delimiters, the fields of MSH from MSH-1 on, and the codec of what is answered.

    What could not be parsed is answered in ASCII, with its own delimiters and character set only if they are valid.
    """
    if message is not None:
        return message.delimiters, message.fields(0), message.codec
    found = _MSH.search(raw[:4096])
    line = SHIFTED.sub(b" ", found[0]) if found else b""
    if len(line) < 8:
        return _STANDARD, [b"|", _STANDARD.encoding], "ascii"
    separator = line[3:4]
    fields = [field.translate(_ASCII, _CONTROL) for field in line[3:].split(separator)]
    try:
        marks = delimiters(separator + fields[1])
    except CodecError:
        marks, separator = _STANDARD, b"|"
        fields = [re.sub(rb"[|^~\\&]", b" ", field) for field in fields]
    if len(fields) > 17 and not _codec(fields[17]):
        fields[17] = b""
    return marks, [separator, *fields[1:]], "ascii"


def _label(declared: bytes, message: Hl7Message | None) -> bytes:
    """MSH-18 of the answer: the question's, unless what it was labelled with was UTF-8 all the same."""
    if message is None or message.charset != "utf-8" or _codec(declared) == "utf-8":
        return declared
    return b"UNICODE UTF-8"


def _codec(declared: bytes) -> str:
    """The codec for MSH-18; empty for none, and for one that is unknown."""
    try:
        return codec_for(declared.decode("ascii", "replace"))
    except CodecError:
        return ""


def _ack_type(question: bytes, marks: Delimiters) -> Sequence[bytes]:
    """``ACK^trigger^ACK``, or ``ACK`` without a trigger event."""
    parts = question.split(marks.component)
    return (b"ACK", parts[1], b"ACK") if len(parts) > 1 and parts[1] else (b"ACK",)


def _type(parts: Sequence[bytes], marks: Delimiters, version: str) -> bytes:
    """MSH-9: the structure, and in an ACK the trigger event too, are sent from 2.3.1 on."""
    if _before(version, (2, 3, 1)):
        parts = parts[:1] if parts[0] == b"ACK" else parts[:2]
    return marks.component.join(parts)


def _before(version: str, limit: tuple[int, ...]) -> bool:
    """Whether a version (MSH-12) is older than ``limit``; one that is no number is not."""
    try:
        return tuple(int(part) for part in version.split(".")) < limit
    except ValueError:
        return False


def _err(error: BridgeError, marks: Delimiters, codec: str, version: str) -> list[bytes]:
    """Up to 2.4 ERR-1 (ELD) holds everything; from 2.5 on ERR-2 the place, ERR-3 the code, ERR-7 and 8 what and fix."""
    join, number = marks.component.join, error.face.hl7
    condition = [number.encode(), CONDITIONS[number].encode(), b"HL70357"]
    location = _location(error.at)
    if _before(version, (2, 5)):
        place = [part.encode() for part in [*location, "", "", ""][:3]]
        condition += [b"", _text(str(error), marks, codec)]
        coded = marks.subcomponent.join(condition) if marks.subcomponent != b"\r" else condition[0]
        return [b"ERR", join((*place, coded))]
    diagnosis = f"{error.what} at {error.at}" if error.at else error.what
    return [
        b"ERR",
        b"",
        join([part.encode() for part in location]),
        join(condition),
        b"E",
        b"",
        b"",
        _text(diagnosis, marks, codec),
        _text(error.fix, marks, codec),
    ]


def _location(at: str) -> list[str]:
    """A place as ERL writes it: segment, its sequence, field, repetition, component, subcomponent. Empty: no path."""
    try:
        path = compile_path(at)
    except CodecError:
        return [at, "1"] if len(at) == 3 and at.isalnum() and at.isupper() else []
    occurrence = path.occurrence if isinstance(path.occurrence, int) and path.occurrence else 1
    repetition = path.repetition if isinstance(path.repetition, int) and path.repetition else 1
    parts = [path.segment, str(occurrence), str(path.field)]
    if path.component or path.repetition is not None:
        parts.append(str(repetition))
    parts += [str(number) for number in (path.component, path.subcomponent) if number]
    return parts


def _short(text: str) -> str:
    """MSA-3 is ST of 80."""
    return text if len(text) <= 80 else text[:77] + "..."


def _text(text: str, marks: Delimiters, codec: str) -> bytes:
    try:
        return marks.escape_value(text).encode(codec, "replace")
    except CodecError:
        barred = (marks.field + marks.encoding).decode()
        plain = "".join(" " if char < " " or char in barred else char for char in text)
        return plain.encode(codec, "replace")


def read_ack(raw: bytes) -> Ack:
    """Read an answer, tolerantly: any line ends, any version, ERR of either form. Raises CodecError without an MSA."""
    text = _decoded(raw)
    at = max(text.find("MSH"), 0)
    separator = text[at + 3 : at + 4].strip() if text.startswith("MSH", at) else "|"
    segments: dict[str, list[list[str]]] = {}
    for line in re.split("[\r\n]+", text[at:]):
        fields = line.split(separator or "|")
        segments.setdefault(fields[0], []).append([*fields, *[""] * (9 - len(fields))])
    if "MSA" not in segments:
        raise CodecError("the answer has no MSA segment", at="MSA", fix="have the receiver answer with an HL7 ACK")
    msa = segments["MSA"][0]
    try:
        marks = delimiters((separator + segments["MSH"][0][1]).encode())
    except (KeyError, CodecError):
        marks = _STANDARD
    errors = tuple(_read_err(fields, marks) for fields in segments.get("ERR", ()))
    orders = tuple(fields[1] for fields in segments.get("ORC", ()) if _CONTROL_CODE.fullmatch(fields[1]))
    kind = _read_type(segments["MSH"][0][8], marks) if "MSH" in segments else ""
    return Ack(msa[1].strip().upper(), msa[2].strip(), errors, marks.unescape(msa[3], "utf-8"), kind, orders)


def _read_type(text: str, marks: Delimiters) -> str:
    """``ORR^O02``; empty for anything that could be content."""
    code, _, rest = text.strip().partition(marks.component.decode())
    event = rest.partition(marks.component.decode())[0]
    if not _TYPE.fullmatch(code):
        return ""
    return f"{code}^{event}" if _EVENT.fullmatch(event) else code


def _read_err(fields: list[str], marks: Delimiters) -> AckError:
    component, subcomponent = marks.component.decode(), marks.subcomponent.decode()
    if fields[3]:
        text = marks.unescape(fields[8] or fields[7], "utf-8")
        return AckError(fields[3].split(component, 1)[0], fields[2], fields[4], text)
    parts = [*fields[1].split(component), "", "", "", ""]
    condition = [*parts[3].split(subcomponent), "", "", "", ""]
    text = marks.unescape(condition[4] or condition[1], "utf-8")
    return AckError(condition[0], component.join(parts[:3]).rstrip(component), "E", text)


def _decoded(raw: bytes) -> str:
    """As UTF-8 when it is that, else as MSH-18 says, else as Latin-1, which always gives something."""
    declared = raw[: raw.find(b"\r")].split(raw[3:4] or b"|")[17:18]
    for codec in ("utf-8", declared[0].decode("ascii", "replace") if declared else ""):
        try:
            return raw.decode(codec_for(codec) or "utf-8")
        except (UnicodeDecodeError, CodecError):
            continue
    return raw.decode("iso8859-1")
