"""What a FHIR message refers to and does not hold: looked up before its mapping, and kept with the delivery (law 6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from bridge.codecs.fhir_message import FhirMessage
from bridge.errors import NotFound
from bridge.fhir.interaction import TYPES
from bridge.mapping.known import CONTEXT, MESSAGE, RECEIVED
from bridge.message import Header, id_millis
from bridge.store.fhir import FhirStore

Json = dict[str, Any]
_LIMIT = 200
"""Resources that are asked for, for one message; its mapping notes what it lacks."""
_FURTHER = frozenset({"Appointment", "DiagnosticReport", "PractitionerRole", "ServiceRequest", "Task"})
"""What these refer to is fetched, too: the patient of the order that a task is about."""
_BACK = {"ServiceRequest": (("Appointment", "based-on"), ("Task", "focus"), ("Task", "based-on"))}
"""What is fetched because it refers to a resource of the message: type and search parameter."""


def known(store: FhirStore, parsed: Any, *, back: bool = True) -> dict[str, Json]:
    """The resources that a FHIR message refers to, by the references that lead to them, and (``back``) those that refer
    to what it is about; one that is not there is left out. Nothing for other messages. Blocks on the database."""
    found: dict[str, Json] = {}
    if not isinstance(parsed, FhirMessage):
        return found
    wanted = dict.fromkeys([*parsed.references, *(_referring(store, parsed) if back else ())])
    asked: set[str] = set()
    while len(asked) < _LIMIT and (name := next((one for one in wanted if one not in asked), "")):
        asked.add(name)
        resource = _fetched(store, name)
        if resource is not None:
            found[name] = resource
            if resource["resourceType"] in _FURTHER:
                wanted |= dict.fromkeys(parsed.knowing(found).missing([resource]))
    return found


async def asked(store: FhirStore, parsed: Any, *, back: bool = True) -> dict[str, Json]:
    """The same from the event loop."""
    return await asyncio.to_thread(known, store, parsed, back=back) if isinstance(parsed, FhirMessage) else {}


def settled(header: Header, parsed: Any, found: Mapping[str, Json], site: Mapping[str, Any]) -> Header:
    """The header of a message; of a FHIR message with the patients and orders that it refers to, and with authorities
    as the site calls them: so it shares its lanes with HL7."""
    return parsed.knowing(found).header_at(site) if isinstance(parsed, FhirMessage) else header


def context(parsed: Any, found: Mapping[str, Json], message: str) -> dict[str, Any]:
    """What the mapping of a FHIR message gets to know besides it: what it refers to, which message it is (its id), and
    when it came. Nothing for other messages."""
    if not isinstance(parsed, FhirMessage):
        return {}
    came = datetime.fromtimestamp(id_millis(message) / 1000, UTC).strftime("%Y%m%d%H%M%S+0000")
    return {CONTEXT: found, MESSAGE: message, RECEIVED: came}


def _referring(store: FhirStore, message: FhirMessage) -> Iterator[str]:
    for name, resource in message.named[:_LIMIT]:
        for kind, parameter in _BACK.get(resource["resourceType"], ()):
            for one in store.search(kind, [(parameter, name)]).matches:
                yield f"{one.type}/{one.id}"


def _fetched(store: FhirStore, name: str) -> Json | None:
    """The resource that a literal or conditional reference means; None if the store has none, or several."""
    kind, _, query = name.partition("?")
    if kind.partition("/")[0] not in TYPES:
        return None
    try:
        matches = store.search(kind, parse_qsl(query)).matches if query else [store.read(*name.split("/"))]
    except NotFound:
        return None
    if len(matches) != 1 or matches[0].deleted:
        return None
    resource: Json = json.loads(matches[0].body)
    return resource
