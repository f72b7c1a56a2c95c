"""DICOM values in the form in which HL7 v2 has them, so that what reads fields of the one reads the other as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridge.codecs.dicom import entry
from bridge.codecs.dicom_values import ValuePath, containers, last_values

_ISSUERS = {
    "AccessionNumber": "IssuerOfAccessionNumberSequence",
    "PlacerOrderNumberImagingServiceRequest": "OrderPlacerIdentifierSequence",
    "FillerOrderNumberImagingServiceRequest": "OrderFillerIdentifierSequence",
}
"""Numbers that are EI in HL7, and where their issuer stands beside them."""
_ENTITY = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")
Escape = Callable[[str], str]


def er7_fields(values: Mapping[str, Any], path: ValuePath, escape: Escape) -> list[str]:
    """Every value at the path that holds something; its components are parted by ``^`` and ``&``."""
    keyword = path.steps[-1][0]
    found = ((around, value) for around in containers(values, path) for value in last_values(around, path))
    return [_er7(keyword, value, around, escape) for around, value in found if value]


def _er7(keyword: str, value: Any, around: Mapping[str, Any], escape: Escape) -> str:
    known = entry(keyword)
    if isinstance(value, dict):
        code = value.get("CodeValue") or value.get("LongCodeValue") or value.get("URNCodeValue") or ""
        return _joined([code, value.get("CodeMeaning", ""), value.get("CodingSchemeDesignator", "")], "^", escape)
    if keyword == "PatientID":
        qualifiers = (around.get("IssuerOfPatientIDQualifiersSequence") or [{}])[0]
        issuer = [around.get("IssuerOfPatientID", ""), *(qualifiers.get(key, "") for key in _ENTITY[1:])]
        return f"{escape(value)}^^^{_joined(issuer, '&', escape)}"
    if keyword in _ISSUERS:
        issuer = (around.get(_ISSUERS[keyword]) or [{}])[0]
        return _joined([value, *(issuer.get(key, "") for key in _ENTITY)], "^", escape)
    if known and known[1] == "PN":
        family, given, middle, prefix, suffix = (value.split("=")[0].split("^") + [""] * 5)[:5]
        return _joined([family, given, middle, suffix, prefix], "^", escape)
    return escape(str(value))


def _joined(parts: list[Any], by: str, escape: Escape) -> str:
    return by.join(escape(str(part)) for part in parts).rstrip(by)
