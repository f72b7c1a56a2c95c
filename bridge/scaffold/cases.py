"""Cases for messages that a person gives: what the message itself says of who and what it is about has to come out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from bridge.codecs.hl7v2 import Hl7Message, parse

_DAY = re.compile(r"\d{8}")
_PLAIN = re.compile(r"(?!(?:true|false|null)\Z)[A-Za-z][A-Za-z0-9_./-]*")


def _first(message: Hl7Message, *paths: str) -> str:
    return next((text for path in paths if (text := message.get(path).strip()) not in ("", '""')), "")


def _patient(message: Hl7Message, issuer: str) -> str:
    return (_first(message, f"PID-3[4.1={issuer}].1") if issuer else "") or _first(message, "PID-3.1", "PID-2.1")


def _born(message: Hl7Message, form: str) -> str:
    day = _first(message, "PID-7.1")[:8]
    return form.format(day[:4], day[4:6], day[6:]) if _DAY.fullmatch(day) else ""


def _worklist(message: Hl7Message, issuer: str) -> dict[str, Any]:
    groups = range(1, len(message.segments("ORC")) + 1)
    orders = {_first(message, f"ORC({at})-2", f"ORC({at})-3") for at in groups}
    return {
        "updates": len(orders),
        "PatientID": _patient(message, issuer),
        "PatientBirthDate": _born(message, "{}{}{}"),
        "AccessionNumber": _first(message, "IPC-1.1", "OBR-18.1"),
        "PlacerOrderNumberImagingServiceRequest": _first(message, "ORC-2.1", "OBR-2.1"),
        "FillerOrderNumberImagingServiceRequest": _first(message, "ORC-3.1", "OBR-3.1"),
        "StudyInstanceUID": _first(message, "IPC-3.1", "ZDS-1.1"),
    }


def _patients(message: Hl7Message, issuer: str) -> dict[str, Any]:
    return {"patients": 1, "PatientID": _patient(message, issuer), "PatientBirthDate": _born(message, "{}{}{}")}


def _fhir(message: Hl7Message, issuer: str) -> dict[str, Any]:
    return {
        "Patient.identifier[0].value": _first(message, "PID-3.1"),
        "Patient.birthDate": _born(message, "{}-{}-{}"),
        "DiagnosticReport": len(message.segments("OBR")),
    }


def _hl7(message: Hl7Message, issuer: str) -> dict[str, Any]:
    paths = ("MSH-10", "PID-3.1", "ORC-2.1", "OBR-18.1")
    return {path: _first(message, path) for path in paths if message.segments(path[:3])}


_KEYS: dict[str, Callable[[Hl7Message, str], dict[str, Any]]] = {
    "order-to-worklist": _worklist,
    "adt-to-worklist": _patients,
    "report-to-fhir": _fhir,
    "dft-to-billing": _hl7,
    "": _hl7,
}


def identified(raw: bytes, mapping: str, issuer: str = "") -> dict[str, Any]:
    """What ``expect:`` paths of the shipped ``mapping`` (empty: an edit) have to give for this message.

    ``issuer``: the site's patient_id_issuer. What the message does not say is left out. Raises CodecError.
    """
    if mapping not in _KEYS:
        return {}
    found = _KEYS[mapping](parse(raw), issuer)
    return {path: value for path, value in found.items() if value not in ("", 0)}


def case_text(sample: str, site: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """One case as YAML. ``sample``: the message's name inside the mappings folder."""
    title = sample.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    lines = [
        f"- name: {_scalar(title)}",
        f"  given: {_scalar(sample)}",
        f"  context: {{site: {_flow(site)}}}",
        "  expect:",
        *(f"    {_scalar(path)}: {_scalar(value)}" for path, value in expected.items()),
    ]
    return "\n".join(lines) + "\n"


def _flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {_scalar(value)}" for name, value in values.items()) + "}"


def _scalar(value: Any) -> str:
    """Plain where it reads as the same text, else as JSON, which is YAML too."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
