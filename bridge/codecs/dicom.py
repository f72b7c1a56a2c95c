"""DICOM values: what may stand in a worklist item, and how an answer to a C-FIND is encoded.

Attributes are what :class:`bridge.model.WorklistStep` holds: keyword -> text, list of texts, or list of mappings
for a sequence. Encoding is little endian, element by element, so that an answer is put together from parts.
"""

from __future__ import annotations

import re
import struct
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from bridge.codecs.dicom_match import Key, canonical_date, canonical_time, matches, texts
from bridge.codecs.dicom_text import Unfit, encode_text, transliterate
from bridge.errors import CodecError

CHARSET_TAG = 0x00080005
UnfitPolicy = Literal["refuse", "transliterate"]
"""What to do with text that the caller's character set lacks: raise Unfit, or spell it plainly."""
Element = tuple[int, str, bytes]
"""Tag, VR, encoded value of even length."""

TYPE_1: tuple[tuple[str, ...], ...] = (
    ("PatientName",),
    ("PatientID",),
    ("StudyInstanceUID",),
    ("RequestedProcedureID",),
    ("ScheduledProcedureStepSequence", "ScheduledProcedureStepID"),
    ("ScheduledProcedureStepSequence", "ScheduledStationAETitle"),
    ("ScheduledProcedureStepSequence", "Modality"),
    ("ScheduledProcedureStepSequence", "ScheduledProcedureStepStartDate"),
    ("ScheduledProcedureStepSequence", "ScheduledProcedureStepStartTime"),
)
"""Return keys of type 1 (PS3.4 table K.6-1): a scanner may rely on their having a value."""

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ONE_VALUE_VRS = frozenset({"LT", "ST", "UR", "UT"})
_LONG_HEADER_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_NUMBERS = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l"}
_MAX = {
    "AE": 16, "AS": 4, "CS": 16, "DS": 16, "DT": 26, "IS": 12, "LO": 64, "LT": 10240, "SH": 16, "ST": 1024, "UI": 64,
}  # fmt: skip
_FORMS = {
    "AE": re.compile(r"[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]*"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]+"),
    "DS": re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([Ee][+-]?\d+)?"),
    "DT": re.compile(r"\d{4}(\d\d){0,5}(\.\d{1,6})?([+-]\d{4})?"),
    "IS": re.compile(r"[+-]?\d+"),
    "UI": re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*"),
    "UR": re.compile(r"[\x21-\x5b\x5d-\x7e]+"),
}
_WRITTEN = {"AE": "plain ASCII, no backslash", "AS": "nnnD, nnnW, nnnM or nnnY", "CS": "A-Z, 0-9, space and _"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one attribute of an item. ``at`` is its path of keywords; no content in any field."""

    at: str
    what: str
    fix: str
    kind: Literal["required", "datatype"] = "datatype"


@lru_cache(maxsize=1024)
def entry(keyword: str) -> tuple[int, str, str] | None:
    """Tag, VR and VM of a keyword in the DICOM dictionary (PS3.6); None if there is none."""
    tag = tag_for_keyword(keyword)
    return None if tag is None else (tag, dictionary_VR(tag), dictionary_VM(tag))


def tag_name(tag: int) -> str:
    """``(0010,0010)``: the name of an attribute that has no keyword, or whose value is kept as bytes."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def is_tag_name(name: str) -> bool:
    return name.startswith("(")


def problems(attributes: Mapping[str, Any], within: str = "") -> list[Problem]:
    """Every attribute that could not be sent as it stands: unknown keyword, wrong form, too long, too many values."""
    found: list[Problem] = []
    for keyword, value in attributes.items():
        at = f"{within}.{keyword}" if within else keyword
        known = entry(keyword)
        if is_tag_name(keyword):
            continue
        if known is None:
            found.append(Problem(at, "no such DICOM attribute", "use a keyword of PS3.6"))
        elif known[1] == "SQ":
            found += _sequence_problems(value, at)
        else:
            found += _value_problems(known[1], known[2], value, at)
    return found


def missing(attributes: Mapping[str, Any]) -> list[Problem]:
    """The type 1 return keys that have no value."""
    found = []
    for path in TYPE_1:
        place: Any = attributes
        for keyword in path[:-1]:
            items = place.get(keyword)
            place = items[0] if items else {}
        if not texts(place.get(path[-1])):
            found.append(Problem(".".join(path), "no value, and a worklist item must have one", "", "required"))
    return found


def _sequence_problems(value: Any, at: str) -> list[Problem]:
    items = value or []
    if not isinstance(items, list | tuple) or not all(isinstance(item, Mapping) for item in items):
        return [Problem(at, "a sequence needs a list of items", "map its attributes one by one")]
    return [problem for item in items for problem in problems(item, at)]


def _value_problems(vr: str, vm: str, value: Any, at: str) -> Iterator[Problem]:
    values = texts(value)
    most = vm.rpartition("-")[2]
    if most.isdigit() and len(values) > int(most):
        yield Problem(at, f"{len(values)} values where {vm} is allowed", "choose one in the mapping")
    for text in values:
        if what := _fault(vr, text):
            yield Problem(at, what[0], what[1])


def _fault(vr: str, text: str) -> tuple[str, str] | None:
    """What and how to mend, or None."""
    if vr == "PN":
        return _name_fault(text)
    if vr in ("DA", "TM"):
        return _moment_fault(vr, text)
    if vr in _NUMBERS:
        return None if _packs(vr, text) else (f"no number that fits {vr}", "map a whole number")
    if len(text) > _MAX.get(vr, len(text)):
        return f"longer than the {_MAX[vr]} characters of {vr}", "map a shorter value, or shorten it by a rule"
    if vr in _FORMS:
        return None if _FORMS[vr].fullmatch(text) else (f"not a {vr}", _WRITTEN.get(vr, "see PS3.5 table 6.2-1"))
    if vr not in _TEXT_VRS:
        return f"values of type {vr} are not supported here", "leave it out"
    return _control_fault(text, vr in ("LT", "ST", "UT"))


def _moment_fault(vr: str, text: str) -> tuple[str, str] | None:
    try:
        canonical_date(text) if vr == "DA" else canonical_time(text)
    except CodecError as error:
        return error.what, "map yyyymmdd" if vr == "DA" else "map hhmmss"
    old = "." in text if vr == "DA" else ":" in text
    return ("a form that DICOM retired", "map yyyymmdd or hhmmss, without separators") if old else None


def _packs(vr: str, text: str) -> bool:
    try:
        struct.pack(_NUMBERS[vr], int(text))
    except (ValueError, struct.error):
        return False
    return True


def _name_fault(text: str) -> tuple[str, str] | None:
    groups = text.split("=")
    if len(groups) > 3 or any(group.count("^") > 4 for group in groups):
        return "more than 3 groups or 5 components in a name", "map family^given^middle^prefix^suffix"
    if any(len(group) > 64 for group in groups):
        return "longer than the 64 characters of a name's group", "map a shorter value, or shorten it by a rule"
    return _control_fault(text, False)


def _control_fault(text: str, lines: bool) -> tuple[str, str] | None:
    allowed = "\n\r\t\f" if lines else ""
    if any((ord(c) < 32 or 127 <= ord(c) < 160) and c not in allowed for c in text):
        return "a control character", "remove it in the mapping"
    if not lines and "\\" in text:
        return "a backslash, which separates values", "give several values as a list, or replace it"
    return None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one answer is written: the caller's character set, what to do when text does not fit, the syntax."""

    charset: str = "ISO_IR 192"
    unfit: UnfitPolicy = "refuse"
    implicit: bool = True


def answer(attributes: Mapping[str, Any], keys: Iterable[Key], encoding: Encoding) -> list[Element]:
    """The Identifier of one response, in tag order: the requested keys, present even when empty (PS3.4 K.2.2.1.2).

    Of a sequence, the items that match with the attributes asked for; the whole sequence where no attribute is
    named (PS3.4 C.2.2.2.6). SpecificCharacterSet is added unless the default repertoire is used. Raises Unfit.
    """
    return _declared(_requested(attributes, keys, encoding), encoding)


def all_of(attributes: Mapping[str, Any], encoding: Encoding) -> list[Element]:
    """Every attribute of an item, in tag order, with its SpecificCharacterSet as in :func:`answer`. Raises Unfit."""
    return _declared(_whole(attributes, encoding), encoding)


def _declared(elements: list[Element], encoding: Encoding) -> list[Element]:
    if encoding.charset not in ("", "ISO_IR 6"):
        elements.append((CHARSET_TAG, "CS", _pad(encoding.charset.encode("ascii"))))
    return sorted(elements)


def _requested(attributes: Mapping[str, Any], keys: Iterable[Key], encoding: Encoding) -> list[Element]:
    elements: list[Element] = []
    for key in keys:
        value = None if is_tag_name(key.keyword) else attributes.get(key.keyword)
        if value is None and (name := tag_name(key.tag)) in attributes:
            elements.append(_kept(name, attributes[name], encoding))
        elif key.vr != "SQ":
            elements.append((key.tag, key.vr, _value(key.keyword, key.vr, value, encoding)))
        elif key.item is None:
            elements.append((key.tag, "SQ", _items((_whole(item, encoding) for item in value or ()), encoding)))
        else:
            wanted = [item for item in value or () if matches(key.item, item)]
            parts = (sorted(_requested(item, key.item, encoding)) for item in wanted)
            elements.append((key.tag, "SQ", _items(parts, encoding)))
    return elements


def _whole(attributes: Mapping[str, Any], encoding: Encoding) -> list[Element]:
    elements: list[Element] = []
    for keyword, value in attributes.items():
        if is_tag_name(keyword):
            elements.append(_kept(keyword, value, encoding))
            continue
        known = entry(keyword)
        if known is None:
            raise CodecError("no such DICOM attribute", at=keyword)
        tag, vr, _ = known
        if vr == "SQ":
            elements.append((tag, vr, _items((_whole(item, encoding) for item in value or ()), encoding)))
        else:
            elements.append((tag, vr, _value(keyword, vr, value, encoding)))
    return sorted(elements)


def _kept(name: str, held: Mapping[str, Any], encoding: Encoding) -> Element:
    """An attribute under its tag: ``vr`` with ``values``, ``items``, or ``base64`` of the bytes."""
    tag, vr = int(name[1:5] + name[6:10], 16), held["vr"]
    if "items" in held:
        return tag, "SQ", _items((_whole(item, encoding) for item in held["items"]), encoding)
    if "values" in held:
        return tag, vr, _value(name, vr, held["values"], encoding)
    return tag, vr, _pad(b64decode(held["base64"]), b"\0")


def _items(items: Iterable[list[Element]], encoding: Encoding) -> bytes:
    encoded = (write(item, implicit=encoding.implicit) for item in items)
    return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data for data in encoded)


