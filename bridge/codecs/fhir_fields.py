"""FHIR data types in the form in which HL7 v2 has them, so that what reads fields of the one reads the other as well.

| FHIR | HL7 |
|---|---|
| Identifier | CX of people, places and visits, else EI; the system as authority |
| HumanName | XPN; of a practitioner XCN |
| Reference, Practitioner | XCN |
| CodeableConcept, Coding | CWE; the system as coding scheme |
| Address, ContactPoint | XAD, XTN |
| Attachment | ED |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from bridge.codecs.coding_systems import NAMES

Site = Mapping[str, Any]
Escape = Callable[[str], str]
Parts = list[Any]
"""Components of a field: texts, and lists of subcomponents."""
_OWN = "urn:radbridge:"
UNSAID = frozenset({"id", "patient", "visit", "placer", "filler", "accession"})
"""What stands for the authority in a system of our own where the sender named none."""
_TABLES = "http://terminology.hl7.org/CodeSystem/v2-"
_TYPES = {"official": "L", "usual": "D", "maiden": "M", "nickname": "N", "anonymous": "A", "temp": "T", "old": "BAD"}
_PLACES = {"home": "H", "work": "B", "temp": "C", "old": "BA"}
_LINES = {"home": "PRN", "work": "WPN", "mobile": "PRS"}
_DEVICES = {"phone": "PH", "fax": "FX", "pager": "BP", "email": "Internet"}
_SUBTYPES = {"application/pdf": ("AP", "PDF"), "application/rtf": ("AP", "RTF"), "text/rtf": ("AP", "RTF"),
             "text/html": ("TEXT", "HTML"), "text/xml": ("TEXT", "XML"), "application/xml": ("TEXT", "XML"),
             "application/dicom": ("AP", "DICOM"), "text/plain": ("TEXT", "PLAIN"), "image/jpeg": ("IM", "JPEG"),
             "image/png": ("IM", "PNG"), "image/tiff": ("IM", "TIFF"), "image/gif": ("IM", "GIF")}  # fmt: skip
"""Type of data and its subtype (HL7 tables 0191, 0291)."""


def er7_of(kind: str, value: Any, people: bool, site: Site, escape: Escape) -> str:
    """A value of a data type in ER7; a simple value is its text. Empty if there is nothing to say."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, dict):
        return escape(str(value))
    if kind == "Identifier":
        parts = _cx(value, site) if people else _ei(value, site)
    else:
        parts = _PARTS[kind](value, site) if kind in _PARTS else [value.get("value", value.get("text", ""))]
    return _joined(parts, escape)


def authority(system: str, site: Site) -> list[str]:
    """Name, universal id and its type (HD) of what assigns the identifiers of a system.

    The name is the one that the site's ``authorities`` give the system, or that a system of our own was made of.
    """
    name = _named(system, site)
    if system.startswith("urn:oid:"):
        return [name, system.removeprefix("urn:oid:"), "ISO"]
    if name or not system or _is_ours(system):
        return [name or issuer_of(system, {}), "", ""]
    return ["", system, "URI"]


def issuer_of(system: str, site: Site) -> str:
    """The authority that a system of identifiers stands for, as headers of HL7 name it: what the site's ``authorities``
    call it, that of our own systems, an OID, else the system."""
    if named := _named(system, site):
        return named
    if _is_ours(system):
        name = unquote(system.rpartition(":")[2])
        return "" if name in UNSAID else name
    return system.removeprefix("urn:oid:")


def _named(system: str, site: Site) -> str:
    return next((name for name, known in (site.get("authorities") or {}).items() if known == system), "")


def _is_ours(system: str) -> bool:
    return system.startswith(_OWN)


def scheme_of(system: str, site: Site) -> str:
    """What HL7 calls a coding system; the URI itself for one without a name."""
    if system.startswith(_TABLES):
        return f"HL7{system.removeprefix(_TABLES)}"
    return _named(system, site) or NAMES.get(system) or system.removeprefix("urn:oid:")


def _first(value: Any) -> Any:
    return (value[0] if value else {}) if isinstance(value, list) else value or {}


