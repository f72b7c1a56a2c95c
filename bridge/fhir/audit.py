"""Who did what on the FHIR facade: one access, and how FHIR tells it (R4 auditevent.html; IHE BALP as far as known)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_REST = "http://hl7.org/fhir/restful-interaction"
_ACTIONS = {"create": "C", "read": "R", "vread": "R", "update": "U", "patch": "U", "delete": "D"}
ACTION = "fhir."
"""How the audit trail names them: ``fhir.read``."""
_MOST = 200
"""Patients that one record names; how many there were is told too."""


@dataclass(frozen=True, slots=True)
class Access:
    """One interaction, done or refused."""

    at: int
    """Milliseconds since the epoch."""
    channel: str
    actor: str
    """Whose token it was; empty: nobody's that is known."""
    client: str
    user: str
    peer: str
    act: str
    """FHIR's code of the interaction: ``read``, ``search-type``."""
    type: str
    id: str
    status: int
    """Of the HTTP answer."""
    query: str = ""
    """SHA-256 of what was searched."""
    asked: tuple[str, ...] = ()
    """The names of the search parameters."""
    shown: tuple[tuple[str, str], ...] = ()
    """Type and id of what went out, or was written."""

    @property
    def subject(self) -> str:
        return f"{self.type}/{self.id}" if self.id else self.type

    def detail(self, patients: list[str]) -> dict[str, Any]:
        """What the audit trail keeps besides; ``patients``: ids of those whom ``shown`` is about."""
        said = {
            "channel": self.channel,
            "client": self.client,
            "user": self.user,
            "peer": self.peer,
            "status": self.status,
            "query": self.query,
            "asked": list(self.asked),
            "shown": len(self.shown),
            "patients": patients[:_MOST],
            "of": len(patients),
        }
        return {key: value for key, value in said.items() if value}


def event(record: Mapping[str, Any], site: str) -> dict[str, Any]:
    """A record of the audit trail (id, at, actor, action, subject, detail) as AuditEvent."""
    detail, act = record["detail"], record["action"].removeprefix(ACTION)
    status = detail.get("status", 500)
    made = {
        "resourceType": "AuditEvent",
        "id": record["id"],
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "subtype": [{"system": _REST, "code": act}],
        "action": _ACTIONS.get(act, "E"),
        "recorded": datetime.fromtimestamp(record["at"] / 1000, UTC).isoformat(timespec="milliseconds"),
        "outcome": "0" if status < 400 else "4" if status < 500 else "8",
        "outcomeDesc": f"HTTP {status}",
        "agent": _agents(detail),
        "source": {"site": site, "observer": {"display": f"Radbridge {detail.get('channel', '')}"}},
    }
    entities = _entities(record["subject"], detail)
    return made | ({"entity": entities} if entities else {})


def _agents(detail: Mapping[str, Any]) -> list[dict[str, Any]]:
    user, client = detail.get("user"), detail.get("client")
    source = {
        "type": {"coding": [{"system": _DICOM, "code": "110153", "display": "Source Role ID"}]},
        "who": {"identifier": {"value": client}} if client else {"display": "unknown"},
        "requestor": not user,
        "network": {"address": detail.get("peer", "") or "unknown", "type": "2"},
    }
    if not user:
        return [source]
    return [source, {"who": {"identifier": {"value": user}}, "requestor": True}]


def _entities(subject: str, detail: Mapping[str, Any]) -> list[dict[str, Any]]:
    person, thing = ({"system": _TYPE, "code": code} for code in ("1", "2"))
    entities: list[dict[str, Any]] = [
        {"what": {"reference": f"Patient/{one}"}, "type": person, "role": {"system": _ROLE, "code": "1"}}
        for one in detail.get("patients", [])
    ]
    if "/" in subject and subject.removeprefix("Patient/") not in detail.get("patients", []):
        entities.append({"what": {"reference": subject}, "type": thing, "role": {"system": _ROLE, "code": "4"}})
    if subject and "/" not in subject:
        query, names = detail.get("query", ""), " ".join(detail.get("asked", []))
        said = [("type", subject), ("sha256", query), ("parameters", names)]
        told = [{"type": name, "valueString": value} for name, value in said if value]
        entities.append({"type": thing, "role": {"system": _ROLE, "code": "24"}, "detail": told})
    return entities


_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
