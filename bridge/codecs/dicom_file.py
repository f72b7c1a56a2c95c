"""Worklist items as files: DICOM Part 10 files, named ``.wl`` by the servers that answer from a folder of them.

An item read from a file is written the same, attribute by attribute. What no dictionary knows, and values that are
neither text nor whole numbers, are kept under their tag, ``(gggg,eeee)``.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bridge.codecs.dicom import CHARSET_TAG, Encoding, all_of, entry, tag_name, write
from bridge.codecs.dicom_match import texts
from bridge.codecs.dicom_values import UNREADABLE
from bridge.errors import CodecError
from bridge.model import StepStatus, WorklistStep, WorklistUpdate

_TEXT = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
_NUMBER = frozenset({"US", "SS", "UL", "SL"})
_DEEPEST = 16
"""Levels of sequences; a worklist item has four."""


def to_file(attributes: Mapping[str, Any], *, charset: str = "ISO_IR 192", creator: str = "") -> bytes:
    """An item as a Part 10 file, explicit VR little endian; ``creator`` of the private information in its header, if
    it has any. Raises Unfit for text that ``charset`` lacks."""
    data = write(all_of(attributes, Encoding(charset, implicit=False)), implicit=False)
    syntax = ExplicitVRLittleEndian.encode()
    meta = [(0x00020001, "OB", b"\0\1"), (0x00020010, "UI", syntax + b"\0" * (len(syntax) % 2))]
    if creator:
        uid = creator.encode()
        meta += [(0x00020100, "UI", uid + b"\0" * (len(uid) % 2)), (0x00020102, "OB", b"\0\0")]
    head = write(meta, implicit=False)
    length = write([(0x00020000, "UL", struct.pack("<L", len(head)))], implicit=False)
    return b"\0" * 128 + b"DICM" + length + head + data


def from_file(data: bytes) -> dict[str, Any]:
    """The attributes of an item in a file, with or without preamble. Raises CodecError if it is none."""
    try:
        read = dcmread(BytesIO(data), force=True)
        _check_depth(read)
        read.decode()
        syntax = UID(read.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
        if syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            raise CodecError("a transfer syntax that is not little endian", fix="convert it with dcmconv +te")
        found = _attributes(read)
    except UNREADABLE:
        raise CodecError("no DICOM file", fix="give a .wl file of a worklist server") from None
    if not found:
        raise CodecError("no DICOM file", fix="give a .wl file of a worklist server")
    return found


def update_of(attributes: Mapping[str, Any], issuer: str = "") -> WorklistUpdate:
    """An item as an order of one scheduled step. ``issuer`` is the authority of numbers that carry none.

    The order is known by its numbers of placer and filler and by its accession number; without any, by its study.
    """
    numbers = {
        "placer": ("PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence"),
        "filler": ("FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence"),
        "accession": ("AccessionNumber", "IssuerOfAccessionNumberSequence"),
    }
    found = [
        f"{kind}:{number[0]}^{_issuer(attributes.get(sequence)) or issuer}"
        for kind, (keyword, sequence) in numbers.items()
        if (number := texts(attributes.get(keyword)))
    ]
    study = texts(attributes.get("StudyInstanceUID"))
    order = tuple(found) or tuple(f"filler:{uid}^StudyInstanceUID" for uid in study)
    return WorklistUpdate(order, StepStatus.SCHEDULED, (WorklistStep(dict(attributes)),))


def _issuer(sequence: Any) -> str:
    item = sequence[0] if sequence else {}
    return str(item.get("LocalNamespaceEntityID") or item.get("UniversalEntityID") or "")


def _check_depth(data: Dataset) -> None:
    """Raises CodecError for sequences that are nested too deep: of those that it cannot follow, pydicom's decoding
    makes error messages that double with each level."""
    level = [data]
    for _ in range(_DEEPEST):
        level = [item for one in level for element in one if element.VR == "SQ" for item in element.value]
    if level:
        raise CodecError("sequences are nested too deep", fix="give a .wl file of a worklist server")


def _attributes(data: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for element in data:
        if element.tag == CHARSET_TAG or element.tag.element == 0:
            continue
        keyword = keyword_for_tag(element.tag)
        known = entry(keyword) if keyword else None
        name = keyword if known and known[1] == element.VR else tag_name(element.tag)
        if element.VR == "SQ":
            items = [_attributes(item) for item in element.value]
            found[name] = items if name == keyword else {"vr": "SQ", "items": items}
        elif element.VR in _TEXT | _NUMBER:
            found[name] = _texts(element) if name == keyword else {"vr": element.VR, "values": _texts(element)}
        else:
            bytes_ = b64encode(_raw(element)).decode()
            found[tag_name(element.tag)] = {"vr": element.VR, "base64": bytes_}
    return found


def _texts(element: DataElement) -> str | list[str]:
    if element.VM > 1:
        return [str(value) for value in element.value]
    return "" if element.value is None else str(element.value)


def _raw(element: DataElement) -> bytes:
    """The element's value as bytes, little endian."""
    holder = Dataset()
    holder.add(element)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, holder)
    return buffer.getvalue()[8:]
