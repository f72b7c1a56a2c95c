"""Performed procedure steps as they are told by a modality (MPPS, PS3.4 annex F): one event, and the step as a whole.

An event is stored as a DICOM file (PS3.10): the data set exactly as it came, and before it, in the file's own header,
who sent it to whom and what was known of the step until then. So an N-SET, which names neither patient nor order, is
read together with the N-CREATE that it belongs to, today and whenever it is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bridge.codecs.dicom_envelope import Envelope, is_envelope, open_envelope
from bridge.codecs.dicom_message import DicomView
from bridge.codecs.dicom_values import Received, Values
from bridge.codecs.performed_order import ORDERS, completed
from bridge.errors import BridgeError, CodecError
from bridge.message import Header

SOP_CLASS = "1.2.840.10008.3.1.2.3.3"
CREATE, SET = "N-CREATE", "N-SET"
IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
FINAL = frozenset({COMPLETED, DISCONTINUED})
STATUS = "PerformedProcedureStepStatus"
SERIES = "PerformedSeriesSequence"

_REQUIRED = (
    STATUS, "PerformedProcedureStepID", "PerformedStationAETitle", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime", "Modality",
)  # fmt: skip
PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_FIXED = frozenset({ORDERS, "StudyID", *PATIENT, *_REQUIRED}) - {STATUS}
"""What an N-SET may not change (PS3.4 table F.7.2-1)."""


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A performed step as far as it was told: how many events, the digest of the last one, its attributes."""

    number: int
    digest: str
    values: Values

    @property
    def status(self) -> str:
        return str(self.values.get(STATUS, ""))


@dataclass(frozen=True)
class Event(Received):
    """One N-CREATE or N-SET as it arrived, and what was known of the step before."""

    command: str
    instance: str
    calling: str
    called: str
    data: bytes
    """The data set, as it came."""
    implicit: bool
    known: KnownStep | None
    lenient: bool = False
    """A final state without all that it should have is taken."""
    ordered: Values = field(default_factory=dict)
    """What the worklist adds to an N-CREATE: see :func:`bridge.codecs.performed_order.unsaid`."""

    @cached_property
    def digest(self) -> str:
        return self.summed(self.command, self.instance).hex()

    @property
    def repeated(self) -> bool:
        """It is the last event once more: its sender has lost the answer."""
        return self.known is not None and self.known.digest == self.digest

    @property
    def number(self) -> int:
        """Its place among the step's events, from 1."""
        return self.known.number + (not self.repeated) if self.known else 1

    @cached_property
    def values(self) -> Values:
        """The step as a whole once this event counts. What may not be changed stays as it was created."""
        if self.known is None or self.command == CREATE:
            return completed(self.told, self.ordered)
        return {**self.known.values, **{key: value for key, value in self.told.items() if key not in _FIXED}}

    @property
    def oddities(self) -> list[str]:
        found = super().oddities
        if self.known is not None and self.command == SET:
            found += [
                f"{key}: an N-SET may not change it, and has not"
                for key in sorted(_FIXED & self.told.keys())
                if self.told[key] != self.known.values.get(key)
            ]
        return found


def encode_event(event: Event) -> bytes:
    """The event as a DICOM file."""
    private: dict[str, Any] = {"command": event.command}
    if event.lenient:
        private["lenient"] = True
    if event.ordered:
        private["ordered"] = event.ordered
    if event.known:
        private["known"] = {"number": event.known.number, "digest": event.known.digest, "values": event.known.values}
    who = (SOP_CLASS, event.instance, event.calling, event.called)
    return Envelope(*who, event.implicit, private, event.data).encode()


def decode_event(raw: bytes) -> Event:
    """Raises CodecError for what is no event of a performed step, or whose data set cannot be read."""
    try:
        envelope = open_envelope(raw)
        private = envelope.private
        return Event(
            command=private["command"],
            instance=envelope.instance,
            calling=envelope.calling,
            called=envelope.called,
            data=envelope.data,
            implicit=envelope.implicit,
            known=KnownStep(**private["known"]) if "known" in private else None,
            lenient=private.get("lenient", False),
            ordered=private.get("ordered", {}),
        )
    except (CodecError, KeyError, TypeError, AttributeError):
        what, fix = "not an event of a performed procedure step", "send what a dicom-mpps-in channel received"
        raise CodecError(what, fix=fix) from None


def is_event(raw: bytes) -> bool:
    """Whether this is a file of :func:`encode_event`, as far as its beginning tells."""
    return is_envelope(raw) and SOP_CLASS.encode() in raw[:512]


def check(event: Event) -> None:
    """Raises BridgeError for an event that PS3.4 F.7.2 has an SCP refuse. The same event once more is none."""
    if not event.instance:
        raise CodecError("no SOP Instance UID", at="SOPInstanceUID", fix="give every step its own", kind="required")
    if event.repeated:
        return
    if event.command == CREATE:
        _check_create(event)
        return
    if event.known is None:
        fix = "send its N-CREATE first, to this AE title"
        raise BridgeError("no such performed step", at="SOPInstanceUID", fix=fix, kind="unknown_key")
    if event.known.status in FINAL:
        fix = "create a new step to go on"
        raise BridgeError("Performed Procedure Step Object may no longer be updated", at=STATUS, fix=fix, kind="locked")
    status = event.values.get(STATUS)
    if status not in (IN_PROGRESS, *FINAL):
        raise CodecError(f"{STATUS} is unknown", at=STATUS, fix=f"send {COMPLETED} or {DISCONTINUED}", kind="datatype")
    if status in FINAL and not event.lenient:
        _require(_missing_at_the_end(event.values))


