"""What came over a DICOM association, kept as a file (PS3.10): the data set exactly as it came, and before it, in the
file's own header, who sent it to whom and, as private information, what else was known of it."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bridge.codecs.dicom import write
from bridge.codecs.dicom_values import UNREADABLE
from bridge.errors import CodecError

_CREATOR = "2.25.184763512908127364508172635491827364510"
"""Whose private information the file's header holds, and whose implementation wrote it."""
_PREAMBLE = bytes(128) + b"DICM"


@dataclass(frozen=True, slots=True)
class Envelope:
    """``private``: JSON values, ``command`` among them. ``data``: the data set, little endian."""

    sop_class: str
    instance: str
    calling: str
    called: str
    implicit: bool
    private: dict[str, Any]
    data: bytes

    def encode(self) -> bytes:
        syntax = ImplicitVRLittleEndian if self.implicit else ExplicitVRLittleEndian
        elements = [
            (0x00020001, "OB", b"\0\1"),
            (0x00020002, "UI", _even(self.sop_class, "\0")),
            (0x00020003, "UI", _even(self.instance, "\0")),
            (0x00020010, "UI", _even(syntax, "\0")),
            (0x00020012, "UI", _even(_CREATOR, "\0")),
            (0x00020016, "AE", _even(self.calling)),
            (0x00020018, "AE", _even(self.called)),
            (0x00020100, "UI", _even(_CREATOR, "\0")),
            (0x00020102, "OB", _even(json.dumps(self.private, ensure_ascii=False, separators=(",", ":")))),
        ]
        meta = write(elements, implicit=False)
        length = write([(0x00020000, "UL", struct.pack("<L", len(meta)))], implicit=False)
        return b"".join((_PREAMBLE, length, meta, self.data))


def _even(text: str, fill: str = " ") -> bytes:
    data = text.encode("utf-8", "replace")
    return data + fill.encode() if len(data) % 2 else data


def is_envelope(raw: bytes) -> bool:
    """Whether this begins as :meth:`Envelope.encode` has it."""
    return raw[:132] == _PREAMBLE and _CREATOR.encode() in raw[:512]


def open_envelope(raw: bytes) -> Envelope:
    """Raises CodecError for what is none."""
    try:
        meta = read_partial(BytesIO(raw), stop_when=lambda *_: True).file_meta
        return Envelope(
            sop_class=str(meta.get("MediaStorageSOPClassUID", "") or ""),
            instance=str(meta.MediaStorageSOPInstanceUID or ""),
            calling=str(meta.get("SourceApplicationEntityTitle", "") or ""),
            called=str(meta.get("ReceivingApplicationEntityTitle", "") or ""),
            implicit=meta.TransferSyntaxUID == ImplicitVRLittleEndian,
            private=json.loads(meta.PrivateInformation),
            data=raw[len(_PREAMBLE) + 12 + meta.FileMetaInformationGroupLength :],
        )
    except (*UNREADABLE, AttributeError, InvalidDicomError):
        raise CodecError("not a DICOM message", fix="send what a dicom-mpps-in channel received") from None
