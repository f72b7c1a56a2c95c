"""Addresses and telecommunication: HL7 XAD and XTN to FHIR Address and ContactPoint."""

from __future__ import annotations

from typing import Any

from bridge.mapping.fields import Field
from bridge.mapping.functions.registry import function

_SYSTEMS = {"FX": "fax", "BP": "pager", "INTERNET": "email", "X.400": "email"}
"""XTN-3 (table 0202) to ContactPoint.system; everything else is a telephone."""
_USES = {"PRN": "home", "ORN": "home", "VHN": "home", "WPN": "work", "PRS": "mobile"}
_ADDRESS_USES = {"H": "home", "B": "work", "O": "work", "C": "temp", "BA": "old"}


@function("field")
def telecom(points: list[Field]) -> list[dict[str, Any]]:
    """Every telephone number and mail address (XTN) as FHIR ContactPoint.

    >>> run("telecom", "^PRN^CP^^^^^^^^^0102030405~^NET^Internet^test@example.org")
    [{'system': 'phone', 'value': '0102030405', 'use': 'mobile'}, {'system': 'email', 'value': 'test@example.org'}]
    """
    found = []
    for one in points:
        system = _SYSTEMS.get(one.text(3).upper(), "phone")
        parts = " ".join(part for part in (one.text(5), one.text(6), one.text(7)) if part)
        value = one.text(4) if system == "email" else one.text(12) or one.text(1) or parts
        use = "mobile" if one.text(3) == "CP" else _USES.get(one.text(2), "")
        whole = {"system": system, "value": value, "use": use}
        if value:
            found.append({key: item for key, item in whole.items() if item})
    return found


@function("field")
def address(places: list[Field]) -> list[dict[str, Any]]:
    """Every address (XAD) as FHIR Address, but for birth places (type BDL without any line).

    >>> run("address", "1 rue du Test^^PARIS^^75007^FRA^H")
    [{'use': 'home', 'line': ['1 rue du Test'], 'city': 'PARIS', 'postalCode': '75007', 'country': 'FRA'}]
    """
    found = []
    for one in places:
        whole = {
            "use": _ADDRESS_USES.get(one.text(7), ""),
            "line": [part for part in (one.text(1), one.text(2)) if part],
            "city": one.text(3),
            "state": one.text(4),
            "postalCode": one.text(5),
            "country": one.text(6),
        }
        if whole["line"] or (whole["city"] and one.text(7) != "BDL"):
            found.append({key: item for key, item in whole.items() if item})
    return found