def _value(keyword: str, vr: str, value: Any, encoding: Encoding) -> bytes:
    values = texts(value)
    if vr in _NUMBERS:
        return b"".join(struct.pack(_NUMBERS[vr], int(text)) for text in values)
    if vr in _TEXT_VRS:
        encode: Callable[[str], bytes] = lambda text: _text(keyword, vr, text, encoding)  # noqa: E731
    else:
        encode = str.encode
    return _pad(b"\\".join(map(encode, values)), b"\0" if vr == "UI" else b" ")


def _pad(data: bytes, fill: bytes = b" ") -> bytes:
    return data + fill if len(data) % 2 else data


def _text(keyword: str, vr: str, text: str, encoding: Encoding) -> bytes:
    is_name = vr == "PN"
    try:
        return encode_text(text, encoding.charset, name=is_name)
    except Unfit as error:
        if encoding.unfit == "refuse":
            raise Unfit(error.what, at=keyword, fix="let this caller read ISO_IR 192, or transliterate") from None
    plain = _plain_name(text, encoding.charset) if is_name else transliterate(text, encoding.charset)
    if _fault(vr, plain):
        raise Unfit("too long once transliterated", at=keyword, fix="shorten it by a rule in the mapping")
    try:
        return encode_text(plain, encoding.charset, name=is_name)
    except Unfit as error:
        raise Unfit(error.what, at=keyword, fix="no plain spelling is known: send a Latin name as well") from None


def _plain_name(name: str, charset: str) -> str:
    """The name without the ideographic and phonetic groups that the set lacks, its first group transliterated."""
    first, *others = (transliterate(group, charset) for group in name.split("="))
    kept = [group if _encodes(group, charset) else "" for group in others]
    return "=".join([first, *kept]).rstrip("=")


def _encodes(text: str, charset: str) -> bool:
    try:
        encode_text(text, charset, name=True)
    except Unfit:
        return False
    return True


def write(elements: Iterable[Element], *, implicit: bool) -> bytes:
    """The elements as bytes, little endian (PS3.5 7.1). They have to be in tag order."""
    parts = []
    for tag, vr, value in elements:
        group, number = tag >> 16, tag & 0xFFFF
        if implicit:
            parts.append(struct.pack("<HHL", group, number, len(value)))
        elif vr in _LONG_HEADER_VRS:
            parts.append(struct.pack("<HH2s2xL", group, number, vr.encode(), len(value)))
        else:
            parts.append(struct.pack("<HH2sH", group, number, vr.encode(), len(value)))
        parts.append(value)
    return b"".join(parts)
