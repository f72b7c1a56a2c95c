"""What a subscriber by topic is sent: a history Bundle whose first entry says how the subscription stands
(Subscriptions R5 Backport 1.1, profiles backport-subscription-notification-r4 and -status-r4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from bridge.codecs.fhir import encode
from bridge.fhir.interaction import Json
from bridge.fhir.subscription import BACKPORT, Content

Kind = Literal["handshake", "heartbeat", "event-notification", "query-status", "query-event"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a subscription asked for: a version of a resource."""

    number: int
    """From 1 on, without a gap."""
    at: int
    """Milliseconds since the epoch."""
    type: str
    id: str
    version: str
    method: str
    body: bytes


@dataclass(frozen=True, slots=True)
class State:
    """How a subscription stands, as a notification tells it."""

    base: str
    """The service's URL, as the client knows it."""
    id: str
    topic: str
    """Its URL; empty of a plain one."""
    status: str
    count: int
    """Events since it began."""
    error: str = ""

    @property
    def url(self) -> str:
        return f"{self.base}/Subscription/{self.id}"


def bundle(state: State, kind: Kind, content: Content, at: int, events: Sequence[Event] = ()) -> bytes:
    """The notification of ``events``, made at ``at`` (milliseconds). The same ones make the same ids."""
    first = {
        **status_entry(state, kind, events, named=content != "empty"),
        "request": {"method": "GET", "url": f"{state.url}/$status"},
        "response": {"status": "200"},
    }
    entries = [encode(first)]
    if content == "full-resource":
        entries += [_entry(state, event) for event in _apart(events)]
    head = {
        "resourceType": "Bundle",
        "id": first["resource"]["id"],
        "meta": {"profile": [f"{BACKPORT}/StructureDefinition/backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(at),
    }
    return encode(head)[:-1] + b',"entry":[' + b",".join(entries) + b"]}"


def status_entry(state: State, kind: Kind, events: Sequence[Event] = (), *, named: bool = False) -> Json:
    """``fullUrl`` and ``resource`` of the Parameters that tell how a subscription stands; with ``named`` the topic and
    what the events are about."""
    span = f"{events[0].number}-{events[-1].number}" if events else str(state.count)
    number = str(uuid5(NAMESPACE_URL, f"{state.url}/{kind}/{state.status}/{span}"))
    parameters: list[Json] = [{"name": "subscription", "valueReference": {"reference": state.url}}]
    if state.topic and (named or not events):
        parameters.append({"name": "topic", "valueCanonical": state.topic})
    parameters += [
        {"name": "status", "valueCode": state.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(state.count)},
    ]
    parameters += [_event(state, event, named=named) for event in events]
    if state.error:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": state.error}})
    resource = {
        "resourceType": "Parameters",
        "id": number,
        "meta": {"profile": [f"{BACKPORT}/StructureDefinition/backport-subscription-status-r4"]},
        "parameter": parameters,
    }
    return {"fullUrl": f"urn:uuid:{number}", "resource": resource}


def instant(millis: int) -> str:
    """A FHIR instant."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(state: State, event: Event, *, named: bool) -> Json:
    parts: list[Json] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": instant(event.at)},
    ]
    if named:
        parts.append({"name": "focus", "valueReference": {"reference": _url(state, event)}})
    return {"name": "notification-event", "part": parts}


def _apart(events: Sequence[Event]) -> list[Event]:
    """Each version once: no two entries may be of the same (R4 bundle.html, bdl-7)."""
    return list({(event.type, event.id, event.version): event for event in events}.values())


def _entry(state: State, event: Event) -> bytes:
    url = event.type if event.method == "POST" else f"{event.type}/{event.id}"
    parts = {
        "fullUrl": _url(state, event),
        "request": {"method": event.method, "url": url},
        "response": {"status": "201" if event.version == "1" else "200"},
    }
    return encode(parts)[:-1] + b',"resource":' + event.body + b"}"


def _url(state: State, event: Event) -> str:
    return f"{state.base}/{event.type}/{event.id}"
