"""A worklist item that came as a file, as a message: the file as it is; or that it has left its folder.

What has left is told by a file of ours: what the item was known by, and a mark in the file's own header.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from bridge.codecs.dicom import Problem, missing, problems
from bridge.codecs.dicom_file import from_file, to_file, update_of
from bridge.codecs.dicom_match import texts
from bridge.codecs.dicom_message import DicomView
from bridge.errors import CodecError
from bridge.message import Header
from bridge.model import StepStatus, UnknownOrder, WorklistDocument, WorklistStep, WorklistUpdate

GONE = "2.25.309485710293847561029384756102938475610"
"""Creator of the private information of a file that tells of one that is gone."""
_STEP, _ID = "ScheduledProcedureStepSequence", "ScheduledProcedureStepID"
_KNOWN_BY = (
    "AccessionNumber", "IssuerOfAccessionNumberSequence", "PatientID", "IssuerOfPatientID", "StudyInstanceUID",
    "PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence",
    "FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence",
)  # fmt: skip


class WorklistFile(DicomView):
    """A message: one item. ``gone``: it has left its folder, and ``values`` are only what it was known by."""

    def __init__(self, values: dict[str, Any], raw: bytes, *, gone: bool) -> None:
        self.values, self.raw, self.gone = values, raw, gone
        numbers = update_of(values).order
        patient = f"{values.get('PatientID', '')}^{values.get('IssuerOfPatientID', '')}"
        self.header = Header(
            type="MWL^GONE" if gone else "MWL^ITEM",
            charset=self.charset,
            patients=(patient,) if values.get("PatientID") else (),
            orders=tuple(number for number in numbers if not number.startswith("accession:")),
            accession=str(values.get("AccessionNumber") or ""),
            digest=blake2b(raw, digest_size=16).digest(),
        )
        self.warnings = self.header.warnings

    @property
    def kind(self) -> tuple[str, str]:
        """``MWL`` and ITEM or GONE."""
        return "MWL", "GONE" if self.gone else "ITEM"

    def moment(self) -> str:
        parts = (self.get(f"{_STEP}.ScheduledProcedureStepStart{part}") for part in ("Date", "Time"))
        return "".join(parts)[:14]

    def check(self) -> None:
        """Raises CodecError for an item that no scanner could be sent."""
        if self.gone:
            return
        found = problems(self.values) + missing(self.values)
        if len(self.values.get(_STEP) or ()) > 1:
            found.append(Problem(_STEP, "several steps in one item", "give each its own file"))
        if found:
            first = found[0]
            raise CodecError(first.what, at=first.at, fix=first.fix or "fill it in", kind=first.kind)

    def document(self, issuer: str = "") -> WorklistDocument:
        """What it does to the worklist. ``issuer`` is the authority of numbers that carry none."""
        update = update_of(self.values, issuer)
        if self.gone:
            named = (WorklistStep(dict(self.values)),)
            update = WorklistUpdate(update.order, StepStatus.CANCELLED, named, True, UnknownOrder.IGNORE)
        return WorklistDocument((update,))


def parse_item(raw: bytes) -> WorklistFile:
    """Raises CodecError for what is no worklist file."""
    values = from_file(raw)
    if not isinstance(values.get(_STEP), list) or not values[_STEP]:
        raise CodecError("no worklist item", at=_STEP, fix="give a .wl file of a worklist server", kind="required")
    return WorklistFile(values, raw, gone=GONE.encode() in raw[132:512])


def known_by(values: Mapping[str, Any]) -> dict[str, Any]:
    """What an item is known by, however it changes: small, and enough for :func:`gone_file`."""
    found = {keyword: values[keyword] for keyword in _KNOWN_BY if values.get(keyword)}
    step = (values.get(_STEP) or [{}])[0]
    return {**found, _STEP: [{_ID: texts(step.get(_ID))[0]} if texts(step.get(_ID)) else {}]}


def gone_file(known: Mapping[str, Any]) -> bytes:
    """The file that tells that the item which was ``known`` by this is gone."""
    return to_file(known, creator=GONE)
