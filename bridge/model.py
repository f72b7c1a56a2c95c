"""The canonical model: what mappings make and projections keep, in the words of IHE and DICOM."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from pydantic_core import to_json


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A code that a table has no row for, and what was done instead."""

    table: str
    columns: str
    """The table's key columns, parted by commas."""
    code: str
    """The keys, parted by ``|``; empty for what is of the patient's own segments, or too long for a code."""
    outcome: str
    """``passed``, ``emptied``, ``replaced``, ``parked`` or ``refused``."""


class StepStatus(StrEnum):
    """Status of a Scheduled Procedure Step as the worklist knows it."""

    SCHEDULED = "scheduled"
    STARTED = "started"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"
    CANCELLED = "cancelled"
    HELD = "held"
    """Its order is put on hold; released, it is scheduled again."""
    WAITING = "waiting"
    """Scheduled, but its appointment was taken away and no other one is made yet. No order says so."""


class AppointmentStatus(StrEnum):
    """What an appointment does to the steps of its order."""

    BOOKED = "booked"
    """It says when and where they are done."""
    FREED = "freed"
    """It is no more: they wait, off the list, until they are booked or ordered anew."""
    OPEN = "open"
    """It is no more: they are listed as the order itself says."""


class UnknownOrder(StrEnum):
    """What to do with a change or cancellation of an order that was never seen."""

    CREATE = "create"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class WorklistStep:
    """One Scheduled Procedure Step with all attributes of its worklist item (PS3.4 table K.6-1).

    ``attributes`` maps DICOM keywords to text, to a list of texts (several values), or to a list of mappings
    (a sequence). Dates are DA, times TM, both local to the site; names are DICOM PN. The step's own attributes are
    the single item of ``ScheduledProcedureStepSequence``.
    """

    attributes: dict[str, Any]

    @property
    def step(self) -> dict[str, Any]:
        items = self.attributes.get("ScheduledProcedureStepSequence") or [{}]
        first: dict[str, Any] = items[0]
        return first


@dataclass(frozen=True, slots=True)
class WorklistUpdate:
    """What an order message says about one order in the worklist.

    ``order`` lists the identifiers by which the Imaging Service Request is known (``placer:number^issuer``,
    ``filler:number^issuer``, ``accession:number^issuer``): any one in common means the same order. ``status`` holds
    for ``steps``, or for every step of the order when none is named. Scheduled steps come with all their attributes;
    with any other status they only name which steps are meant, by ``StudyInstanceUID``, ``ScheduledProcedureStepID`` or
    both, as far as the message gives them.
    """

    order: tuple[str, ...]
    status: StepStatus
    steps: tuple[WorklistStep, ...] = ()
    known_only: bool = False
    """The message changes an order (XO, CA, ...) rather than making one: ``if_unknown`` applies."""
    if_unknown: UnknownOrder = UnknownOrder.CREATE
    notes: tuple[str, ...] = field(default=())


PATIENT_ATTRIBUTES = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientSex",
)
"""Attributes of a worklist item that are the patient's, whatever the order."""


@dataclass(frozen=True, slots=True)
class PatientUpdate:
    """What a message says about one patient: it refreshes the open items of that patient's orders.

    ``patients`` are the patient's identifiers, ``retired`` those that were merged into one of them or replaced by it
    (``id^issuer``): an item under a retired one moves to the new Patient ID. ``attributes`` are some of
    ``PATIENT_ATTRIBUTES``; None takes a value away, what is not named stays.
    """

    patients: tuple[str, ...]
    retired: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppointmentUpdate:
    """What a message says about one appointment for an order.

    ``order`` are identifiers of the order, as in :class:`WorklistUpdate`; ``appointment`` tells the appointments of one
    order apart (``number^issuer``). ``attributes`` are those of the Scheduled Procedure Step that the appointment
    settles (start, station, location, performing physician); what is not named stays as it was booked or ordered.
    ``service`` is what it is for, as its scheduler calls it: of several steps, those that are called so (code,
    procedure id or step id) are meant; empty, or not known in the order: all of them.
    """

    order: tuple[str, ...]
    appointment: str
    status: AppointmentStatus
    attributes: dict[str, Any] = field(default_factory=dict)
    service: str = ""


@dataclass(frozen=True, slots=True)
class PerformedUpdate:
    """What a modality says of one scheduled step that it works on, or worked on.

    ``instance`` tells the performed steps apart (SOP Instance UID of the MPPS). ``status`` is what has become of the
    scheduled step by this performed step alone: started, completed, discontinued; or scheduled when it was taken up by
    mistake and is given back. The scheduled step is known by ``step`` (Scheduled Procedure Step ID) and one of
    ``study`` and ``accession``; without ``step``, the only open one of the study is meant.
    """

    instance: str
    status: StepStatus
    study: str
    accession: str
    step: str


@dataclass(frozen=True, slots=True)
class WorklistDocument:
    """What a worklist mapping renders to: one update for each order, patient, appointment or performed step the message
    speaks of.

    Empty when the message changes nothing in the worklist (number assignments, answers, status requests).
    """

    updates: tuple[WorklistUpdate, ...] = ()
    patients: tuple[PatientUpdate, ...] = ()
    appointments: tuple[AppointmentUpdate, ...] = ()
    performed: tuple[PerformedUpdate, ...] = ()

    def to_json(self) -> bytes:
        whole: dict[str, Any] = {"updates": [_plain(update) for update in self.updates]}
        if self.patients:
            whole["patients"] = [asdict(patient) for patient in self.patients]
        if self.appointments:
            whole["appointments"] = [asdict(appointment) for appointment in self.appointments]
        if self.performed:
            whole["performed"] = [asdict(performed) for performed in self.performed]
        return to_json(whole)

    @classmethod
    def from_json(cls, data: bytes) -> WorklistDocument:
        whole = json.loads(data)
        return cls(
            tuple(_update(raw) for raw in whole["updates"]),
            tuple(_patient(raw) for raw in whole.get("patients", ())),
            tuple(_appointment(raw) for raw in whole.get("appointments", ())),
            tuple(_performed(raw) for raw in whole.get("performed", ())),
        )


def _performed(raw: dict[str, Any]) -> PerformedUpdate:
    return PerformedUpdate(**{**raw, "status": StepStatus(raw["status"])})


def _appointment(raw: dict[str, Any]) -> AppointmentUpdate:
    status = AppointmentStatus(raw["status"])
    return AppointmentUpdate(tuple(raw["order"]), raw["appointment"], status, raw["attributes"], raw.get("service", ""))


def _patient(raw: dict[str, Any]) -> PatientUpdate:
    return PatientUpdate(tuple(raw["patients"]), tuple(raw["retired"]), raw["attributes"])


def _plain(update: WorklistUpdate) -> dict[str, Any]:
    return {
        "order": update.order,
        "status": update.status,
        "steps": [{"attributes": step.attributes} for step in update.steps],
        "known_only": update.known_only,
        "if_unknown": update.if_unknown,
        "notes": update.notes,
    }


def _update(raw: dict[str, Any]) -> WorklistUpdate:
    return WorklistUpdate(
        order=tuple(raw["order"]),
        status=StepStatus(raw["status"]),
        steps=tuple(WorklistStep(step["attributes"]) for step in raw["steps"]),
        known_only=raw["known_only"],
        if_unknown=UnknownOrder(raw["if_unknown"]),
        notes=tuple(raw["notes"]),
    )
