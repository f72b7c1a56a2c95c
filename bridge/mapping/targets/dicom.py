"""DICOM attributes as mapping targets: which exist, and what their value representation allows (PS3.5 6.2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary

from bridge.errors import MappingError
from bridge.mapping.place import Findings, Place
from bridge.yamlfile import suggest

Problem = tuple[str, str]
"""What is wrong with a value (to be read after its attribute's name), and the fix."""
Validate = Callable[[str], Problem | None]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_DATE = re.compile(r"\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+", re.ASCII)
_CODE = re.compile(r"[A-Z0-9_ ]*")


def _too_long(text: str, vr: str, limit: int) -> Problem:
    return f"is {len(text)} characters long and DICOM allows {limit} ({vr})", f"send at most {limit} characters"


def _text(vr: str, limit: int, *, paragraphs: bool = False, ascii_only: bool = False) -> Validate:
    forbidden = _CONTROL_IN_TEXT if paragraphs else _CONTROL

    def validate(text: str) -> Problem | None:
        if len(text) > limit:
            return _too_long(text, vr, limit)
        if text.isprintable() and "\\" not in text and (not ascii_only or text.isascii()):
            return None
        if "\\" in text and not paragraphs:
            return "has a backslash, which separates values in DICOM", "send it without backslash"
        if forbidden.search(text):
            return f"has a control character, which DICOM forbids ({vr})", "send it without control characters"
        if ascii_only and not text.isascii():
            return f"has a character outside ASCII, which DICOM forbids ({vr})", "send plain letters and digits"
        return None

    return validate


def _pattern(vr: str, limit: int, pattern: re.Pattern[str], what: str, fix: str) -> Validate:
    def validate(text: str) -> Problem | None:
        if len(text) > limit:
            return _too_long(text, vr, limit)
        return None if pattern.fullmatch(text) else (f"{what} ({vr})", fix)

    return validate


_whole_name = _text("PN", 200)


def _name(text: str) -> Problem | None:
    if len(text) > 64 and any(len(group) > 64 for group in text.split("=")):
        return _too_long(text, "PN", 64)
    if text.count("=") > 2 or (text.count("^") > 4 and any(group.count("^") > 4 for group in text.split("="))):
        return "has more parts than a DICOM name (PN)", "send family, given, middle, prefix and suffix"
    return _whole_name(text)


def _unsigned(text: str) -> Problem | None:
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536:
        return None
    return "is not a number from 0 to 65535 (US)", "send or map it as a number"


VALIDATORS: dict[str, Validate] = {
    "AE": _text("AE", 16, ascii_only=True),
    "CS": _pattern("CS", 16, _CODE, "may only have capitals, digits, space and underscore", "map it with a table"),
    "DA": _pattern("DA", 8, _DATE, "is not a date", "send it as YYYYMMDD"),
    "DS": _pattern("DS", 16, _DECIMAL, "is not a decimal number", "send a number"),
    "IS": _pattern("IS", 12, re.compile(r"[+-]?[0-9]+"), "is not a whole number", "send a whole number"),
    "LO": _text("LO", 64),
    "LT": _text("LT", 10240, paragraphs=True),
    "PN": _name,
    "SH": _text("SH", 16),
    "ST": _text("ST", 1024, paragraphs=True),
    "TM": _pattern("TM", 13, _TIME, "is not a time", "send it as HHMMSS"),
    "UC": _text("UC", 2**32 - 2),
    "UI": _pattern("UI", 64, _UID, "is not a UID", "send digits and dots, no part with a leading zero"),
    "US": _unsigned,
    "UT": _text("UT", 2**32 - 2, paragraphs=True),
}
"""By value representation: what is wrong with one value, or None. Lengths are in characters."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Where a line's value goes: through sequences with one item each, to an attribute."""

    path: tuple[str, ...]
    keyword: str
    vr: str
    several: bool
    """The attribute may have more than one value."""

    def __str__(self) -> str:
        return ".".join((*self.path, self.keyword))

    def fitter(self) -> Callable[[Any], Any]:
        """:meth:`fit`, quick for the plain text that most values are."""
        if self.vr == "SQ":
            return self._items
        validate, fit = VALIDATORS[self.vr], self.fit
        if self.several:
            return lambda value: [value] if isinstance(value, str) and validate(value) is None else fit(value)
        return lambda value: value if isinstance(value, str) and validate(value) is None else fit(value)

    def fit(self, value: Any) -> Any:
        """``value`` as it goes into the document. Raises MappingError, without a place, if DICOM does not allow it."""
        if self.vr == "SQ":
            return self._items(value)
        if not isinstance(value, list):
            return [self._one(value)] if self.several else self._one(value)
        if self.several:
            return [self._one(one) for one in value]
        if len(value) > 1:
            what = f"{self.keyword} has {len(value)} values and DICOM allows one"
            raise MappingError(what, fix="send one, or choose one in the mapping", kind="datatype")
        return self._one(value[0])

    def _one(self, value: Any) -> str:
        text = value if isinstance(value, str) else str(value)
        problem = VALIDATORS[self.vr](text)
        if problem:
            raise MappingError(f"{self.keyword} {problem[0]}", fix=problem[1], kind="datatype")
        return text

    def _items(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or set(map(type, value)) - {dict}:
            fix = "use a function that gives items, such as code_items, or name an attribute inside it"
            raise MappingError(f"{self.keyword} is a sequence, not a text", fix=fix, kind="settings")
        return [{keyword: _fitter(keyword)(one) for keyword, one in item.items()} for item in value]


def attribute(text: str, place: Place, findings: Findings) -> Attribute | None:
    """The attribute that a target such as ``ScheduledProcedureStepSequence.Modality`` names; None, and a finding."""
    *path, keyword = text.split(".")
    for name in (*path, keyword):
        if datadict.tag_for_keyword(name) is None:
            findings.report(place, f"`{name}` is no DICOM attribute", suggest(name, keywords()))
            return None
    if any(known(name).vr != "SQ" for name in path):
        findings.report(place, "only a sequence has attributes inside", "name the sequence before the dot")
        return None
    found = known(keyword)
    if found.vr != "SQ" and found.vr not in VALIDATORS:
        fix = "choose an attribute that holds text or numbers"
        findings.report(place, f"`{keyword}` ({found.vr}) cannot be mapped", fix)
        return None
    return Attribute(tuple(path), keyword, found.vr, found.several)


@cache
def known(keyword: str) -> Attribute:
    """The attribute with this keyword, which the DICOM dictionary (PS3.6) has to have."""
    tag = datadict.tag_for_keyword(keyword)
    assert tag is not None, keyword
    return Attribute((), keyword, datadict.dictionary_VR(tag), datadict.dictionary_VM(tag) != "1")


@cache
def _fitter(keyword: str) -> Callable[[Any], Any]:
    return known(keyword).fitter()


@cache
def keywords() -> list[str]:
    """Every keyword of the DICOM dictionary, for suggestions."""
    return [entry[4] for entry in DicomDictionary.values() if entry[4]]
