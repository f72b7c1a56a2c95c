"""Reading a DICOM message as mappings read an HL7 one: by path, and split into the items of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from bridge.codecs.dicom_fields import er7_fields
from bridge.codecs.dicom_values import compile_value_path, is_value_path, read_all
from bridge.codecs.er7 import Delimiters, delimiters
from bridge.codecs.views import Numbers

if TYPE_CHECKING:
    from bridge.codecs.paths import Path
    from bridge.message import Header

_CODING = b"^~\\&"


class DicomView:
    """A message's values, or one item of a sequence with what stands around it.

    A path of HL7 finds nothing here, but for the header that a message made of this one begins with: its time (that of
    the step's last change), type, id, P, 2.5.1 and UTF-8.
    """

    values: Mapping[str, Any]
    header: Header
    charset = codec = "utf-8"
    names: Sequence[str] = ("",)
    own: Sequence[int] = (0,)
    delimiters: Delimiters = delimiters(b"|" + _CODING)
    _index = Numbers()

    def get(self, path: str) -> str:
        """Text of the first value at ``path``; empty when it is absent or empty."""
        if not is_value_path(path):
            return self.field(0, 9).decode() if path == "MSH-10" else ""
        return next(iter(read_all(self.values, compile_value_path(path))), "")

    def all(self, path: str) -> list[str]:
        """Every value at ``path``, in every item of a sequence unless the path chooses one."""
        return read_all(self.values, compile_value_path(path)) if is_value_path(path) else []

    def er7(self, path: str) -> list[str]:
        """Every value at ``path`` in the form in which HL7 has it, in ER7 with the usual delimiters: PatientID as CX,
        order and accession numbers as EI, names as XPN, codes as CWE; with the issuers that stand beside them."""
        return er7_fields(self.values, compile_value_path(path), self.delimiters.escape_value)

    def split(self, anchor: str) -> list[DicomView]:
        """One view for each item of the sequence ``anchor``: it sees its item first, then what is around it."""
        items = self.values.get(anchor)
        return [_Item(self, item) for item in items] if isinstance(items, list) else []

    def places(self, path: Path) -> Sequence[int]:
        return (0,) if path.segment in self.values else ()

    def occurrences(self, path: Path, every: bool = False) -> Sequence[int]:
        return ()

    def numbers(self, name: str) -> Sequence[int]:
        return ()

    def segments(self, name: str = "") -> list[Any]:
        return []

    def fields(self, number: int) -> list[bytes]:
        return []

    def field(self, number: int, index: int) -> bytes:
        """A field of the header that a message made of this one begins with (MSH)."""
        if index == 1:
            return _CODING
        if index == 6:
            return self._moment().encode()
        if index == 9:
            return blake2b(self.header.control_id.encode() + self.header.digest, digest_size=10).hexdigest().encode()
        return {8: self.header.type.encode(), 10: b"P", 11: b"2.5.1", 17: b"UNICODE UTF-8"}.get(index, b"")

    def _moment(self) -> str:
        for which in ("End", "Start"):
            date, time = (self.get(f"PerformedProcedureStep{which}{part}") for part in ("Date", "Time"))
            if date:
                return (date + time)[:14]
        return ""


class _Item(DicomView):
    def __init__(self, outer: DicomView, item: Mapping[str, Any]) -> None:
        self.values = {**outer.values, **item}
        self.header = outer.header
