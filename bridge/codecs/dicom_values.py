"""A DICOM data set that was sent to us as plain values, and reading them by path.

Values are what :class:`bridge.model.WorklistStep` holds: keyword -> text, list of texts (several values), or list of
mappings (a sequence). What was sent empty is an empty text or list. Private attributes go by their tag, ``00091001``;
the character set is not among them, as all text is Unicode.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from io import BytesIO
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_dict, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from bridge.codecs.dicom import CHARSET_TAG, entry
from bridge.codecs.dicom_text import decode_text, is_charset
from bridge.errors import CodecError
from bridge.yamlfile import suggest

Values = dict[str, Any]

UNREADABLE = (
    BytesLengthException, EOFError, LookupError, NotImplementedError, OSError, RecursionError, TypeError, ValueError,
    struct.error,
)  # fmt: skip
"""What pydicom raises for bytes that are no data set."""
_UNDEFINED = 0xFFFFFFFF
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "SV", "UV", "AT"})
_ONE_VALUE = frozenset({"LT", "ST", "UR", "UT"})
CODES = "CodeSequence"
"""How the keyword of a sequence of codes ends: it may be read as if it were a value."""
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\[\d{1,3}\])?(?:\.[A-Za-z][A-Za-z0-9]*(?:\[\d{1,3}\])?)*(?:\.[1-5])?")
_PART = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\[(\d{1,3})\])?")
_FIX = "write a path as PatientID, PatientName.1 or PerformedSeriesSequence[2].ProtocolName"


class Received:
    """Of what came over an association: its data set, read once."""

    data: bytes
    implicit: bool

    @cached_property
    def _read(self) -> tuple[Values, list[str]]:
        return read_values(self.data, implicit=self.implicit)

    @property
    def told(self) -> Values:
        """What it says itself. Raises CodecError for a data set that cannot be read."""
        return self._read[0]

    @property
    def oddities(self) -> list[str]:
        """What people should know of it."""
        return list(self._read[1])

    def summed(self, *about: Any) -> bytes:
        """A digest of what it says, however it was encoded."""
        text = json.dumps([*about, self.told], ensure_ascii=False, sort_keys=True)
        return blake2b(text.encode(), digest_size=16).digest()


def items(value: Any) -> list[Mapping[str, Any]]:
    """The items of a sequence; none of what was sent as something else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def read_values(raw: bytes, *, implicit: bool) -> tuple[Values, list[str]]:
    """A data set, little endian, and what could not be read of it. Raises CodecError if it is none.

    A character that SpecificCharacterSet does not explain reads as ``?``, and is told with its keyword. Binary values
    read as hexadecimal digits.
    """
    oddities: list[str] = []
    try:
        return _values(read_dataset(BytesIO(raw), implicit, True), "", oddities), list(dict.fromkeys(oddities))
    except UNREADABLE:
        raise CodecError("not a DICOM data set", fix="send it in the accepted transfer syntax") from None


def _values(data: Dataset, charset: str, oddities: list[str]) -> Values:
    charset = _charset(data, charset)
    found: Values = {}
    for tag in sorted(data.keys()):
        if tag.element != 0 and tag != CHARSET_TAG:
            known = dictionary_has_tag(tag) and not tag.is_private
            keyword = (keyword_for_tag(tag) if known else "") or f"{int(tag):08X}"
            found[keyword] = _value(data, tag, known, charset, oddities)
    return found


def _value(data: Dataset, tag: BaseTag, known: bool, charset: str, oddities: list[str]) -> Any:
    element = data.get_item(tag)
    if isinstance(element, RawDataElement) and element.length not in (len(element.value or b""), _UNDEFINED):
        raise EOFError
    vr = (element.VR if element.VR not in (None, "UN") or not known else dictionary_VR(tag)) or "UN"
    vr = vr[:2]
    if vr == "SQ":
        items = data[tag].value if element.value else None
        return [_values(item, charset, oddities) for item in items or ()]
    raw = element.value if isinstance(element.value, bytes) else b""
    if vr in _BINARY:
        return raw.hex()
    if vr in _NUMBERS:
        kind = "<" + _NUMBERS[vr]
        texts = [repr(number) for (number,) in struct.iter_unpack(kind, raw)]
    else:
        text = decode_text(raw, charset, name=vr == "PN")
        if text.count("?") > raw.count(b"?"):
            oddities.append(f"{keyword_for_tag(tag) or tag}: characters that its character set does not explain")
        texts = [text] if vr in _ONE_VALUE else text.split("\\")
        texts = [one.strip(" \0") if vr not in _ONE_VALUE else one.rstrip(" \0") for one in texts]
    return texts if len(texts) > 1 else "".join(texts)


