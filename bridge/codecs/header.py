"""The header of an HL7 v2 message: what the engine stores, routes and sequences by, read without a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from bridge.message import Header

if TYPE_CHECKING:
    from bridge.codecs.hl7v2 import Hl7Message

_ORDER_NUMBERS = (("ORC", 2), ("OBR", 2), ("SCH", 26))
"""Where the placer's order number stands (EI); the filler's is the next field."""


_EMPTY = blake2b(digest_size=16)


def read_header(message: Hl7Message, index: Mapping[str, Sequence[int]]) -> Header:
    """The header of a message whose segments are at ``index``.

    Patients: every repetition of PID-3 (PID-2 or PID-4 when it is empty) and MRG-1, and of MRG-4 with PID-2. Orders:
    ORC-2/3, OBR-2/3, SCH-26/27. Accession: IPC-1, else OBR-18. The digest leaves MSH-7 out, which a resend changes.
    """
    field = message.field
    component = message.delimiters.component
    code, event = message.kind
    control_id = _text(message, field(0, 9))
    return Header(
        type=(f"{code}^{event}" if event else code).replace("\0", "\u2400"),
        control_id=control_id,
        sender=f"{_text(message, field(0, 2))}|{_text(message, field(0, 3))}",
        version=message.version,
        charset=message.charset,
        test=field(0, 10).split(component, 1)[0] in (b"T", b"D"),
        patients=_patients(message, index),
        orders=_orders(message, index),
        accession=_accession(message, index),
        digest=_digest(message),
        warnings=message.warnings if control_id else (*message.warnings, "MSH-10 is empty"),
    )


def _patients(message: Hl7Message, index: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    field, marks = message.field, message.delimiters
    values = [field(number, 3) or field(number, 2) or field(number, 4) for number in index.get("PID", ())]
    values += [field(number, 1) for number in index.get("MRG", ())]
    persons = [field(number, 4) for number in index.get("MRG", ())]
    if any(persons):
        values += persons + [field(number, 2) for number in index.get("PID", ())]
    found = []
    for value in values:
        for one in value.split(marks.repetition):
            parts = one.split(marks.component, 4)
            issuers = parts[3].split(marks.subcomponent, 2) if len(parts) > 3 else ()
            found.append(_identifier(message, parts[0], issuers))
    return tuple(dict.fromkeys(filter(None, found)))


def _orders(message: Hl7Message, index: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    field = message.field
    values: dict[tuple[str, bytes], None] = {}
    for segment, at in _ORDER_NUMBERS:
        for number in index.get(segment, ()):
            values["placer:", field(number, at)] = None
            values["filler:", field(number, at + 1)] = None
    found = []
    for prefix, value in values:
        parts = value.split(message.delimiters.component, 3)
        identifier = _identifier(message, parts[0], parts[1:3])
        if identifier:
            found.append(prefix + identifier)
    return tuple(dict.fromkeys(found))


def _identifier(message: Hl7Message, value: bytes, issuers: Sequence[bytes]) -> str:
    """``id^issuer``: the issuer is the namespace, or else the universal id. Empty without an id."""
    if not value or value == b'""':
        return ""
    issuer = issuers[0] if issuers else b""
    if not issuer and len(issuers) > 1:
        issuer = issuers[1]
    name = _text(message, value).strip()
    return f"{name}^{_text(message, issuer).strip()}" if name else ""


def _accession(message: Hl7Message, index: Mapping[str, Sequence[int]]) -> str:
    for segment, at in (("IPC", 1), ("OBR", 18)):
        for number in index.get(segment, ()):
            value = message.field(number, at).split(message.delimiters.component, 1)[0]
            if value and value != b'""':
                return _text(message, value)
    return ""


def _text(message: Hl7Message, value: bytes) -> str:
    """Raw bytes as text that every database can hold: NUL as its picture. The message itself stays as it came."""
    return message.decode(value).replace("\0", "\u2400")


def _digest(message: Hl7Message) -> bytes:
    fields, start, body = message.fields(0), message.span(0)[0], message.body
    before = start + 3 + sum(map(len, fields[1:6])) + 6
    digest = _EMPTY.copy()
    digest.update(body[:before])
    digest.update(memoryview(body)[before + len(fields[6]) :])
    return digest.digest()
