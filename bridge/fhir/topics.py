"""What one can be told of without writing a search: the topics of subscriptions (R5 subscriptiontopic.html).

R4 has no such resource. Subscriptions name a topic by its URL, as the Subscriptions R5 Backport guide has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_ROOT = "urn:radbridge:topic:"
_DEFINITION = "http://hl7.org/fhir/StructureDefinition/"
_OF_PATIENT = ("_id", "identifier", "patient", "subject")
_OF_ORDER = (*_OF_PATIENT, "category", "code", "performer", "priority", "requester", "status")
_OF_REPORT = (*_OF_PATIENT, "based-on", "category", "code", "performer", "results-interpreter")
_OF_EXAM = (*_OF_PATIENT, "based-on", "category", "code", "performer")
_BOTH = ("create", "update")


@dataclass(frozen=True, slots=True)
class Topic:
    """Fires when a version of ``kind`` is written that meets ``current``, and the version before it met ``previous``
    (searches, URL-encoded; empty: any). A first version has none before it: then ``current`` alone counts."""

    name: str
    title: str
    kind: str
    current: str = ""
    previous: str = ""
    on: tuple[str, ...] = _BOTH
    filters: tuple[str, ...] = _OF_PATIENT
    """Search parameters by which a subscription may narrow it."""

    @property
    def url(self) -> str:
        return f"{_ROOT}{self.name}"


def _becomes(name: str, title: str, kind: str, status: str, filters: tuple[str, ...], on: Any = _BOTH) -> Topic:
    return Topic(name, title, kind, f"status={status}", f"status:not={status}", on, filters)


_ALL = (
    _becomes("report-preliminary", "A report can be read before it is signed", "DiagnosticReport",
             "preliminary,partial", _OF_REPORT),
    _becomes("report-final", "A report becomes final", "DiagnosticReport", "final", _OF_REPORT),
    Topic("report-corrected", "A final report is corrected or added to", "DiagnosticReport",
          "status=amended,corrected,appended", filters=_OF_REPORT),
    _becomes("report-withdrawn", "A report is withdrawn", "DiagnosticReport", "cancelled,entered-in-error", _OF_REPORT,
             on=("update",)),
    _becomes("exam-started", "An exam starts", "Procedure", "in-progress", _OF_EXAM),
    _becomes("exam-completed", "An exam is completed", "Procedure", "completed", _OF_EXAM),
    _becomes("exam-discontinued", "An exam is broken off or not done", "Procedure", "stopped,not-done", _OF_EXAM),
    Topic("order-placed", "There is a new order", "ServiceRequest", on=("create",), filters=_OF_ORDER),
    Topic("order-changed", "Anything of an order changes", "ServiceRequest", on=("update",), filters=_OF_ORDER),
    _becomes("order-cancelled", "An order is cancelled", "ServiceRequest", "revoked,entered-in-error", _OF_ORDER),
    _becomes("appointment-booked", "An appointment is booked", "Appointment", "booked",
             ("_id", "identifier", "patient", "actor", "based-on", "location")),
    _becomes("appointment-cancelled", "An appointment is cancelled or missed", "Appointment", "cancelled,noshow",
             ("_id", "identifier", "patient", "actor", "based-on", "location")),
    _becomes("study-available", "The images of a study are available", "ImagingStudy", "available",
             ("_id", "identifier", "patient", "subject", "basedon", "modality")),
    Topic("patient-merged", "A patient is replaced by another", "Patient",
          "active=false&link:missing=false", "link:missing=true", filters=("_id", "identifier", "link")),
    Topic("patient-changed", "Anything of a patient changes", "Patient", on=("update",),
          filters=("_id", "identifier", "general-practitioner")),
)  # fmt: skip

TOPICS = {topic.url: topic for topic in _ALL}
"""By URL."""


def described(topic: Topic) -> dict[str, Any]:
    """The topic as R5 writes it: a SubscriptionTopic."""
    criteria = {"previous": topic.previous, "current": topic.current}
    query: dict[str, Any] = {key: value for key, value in criteria.items() if value}
    if topic.previous:
        created = "test-passes" if "create" in topic.on else "test-fails"
        query |= {"resultForCreate": created, "requireBoth": True}
    trigger: dict[str, Any] = {"resource": f"{_DEFINITION}{topic.kind}", "supportedInteraction": list(topic.on)}
    if query:
        trigger["queryCriteria"] = query
    return {
        "resourceType": "SubscriptionTopic",
        "id": topic.name,
        "url": topic.url,
        "title": topic.title,
        "status": "active",
        "resourceTrigger": [trigger],
        "canFilterBy": [{"resource": topic.kind, "filterParameter": one} for one in topic.filters],
        "notificationShape": [{"resource": topic.kind}],
    }
