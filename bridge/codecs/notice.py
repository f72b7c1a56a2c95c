"""Notices of an archive: instances are available (PS3.4 annex R), or committed to be kept (PS3.4 annex J).

An archive names instances, seldom an order: what is known of their study when a notice comes is kept with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bridge.codecs.dicom_envelope import Envelope, open_envelope
from bridge.codecs.dicom_message import DicomView
from bridge.codecs.dicom_values import Received, Values, items
from bridge.codecs.performed import PATIENT, order_numbers, patients
from bridge.codecs.performed_order import ORDERS
from bridge.errors import CodecError
from bridge.message import Header

AVAILABILITY, COMMITMENT = "1.2.840.10008.5.1.4.33", "1.2.840.10008.1.20.1"
SUCCESS, FAILURE = 1, 2
"""Event types of a commitment (PS3.4 J.3.3): all instances are kept; some are not."""
_ORDER = (
    "StudyInstanceUID", "AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestedProcedureID",
    "PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence",
    "FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Notice(Received):
    """One N-CREATE (availability) or N-EVENT-REPORT (commitment) as it arrived. ``about``: what was known of it."""

    sop_class: str
    instance: str
    event: int
    """Event type of an N-EVENT-REPORT, else 0."""
    calling: str
    called: str
    data: bytes
    implicit: bool
    about: Values = field(default_factory=dict)
    """Patient, and orders as a performed step has them."""

    @cached_property
    def digest(self) -> bytes:
        return self.summed(self.sop_class, self.instance, self.event)

    @property
    def studies(self) -> list[str]:
        return [str(one) for one in [self.told.get("StudyInstanceUID")] if one]

    @property
    def performed(self) -> list[str]:
        """SOP Instance UIDs of the performed steps that it names."""
        named = items(self.told.get("ReferencedPerformedProcedureStepSequence"))
        return [str(item["ReferencedSOPInstanceUID"]) for item in named if item.get("ReferencedSOPInstanceUID")]


def about_step(values: Mapping[str, Any]) -> Values:
    """What a performed step knows that a notice does not say."""
    return {key: values[key] for key in (*PATIENT, ORDERS) if values.get(key)}


def about_items(listed: Sequence[Mapping[str, Any]]) -> Values:
    """The same from the worklist items of its study."""
    patient = {key: item[key] for item in listed[:1] for key in PATIENT if item.get(key)}
    orders = [{key: item[key] for key in _ORDER if item.get(key)} for item in listed]
    distinct = [order for number, order in enumerate(orders) if order not in orders[:number]]
    return {**patient, ORDERS: distinct} if distinct else {}


def encode_notice(notice: Notice) -> bytes:
    """The notice as a DICOM file."""
    private = {"command": "NOTICE", "event": notice.event, "about": notice.about}
    who = (notice.sop_class, notice.instance, notice.calling, notice.called)
    return Envelope(*who, notice.implicit, private, notice.data).encode()


class NoticeMessage(DicomView):
    """A message: what it says itself goes before what is known of its study."""

    def __init__(self, notice: Notice, raw: bytes) -> None:
        self.notice, self.raw = notice, raw
        names = {
            "SOPInstanceUID": notice.instance,
            "SourceApplicationEntityTitle": notice.calling,
            "ReceivingApplicationEntityTitle": notice.called,
        }
        self.values = {**notice.about, **{key: value for key, value in notice.told.items() if value}, **names}
        orders = items(self.values.get(ORDERS))
        accessions = (str(item["AccessionNumber"]) for item in orders if item.get("AccessionNumber"))
        self.header = Header(
            type="^".join(self.kind),
            control_id=f"{notice.told.get('TransactionUID') or notice.instance or notice.digest.hex()}#{notice.event}",
            sender=f"{notice.calling}|{notice.called}",
            charset=self.charset,
            patients=tuple(patients(self.values)),
            orders=tuple(dict.fromkeys(number for item in orders for number in order_numbers(item))),
            accession=next(accessions, ""),
            digest=notice.digest,
            warnings=tuple(notice.oddities),
        )
        self.warnings = self.header.warnings

    @property
    def kind(self) -> tuple[str, str]:
        """``IAN`` and CREATE, ``STGCMT`` and SUCCESS or FAILURE."""
        if self.notice.sop_class == AVAILABILITY:
            return "IAN", "CREATE"
        return "STGCMT", "FAILURE" if self.notice.event == FAILURE else "SUCCESS"

    def check(self) -> None:
        """Raises CodecError for a notice that does not say what it is about."""
        needed = "StudyInstanceUID" if self.notice.sop_class == AVAILABILITY else "TransactionUID"
        if not self.notice.told.get(needed):
            fix = f"send {needed}"
            raise CodecError("it does not say what it is about", at=needed, fix=fix, kind="required")


def parse_notice(raw: bytes) -> NoticeMessage:
    """Raises CodecError for what is none."""
    envelope = open_envelope(raw)
    who = (envelope.calling, envelope.called, envelope.data, envelope.implicit)
    try:
        event, about = int(envelope.private["event"]), dict(envelope.private["about"])
    except (KeyError, TypeError, ValueError):
        raise CodecError("not a notice of an archive", fix="send what a dicom-mpps-in channel received") from None
    return NoticeMessage(Notice(envelope.sop_class, envelope.instance, event, *who, about), raw)
