"""Identifiers that were merged away, read as the ones that survive: ``context.identity`` says which those are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from bridge.codecs.adt import read_number
from bridge.codecs.dicom_message import DicomView
from bridge.codecs.fhir_message import FhirMessage
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.paths import Path, compile_path
from bridge.errors import CodecError, MappingError
from bridge.mapping.functions.identifiers import system_of
from bridge.mapping.scope import Scope

CONTEXT = "identity"
_PATIENT = ("PID-3", "PID-2", "PID-4")


def surviving(scope: Scope) -> Scope:
    """The scope of the same message with the surviving identifiers in PID; the scope itself if none was merged away."""
    if not scope.context.get(CONTEXT):
        return scope
    message = scope.message
    if isinstance(message, DicomView):
        return _surviving_dicom(scope, message)
    if isinstance(message, FhirMessage):
        return _surviving_fhir(scope, message)
    try:
        changes = [
            change for text in _PATIENT for change in survivors(scope, compile_path(text), message.numbers("PID"))
        ]
        if not changes:
            return scope
        editor = message.edit()
        for path, er7 in changes:
            editor.set_er7(path, er7)
        changed = Scope(parse(editor.encode(), message.charset), scope.context)
    except CodecError as error:
        raise MappingError(error.what, at=error.at, fix=error.fix, kind=error.kind) from None
    changed.notes = scope.notes
    return changed


def _surviving_dicom(scope: Scope, message: DicomView) -> Scope:
    """The same of a DICOM message: its Patient ID."""
    values = message.values
    key = f"{values.get('PatientID', '')}^{values.get('IssuerOfPatientID', '')}"
    survivor = scope.context[CONTEXT].get(key)
    if not survivor:
        return scope
    number, _, issuer = survivor["survivor"].rpartition("^")
    changes: dict[str, Any] = {"PatientID": number, "IssuerOfPatientID": issuer}
    if issuer != values.get("IssuerOfPatientID", ""):
        _, *universal = survivor["authority"]
        named = dict(zip(("UniversalEntityID", "UniversalEntityIDType"), universal, strict=True))
        changes["IssuerOfPatientIDQualifiersSequence"] = [named] if any(universal) else []
    changed: Any = copy(message)
    changed.values = {**values, **changes}
    found = Scope(changed, scope.context)
    found.notes = scope.notes
    found.note("PatientID is an identifier that was merged away: the surviving one is used")
    return found


def _surviving_fhir(scope: Scope, message: FhirMessage) -> Scope:
    """The same of a FHIR message: the identifiers of its patients, and of those that it refers to."""
    instead: dict[str, Any] = {}
    for key, survivor in scope.context[CONTEXT].items():
        number, _, issuer = survivor["survivor"].rpartition("^")
        instead[key] = {"value": number}
        if issuer != key.rpartition("^")[2]:
            name, universal, kind = survivor["authority"]
            instead[key]["system"] = system_of(name, universal, kind, scope.site)
    changed: Any = message.renumbered(instead, scope.site)
    found = Scope(changed, scope.context)
    found.notes = scope.notes
    if instead.keys() & set(message.header_at(scope.site).patients):
        found.note("Patient.identifier has an identifier that was merged away: the surviving one is used")
    return found


def survivors(scope: Scope, path: Path, numbers: Sequence[int]) -> list[tuple[str, str]]:
    """Path and new ER7 value of the field in each of these segments in which an identifier was merged away."""
    identity: Mapping[str, Any] = scope.context.get(CONTEXT) or {}
    message = scope.message
    found = []
    for number in numbers if identity else ():
        er7 = _survived(message, message.field(number, path.index), path, identity)
        if er7:
            found.append((f"{path.segment}({message.ordinal(number)})-{path.field}", er7))
            scope.note(f"{path.text} has an identifier that was merged away: the surviving one is used")
    return found


def _survived(message: Hl7Message, field: bytes, path: Path, identity: Mapping[str, Any]) -> str:
    """The field as ER7, each survivor once; empty if no identifier in it was merged away."""
    marks = message.delimiters
    repetitions = field.split(marks.repetition)
    keys = [number.key if (number := read_number(message.split_value(one, path))) else "" for one in repetitions]
    if not identity.keys() & set(keys):
        return ""
    seen = set(keys) - identity.keys()
    kept: list[str] = []
    for key, repetition in zip(keys, repetitions, strict=True):
        if key not in identity:
            kept.append(repetition.decode(message.codec))
        elif identity[key]["survivor"] not in seen:
            seen.add(identity[key]["survivor"])
            kept.append(_replaced(message, repetition, key, identity[key]))
    return marks.repetition.decode().join(kept)


def _replaced(message: Hl7Message, repetition: bytes, key: str, survivor: Mapping[str, Any]) -> str:
    """The survivor as CX. Check digit and dates were the other identifier's; the type code holds for both."""
    marks = message.delimiters
    name, _, issuer = survivor["survivor"].rpartition("^")
    parts = [part.decode(message.codec) for part in repetition.split(marks.component)]
    parts += [""] * (5 - len(parts))
    if issuer != key.rpartition("^")[2]:
        texts = [marks.escape_value(text) for text in survivor["authority"]]
        parts[3] = marks.subcomponent.decode().join(texts).rstrip(marks.subcomponent.decode())
    separator = marks.component.decode()
    return separator.join([marks.escape_value(name), "", "", parts[3], parts[4]]).rstrip(separator)