def _charset(data: Dataset, outer: str) -> str:
    value = data.get("SpecificCharacterSet")
    if not value:
        return outer
    terms = [value] if isinstance(value, str) else [str(term) for term in value]
    text = "\\".join(term.strip() for term in terms)
    return text if is_charset(text) else "unknown"


@dataclass(frozen=True, slots=True)
class ValuePath:
    """A compiled path: keywords with the number of the item (from 1, 0 for any), the last one that of the value; then
    the component of a person name, 0 for all of it."""

    text: str
    steps: tuple[tuple[str, int], ...]
    component: int


def is_value_path(text: str) -> bool:
    """Whether this is written as a path of DICOM keywords."""
    return _PATH.fullmatch(text) is not None and (text != text.upper() or entry(text) is not None)


@lru_cache(maxsize=4096)
def compile_value_path(text: str) -> ValuePath:
    """``PatientID``, ``PatientName.1``, ``ScheduledStepAttributesSequence[2].AccessionNumber``. Raises CodecError."""
    if not _PATH.fullmatch(text):
        raise CodecError("not a path of DICOM keywords", at=text, fix=_FIX)
    parts = text.split(".")
    component = int(parts.pop()) if parts[-1].isdigit() else 0
    steps = []
    for part in parts:
        match = _PART.fullmatch(part)
        assert match
        known = entry(match[1])
        if known is None:
            fix = suggest(match[1], keyword_dict) or _FIX
            raise CodecError(f"DICOM has no attribute `{match[1]}`", at=text, fix=fix)
        steps.append((match[1], int(match[2] or 0)))
        last, sequence = len(steps) == len(parts), known[1] == "SQ"
        if last == sequence and not (last and match[1].endswith(CODES)):
            what = "is a sequence: name an attribute in it" if sequence else "is no sequence: nothing is in it"
            raise CodecError(f"`{match[1]}` {what}", at=text, fix=_FIX)
    if component and known and known[1] != "PN":
        raise CodecError(f"`{steps[-1][0]}` is no person name: it has no components", at=text, fix=_FIX)
    return ValuePath(text, tuple(steps), component)


def read_all(values: Mapping[str, Any], path: ValuePath) -> list[str]:
    """Every value at the path, in every item that it does not choose among; empty ones included. Of an item of a code
    sequence, its code."""
    found = (one for around in containers(values, path) for one in last_values(around, path))
    return [_code(one) if isinstance(one, dict) else _component(one, path.component) for one in found]


def containers(values: Mapping[str, Any], path: ValuePath) -> list[Mapping[str, Any]]:
    """Every item that the last keyword of the path is looked for in."""
    found = [values]
    for keyword, number in path.steps[:-1]:
        sequences = (around.get(keyword) or () for around in found)
        found = [item for items in sequences for item in (items[number - 1 : number] if number else items)]
    return found


def last_values(around: Mapping[str, Any], path: ValuePath) -> list[Any]:
    """The values that the last keyword of the path has in ``around``; items, if it is a sequence."""
    keyword, number = path.steps[-1]
    found = around.get(keyword, [])
    values = found if isinstance(found, list) else [found]
    return values[number - 1 : number] if number else values


def _code(item: Mapping[str, Any]) -> str:
    return str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "")


def _component(name: str, number: int) -> str:
    """A component of a person name's first group that holds anything."""
    if not number:
        return name
    group = next((group for group in name.split("=") if group.strip("^ ")), "")
    return (group.split("^") + [""] * 5)[number - 1].strip()


def chosen(values: Mapping[str, Any], tags: Iterable[int]) -> Dataset:
    """The attributes with these tags as a data set, or all if none is named; text in UTF-8. Private and binary ones,
    and values that do not fit their attribute, are left out."""
    wanted = {keyword_for_tag(tag) for tag in tags}
    found = _dataset({key: value for key, value in values.items() if not wanted or key in wanted})
    found.SpecificCharacterSet = "ISO_IR 192"
    return found


def _dataset(values: Mapping[str, Any]) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        known = entry(keyword)
        if known is None or known[1] in _BINARY:
            continue
        tag, vr, _ = known
        with suppress(ValueError, TypeError, AttributeError):
            if vr == "SQ":
                found.add_new(tag, vr, [_dataset(item) for item in value])
            else:
                number = float if vr in ("FL", "FD") else int if vr in _NUMBERS else str
                texts = value if isinstance(value, list) else [value] if value else []
                found.add_new(tag, vr, [number(text) for text in texts])
    return found
