"""Coded values: HL7 CE, CWE and CNE to DICOM code sequences (PS3.3 8.8) and FHIR CodeableConcept."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal

from bridge.codecs.coding_systems import SYSTEMS
from bridge.mapping.fields import Field
from bridge.mapping.functions.registry import Site, function, unusable
from bridge.mapping.functions.text import read_number

_SHORT = 16
"""CodeValue is SH; a longer code is a LongCodeValue (PS3.3 8.1)."""
_LOCAL = "99LOCAL"
"""Coding scheme where the sender names none; 99 marks a private scheme (PS3.16 8)."""

_TABLE = re.compile(r"HL7(?:T)?[- ]?(\d{4})")


def _dicom(field: Field, start: int, scheme: str) -> dict[str, Any]:
    code, meaning, system = field.run(start, 3)
    if not code:
        return {}
    key = "CodeValue" if len(code) <= _SHORT else "LongCodeValue"
    return {key: code, "CodingSchemeDesignator": system or scheme, "CodeMeaning": meaning or code}


@function("field")
def code_items(
    codes: list[Field], *, prefer: Literal["primary", "alternate"] = "primary", scheme: str = _LOCAL
) -> list[dict[str, Any]]:
    """Items of a DICOM code sequence: code, coding scheme and meaning of each repetition that has a code.

    ``prefer: alternate`` takes components 4 to 6 where they hold a code. A code without a coding scheme gets
    ``scheme``, one without a meaning is its own meaning: DICOM wants all three.

    >>> run("code_items", "CTHEAD^CT Head^LOCAL^24725-4^CT Head^LN", prefer="alternate")
    [{'CodeValue': '24725-4', 'CodingSchemeDesignator': 'LN', 'CodeMeaning': 'CT Head'}]
    >>> run("code_items", "CTHEAD")
    [{'CodeValue': 'CTHEAD', 'CodingSchemeDesignator': '99LOCAL', 'CodeMeaning': 'CTHEAD'}]
    """
    one, two = (4, 1) if prefer == "alternate" else (1, 4)
    items = (_dicom(code, one, scheme) or _dicom(code, two, scheme) for code in codes)
    return [item for item in items if item]


@function("field")
def meanings(codes: list[Field]) -> list[str]:
    """What each repetition means, for people: its text (component 2), else original text (9), else the code.

    >>> run("meanings", "24725-4^CT Head^LN~X1")
    ['CT Head', 'X1']
    """
    found = [one.text(2) or one.text(9) or one.text(5) or one.text(1) or one.text(4) for one in codes]
    return [text for text in found if text]


@function("field")
def meaning(codes: list[Field]) -> str:
    """What the first repetition means, for people.

    >>> run("meaning", "24725-4^CT Head^LN")
    'CT Head'
    """
    found = meanings(codes)
    return found[0] if found else ""


def code_system(name: str, site: Site) -> str:
    """The FHIR URI of a coding system: HL7 table, well known, or of the site's ``authorities``; empty if unknown."""
    table = _TABLE.fullmatch(name)
    if table:
        return f"http://terminology.hl7.org/CodeSystem/v2-{table[1]}"
    if "." in name and name.isascii() and name.replace(".", "").isdigit():
        return f"urn:oid:{name}"
    return str((site.get("authorities") or {}).get(name) or SYSTEMS.get(name.upper(), ""))


def _coding(field: Field, start: int, site: Site) -> dict[str, Any]:
    code, display, system = field.run(start, 3)
    if not code:
        return {}
    whole = {"system": code_system(system, site) if system else "", "code": code, "display": display}
    return {key: value for key, value in whole.items() if value}


def _concept(field: Field, site: Site) -> dict[str, Any]:
    coding = [found for start in (1, 4) if (found := _coding(field, start, site))]
    text = field.text(9) or field.text(2) or field.text(5)
    return {key: value for key, value in {"coding": coding, "text": text}.items() if value}


@function("field")
def codeable_concept(codes: list[Field], *, site: Site) -> dict[str, Any]:
    """The first repetition as FHIR CodeableConcept: both codes (components 1-3, 4-6) and the text.

    >>> run("codeable_concept", "24725-4^CT Head^LN")
    {'coding': [{'system': 'http://loinc.org', 'code': '24725-4', 'display': 'CT Head'}], 'text': 'CT Head'}
    """
    return next((found for one in codes if (found := _concept(one, site))), {})


@function("field")
def codeable_concepts(codes: list[Field], *, site: Site) -> list[dict[str, Any]]:
    """Every repetition as FHIR CodeableConcept.

    >>> [one["text"] for one in run("codeable_concepts", "S06.9^Injury^I10~R51^Headache^I10")]
    ['Injury', 'Headache']
    """
    return [found for one in codes if (found := _concept(one, site))]


_UNITS: dict[str, dict[str, str]] = {
    "kg": {"kg": "1", "g": "0.001", "lb": "0.45359237", "lbs": "0.45359237", "[lb_av]": "0.45359237"},
    "m": {"m": "1", "cm": "0.01", "mm": "0.001", "in": "0.0254", "[in_i]": "0.0254", "[in_us]": "0.0254"},
}


@function("text")
def measure(value: str, unit: str, *, to: Literal["kg", "m"]) -> str:
    """A weight in kg or a length in m, from a number and the unit it was measured in.

    >>> run("measure", "170", "cm", to="m"), run("measure", "68", "kg", to="kg"), run("measure", "3250", "g", to="kg")
    ('1.7', '68', '3.25')
    """
    if not value:
        return ""
    factor = _UNITS[to].get(unit.lower())
    if factor is None:
        raise unusable(f"the unit is none of {', '.join(_UNITS[to])}", "send one of these units", "code")
    return f"{(read_number(value) * Decimal(factor)).normalize():f}"