def _cx(value: dict[str, Any], site: Site) -> Parts:
    kind = _first(_dict(value.get("type")).get("coding"))
    return [value.get("value", ""), "", "", authority(str(value.get("system", "")), site), _dict(kind).get("code", "")]


def _ei(value: dict[str, Any], site: Site) -> Parts:
    return [value.get("value", ""), *authority(str(value.get("system", "")), site)]


def _xpn(value: dict[str, Any], site: Site) -> Parts:
    return [*_name(value), "", _TYPES.get(str(value.get("use", "")), "")] if _name(value) else []


def _name(value: dict[str, Any]) -> Parts:
    """Family name, first given name, the others, suffix, prefix."""
    given = [str(one) for one in _list(value.get("given"))]
    if not given and not value.get("family"):
        return [value["text"]] if value.get("text") else []
    affixes = [" ".join(str(one) for one in _list(value.get(which))) for which in ("suffix", "prefix")]
    return [value.get("family", ""), "".join(given[:1]), " ".join(given[1:]), *affixes]


def _person(value: dict[str, Any], site: Site) -> Parts:
    """XCN of a person's resource."""
    identifier = _dict(_first(value.get("identifier")))
    namespace, universal, kind = authority(str(identifier.get("system", "")), site)
    name = _name(_dict(_first(value.get("name"))))
    parts = [identifier.get("value", ""), *name]
    return [*parts, *[""] * (8 - len(parts)), [namespace, universal, kind]] if identifier.get("system") else parts


def _reference(value: dict[str, Any], site: Site) -> Parts:
    """XCN of somebody of whom only the reference is known."""
    identifier = _dict(value.get("identifier"))
    return [identifier.get("value", ""), value.get("display", "")]


def _organization(value: dict[str, Any], site: Site) -> Parts:
    return [value.get("name", "")]


def _cwe(value: dict[str, Any], site: Site) -> Parts:
    codings = [_coding(_dict(one), site) for one in _list(value.get("coding"))[:2]]
    codings += [["", "", ""]] * (2 - len(codings))
    if not codings[0][0] and not codings[0][1]:
        return ["", value.get("text", "")]
    shown = value.get("text", "")
    return [*codings[0], *codings[1], "", "", "" if shown == codings[0][1] else shown]


def _coding(value: dict[str, Any], site: Site) -> Parts:
    system = str(value.get("system", ""))
    return [value.get("code", ""), value.get("display", ""), scheme_of(system, site) if system else ""]


def _xad(value: dict[str, Any], site: Site) -> Parts:
    lines = [str(one) for one in _list(value.get("line"))]
    rest = [value.get(key, "") for key in ("city", "state", "postalCode", "country")]
    return ["".join(lines[:1]), " ".join(lines[1:]), *rest, _PLACES.get(str(value.get("use", "")), "")]


def _xtn(value: dict[str, Any], site: Site) -> Parts:
    system, number = str(value.get("system", "")), value.get("value", "")
    use = "NET" if system == "email" else _LINES.get(str(value.get("use", "")), "PRN")
    device = "CP" if value.get("use") == "mobile" and system != "email" else _DEVICES.get(system, "PH")
    return ["", use, device, number] if system == "email" else ["", use, device, *[""] * 8, number]


def _ed(value: dict[str, Any], site: Site) -> Parts:
    if not value.get("data"):
        return []
    media = str(value.get("contentType", "")).partition(";")[0].strip()
    return ["", *_SUBTYPES.get(media, ("AP", "Octet-stream")), "Base64", value["data"]]


_PARTS: dict[str, Callable[[dict[str, Any], Site], Parts]] = {
    "HumanName": _xpn,
    "Practitioner": _person,
    "Patient": _person,
    "RelatedPerson": _person,
    "Reference": _reference,
    "Organization": _organization,
    "CodeableConcept": _cwe,
    "Coding": _coding,
    "Address": _xad,
    "ContactPoint": _xtn,
    "Attachment": _ed,
}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _joined(parts: Parts, escape: Escape) -> str:
    return "^".join(
        "&".join(escape(str(one)) for one in part).rstrip("&") if isinstance(part, list) else escape(str(part or ""))
        for part in parts
    ).rstrip("^")