def _check_create(event: Event) -> None:
    if event.known is not None:
        fix = "give every step a SOP Instance UID of its own"
        raise BridgeError("this performed step is here already", at="SOPInstanceUID", fix=fix, kind="duplicate_key")
    _require(_missing_at_first(event.told))
    if event.told[STATUS] != IN_PROGRESS:
        raise CodecError(
            f"a step is not created as {IN_PROGRESS}", at=STATUS, fix=f"send {IN_PROGRESS}", kind="datatype"
        )


def _require(missing: Iterator[str]) -> None:
    if place := next(missing, None):
        fix = f"send {place}; it may not be empty (PS3.4 table F.7.2-1)"
        raise CodecError("a required value is missing", at=place, fix=fix, kind="required")


def _missing_at_first(values: Mapping[str, Any]) -> Iterator[str]:
    yield from (keyword for keyword in _REQUIRED if not values.get(keyword))
    if not values.get(ORDERS):
        yield ORDERS
    yield from _missing_in(values, ORDERS, ("StudyInstanceUID",))


def _missing_at_the_end(values: Mapping[str, Any]) -> Iterator[str]:
    last = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", SERIES)
    yield from (keyword for keyword in last if not values.get(keyword))
    yield from _missing_in(values, SERIES, ("ProtocolName", "SeriesInstanceUID"))


def _missing_in(values: Mapping[str, Any], sequence: str, keywords: tuple[str, ...]) -> Iterator[str]:
    for number, item in enumerate(values.get(sequence) or (), start=1):
        yield from (f"{sequence}[{number}].{keyword}" for keyword in keywords if not item.get(keyword))


class PerformedStep(DicomView):
    """A message: one event, read as the step that it makes. Paths are DICOM keywords; ``SOPInstanceUID``,
    ``SourceApplicationEntityTitle`` (the modality) and ``ReceivingApplicationEntityTitle`` are those of the event."""

    def __init__(self, event: Event, raw: bytes) -> None:
        self.event, self.raw = event, raw
        about = {
            "SOPInstanceUID": event.instance,
            "SourceApplicationEntityTitle": event.calling,
            "ReceivingApplicationEntityTitle": event.called,
        }
        self.values = {**event.values, **about}
        self.header = self._header()
        self.warnings = self.header.warnings

    @property
    def kind(self) -> tuple[str, str]:
        """``MPPS`` and CREATE, SET, COMPLETED or DISCONTINUED."""
        if self.event.command == CREATE:
            return "MPPS", "CREATE"
        status = str(self.values.get(STATUS, ""))
        return "MPPS", status if status in FINAL else "SET"

    def moment(self) -> str:
        """The end of the step, else its start."""
        for which in ("End", "Start"):
            date, time = (self.get(f"PerformedProcedureStep{which}{part}") for part in ("Date", "Time"))
            if date:
                return (date + time)[:14]
        return ""

    def check(self) -> None:
        """See :func:`check`."""
        check(self.event)

    def _header(self) -> Header:
        """Patients and orders are those of the step as a whole: every event of a step has the same lane keys."""
        event, orders = self.event, self.values.get(ORDERS) or []
        accessions = (item.get("AccessionNumber") for item in orders)
        return Header(
            type="^".join(self.kind),
            control_id=f"{event.instance}#{event.number}",
            sender=f"{event.calling}|{event.called}",
            charset=self.charset,
            patients=tuple(patients(self.values)),
            orders=tuple(dict.fromkeys(number for item in orders for number in order_numbers(item))),
            accession=next((str(one) for one in accessions if one), ""),
            digest=bytes.fromhex(event.digest),
            warnings=tuple(event.oddities),
        )


def parse_step(raw: bytes) -> PerformedStep:
    """Raises CodecError as :func:`decode_event` does."""
    return PerformedStep(decode_event(raw), raw)


def patients(values: Mapping[str, Any]) -> Iterator[str]:
    """``id^issuer`` of the patient."""
    if number := values.get("PatientID"):
        yield f"{number}^{values.get('IssuerOfPatientID', '')}"


def order_numbers(item: Mapping[str, Any]) -> Iterator[str]:
    """``placer:number^issuer`` and ``filler:number^issuer`` of one order that the step is done for."""
    for kind in ("Placer", "Filler"):
        if number := item.get(f"{kind}OrderNumberImagingServiceRequest"):
            issuers = item.get(f"Order{kind}IdentifierSequence") or [{}]
            issuer = issuers[0].get("LocalNamespaceEntityID") or issuers[0].get("UniversalEntityID") or ""
            yield f"{kind.lower()}:{number}^{issuer}"
