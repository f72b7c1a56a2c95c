"""The CapabilityStatement: what is served, from the same tables that serve it (R4 capabilitystatement.html)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from bridge import __version__
from bridge.codecs.fhir_check import Release
from bridge.fhir.interaction import TYPES
from bridge.fhir.media import FHIR, JSON_PATCH, VERSIONS
from bridge.fhir.parameters import ID, LAST_UPDATED, PARAMETERS, Parameter
from bridge.fhir.subscription import BACKPORT
from bridge.fhir.topics import TOPICS

_INTERACTIONS = (
    *("read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"),
)
_SYSTEM = ("transaction", "batch", "history-system")
_OAUTH = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_WEBSOCKET = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-websocket"
_TOPIC = f"{BACKPORT}/StructureDefinition/capabilitystatement-subscriptiontopic-canonical"
_SUBSCRIPTION = ("status", "events", "get-ws-binding-token")


def statement(
    release: Release, base: str, date: str, websocket: str = "", issuer: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the service at ``base`` does, as it stands since ``date`` (a FHIR dateTime); ``websocket`` is the URL of
    notifications, ``issuer`` what the authorization server says of itself, if a token of it is needed."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "Radbridge", "version": __version__},
        "implementation": {"description": "The FHIR facade of an imaging department", "url": base},
        "fhirVersion": VERSIONS[release],
        "format": ["json", FHIR],
        "patchFormat": [FHIR, JSON_PATCH],
        "rest": [
            {
                **({"extension": [{"url": _WEBSOCKET, "valueUri": websocket}]} if websocket else {}),
                "mode": "server",
                **({"security": _security(issuer)} if issuer is not None else {}),
                "resource": [_resource(kind) for kind in TYPES if release == "R4" or kind != "Subscription"],
                "interaction": [{"code": code} for code in _SYSTEM],
                "operation": [_operation("validate", "Resource-validate")],
            }
        ],
    }


_SAID = (
    *("issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "token_endpoint_auth_methods_supported"),
    *("introspection_endpoint", "revocation_endpoint", "registration_endpoint", "grant_types_supported"),
    *("code_challenge_methods_supported", "response_types_supported"),
)
_ABLE = ("permission-v1", "permission-v2", "permission-patient", "permission-user", "client-confidential-asymmetric")


def smart(issuer: Mapping[str, Any]) -> dict[str, Any]:
    """Where tokens are to be had, and what scopes may say (SMART App Launch 2.2, conformance)."""
    scopes = [f"{context}/*.{acts}" for context in ("system", "user", "patient") for acts in ("rs", "cruds")]
    return {name: issuer[name] for name in _SAID if name in issuer} | {
        "scopes_supported": scopes,
        "capabilities": list(_ABLE),
    }


def _security(issuer: Mapping[str, Any]) -> dict[str, Any]:
    places = {"token": "token_endpoint", "authorize": "authorization_endpoint", "introspect": "introspection_endpoint"}
    urls = [{"url": url, "valueUri": issuer[name]} for url, name in places.items() if name in issuer]
    system = "http://terminology.hl7.org/CodeSystem/restful-security-service"
    made: dict[str, Any] = {
        "service": [{"coding": [{"system": system, "code": "SMART-on-FHIR"}], "text": "OAuth2 bearer tokens"}],
        "description": "A bearer token with SMART scopes; see .well-known/smart-configuration",
    }
    return {"extension": [{"url": _OAUTH, "extension": urls}], **made} if urls else made


@cache
def _resource(kind: str) -> dict[str, Any]:
    parameters = [ID[kind], LAST_UPDATED[kind], *PARAMETERS[kind].values()]
    referring = [one for base in TYPES for one in PARAMETERS[base].values() if kind in one.targets]
    operations = [_operation("validate", "Resource-validate")]
    if kind == "Patient":
        operations.append(_operation("everything", "Patient-everything"))
    if kind == "Subscription":
        operations += [_operation(name, f"backport-subscription-{name}", BACKPORT) for name in _SUBSCRIPTION]
    made: dict[str, Any] = {
        "extension": [{"url": _TOPIC, "valueCanonical": url} for url in TOPICS] if kind == "Subscription" else [],
        "type": kind,
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "searchInclude": [f"{kind}:{one.name}" for one in parameters if one.type == "reference"],
        "searchRevInclude": [f"{one.base}:{one.name}" for one in referring],
        "searchParam": [_parameter(one) for one in parameters],
        "operation": operations,
    }
    return {key: value for key, value in made.items() if value != []}


def _parameter(one: Parameter) -> dict[str, Any]:
    return {"name": one.name, "type": one.type, "documentation": one.expression}


def _operation(name: str, definition: str, guide: str = "http://hl7.org/fhir") -> dict[str, Any]:
    return {"name": name, "definition": f"{guide}/OperationDefinition/{definition}"}
