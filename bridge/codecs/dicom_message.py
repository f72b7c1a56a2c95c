"""Reading a DICOM message as mappings read an HL7 one: by path, and split into the items of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.codecs.dicom_fields import er7_fields
from bridge.codecs.dicom_values import compile_value_path, is_value_path, read_all
from bridge.codecs.foreign import Foreign

EVENTS = {
    "MPPS": ("CREATE", "SET", "COMPLETED", "DISCONTINUED"),
    "MWL": ("ITEM", "GONE"),
    "IAN": ("CREATE",),
    "STGCMT": ("SUCCESS", "FAILURE"),
}
"""Kinds of DICOM messages, and their events: performed procedure steps, worklist files, availability of instances,
storage commitment."""


class DicomView(Foreign):
    """A message's values, or one item of a sequence with what stands around it. Its time is that of the step's last
    change."""

    values: Mapping[str, Any]

    def all(self, path: str) -> list[str]:
        """Every value at ``path``, in every item of a sequence unless the path chooses one."""
        return read_all(self.values, compile_value_path(path)) if is_value_path(path) else []

    def er7(self, path: str, site: Mapping[str, Any]) -> list[str]:
        """Every value at ``path`` in the form in which HL7 has it, in ER7 with the usual delimiters: PatientID as CX,
        order and accession numbers as EI, names as XPN, codes as CWE; with the issuers that stand beside them."""
        return er7_fields(self.values, compile_value_path(path), self.delimiters.escape_value)

    def split(self, anchor: str) -> list[DicomView]:
        """One view for each item of the sequence ``anchor``: it sees its item first, then what is around it."""
        items = self.values.get(anchor)
        return [_Item(self, item) for item in items] if isinstance(items, list) else []

    def has(self, name: str) -> bool:
        return name in self.values


class _Item(DicomView):
    def __init__(self, outer: DicomView, item: Mapping[str, Any]) -> None:
        self.values = {**outer.values, **item}
        self.header = outer.header
