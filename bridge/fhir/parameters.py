"""The search parameters that are served, by type: those of R4 (hl7.org/fhir/R4/searchparameter-registry.html).

One line each: name, type, where the value stands, what it may refer to. ``|`` separates several places, ``x[x]`` is any
of the element's types, ``x{key=value}`` only those items; ``=>`` leaves out references to other types.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

_ALL = """
_tag token meta.tag
_security token meta.security
_profile uri meta.profile
_source uri meta.source
"""

_PLACES = """
address string address
address-city string address.city
address-country string address.country
address-postalcode string address.postalCode
address-state string address.state
address-use token address.use
"""

_PEOPLE = f"""
identifier token identifier
active token active
name string name
family string name.family
given string name.given
gender token gender
telecom token telecom
phone token telecom{{system=phone}}
email token telecom{{system=email}}
{_PLACES}
"""

_DEFINED = {
    "Patient": f"""
{_PEOPLE}
birthdate date birthDate
death-date date deceasedDateTime
general-practitioner reference generalPractitioner -> Practitioner,Organization
language token communication.language
link reference link.other -> Patient
organization reference managingOrganization -> Organization
""",
    "Encounter": """
identifier token identifier
appointment reference appointment -> Appointment
based-on reference basedOn -> ServiceRequest
class token class
date date period
location reference location.location -> Location
part-of reference partOf -> Encounter
participant reference participant.individual -> Practitioner
patient reference subject => Patient
practitioner reference participant.individual => Practitioner
reason-code token reasonCode
service-provider reference serviceProvider -> Organization
status token status
subject reference subject -> Patient
type token type
""",
    "ServiceRequest": """
identifier token identifier
authored date authoredOn
based-on reference basedOn -> ServiceRequest
body-site token bodySite
category token category
code token code
encounter reference encounter -> Encounter
intent token intent
occurrence date occurrence[x]
patient reference subject => Patient
performer reference performer -> Practitioner,Organization,Device,Patient
performer-type token performerType
priority token priority
replaces reference replaces -> ServiceRequest
requester reference requester -> Practitioner,Organization,Device,Patient
requisition token requisition
status token status
subject reference subject -> Patient,Device,Location
""",
    "Appointment": """
identifier token identifier
actor reference participant.actor -> Patient,Practitioner,Device,Location
appointment-type token appointmentType
based-on reference basedOn -> ServiceRequest
date date start
location reference participant.actor => Location
part-status token participant.status
patient reference participant.actor => Patient
practitioner reference participant.actor => Practitioner
reason-code token reasonCode
service-category token serviceCategory
service-type token serviceType
specialty token specialty
status token status
""",
    "Task": """
identifier token identifier
authored-on date authoredOn
based-on reference basedOn -> ServiceRequest,Appointment
business-status token businessStatus
code token code
encounter reference encounter -> Encounter
focus reference focus -> ServiceRequest,ImagingStudy,DiagnosticReport,DocumentReference,Procedure,Appointment
group-identifier token groupIdentifier
intent token intent
modified date lastModified
owner reference owner -> Practitioner,Organization,Device,Patient
part-of reference partOf -> Task
patient reference for => Patient
performer token performerType
period date executionPeriod
priority token priority
requester reference requester -> Practitioner,Organization,Device,Patient
status token status
subject reference for -> Patient
""",
    "ImagingStudy": """
identifier token identifier
basedon reference basedOn -> ServiceRequest,Task,Appointment
bodysite token series.bodySite
dicom-class token series.instance.sopClass
encounter reference encounter -> Encounter
endpoint reference endpoint|series.endpoint -> Endpoint
instance token series.instance.uid
interpreter reference interpreter -> Practitioner
modality token modality|series.modality
patient reference subject => Patient
performer reference series.performer.actor -> Practitioner,Organization,Device,Patient
reason token reasonCode
referrer reference referrer -> Practitioner
series token series.uid
started date started
status token status
subject reference subject -> Patient,Device
""",
    "DiagnosticReport": """
identifier token identifier
based-on reference basedOn -> ServiceRequest
category token category
code token code
conclusion token conclusionCode
date date effective[x]
encounter reference encounter -> Encounter
imaging-study reference imagingStudy -> ImagingStudy
issued date issued
patient reference subject => Patient
performer reference performer -> Practitioner,Organization
result reference result -> Observation
results-interpreter reference resultsInterpreter -> Practitioner,Organization
status token status
subject reference subject -> Patient,Device,Location
""",
    "Observation": """
identifier token identifier
based-on reference basedOn -> ServiceRequest
category token category
code token code
combo-code token code|component.code
combo-value-quantity quantity valueQuantity|component.valueQuantity
component-code token component.code
component-value-quantity quantity component.valueQuantity
data-absent-reason token dataAbsentReason
date date effective[x]
derived-from reference derivedFrom -> ImagingStudy,DocumentReference,Observation
device reference device -> Device
encounter reference encounter -> Encounter
focus reference focus -> Patient,ImagingStudy,Observation
has-member reference hasMember -> Observation
method token method
part-of reference partOf -> Procedure,ImagingStudy
patient reference subject => Patient
performer reference performer -> Practitioner,Organization,Patient
status token status
subject reference subject -> Patient,Device,Location
value-concept token valueCodeableConcept
value-quantity quantity valueQuantity
value-string string valueString|valueCodeableConcept.text
""",
    "Procedure": """
identifier token identifier
based-on reference basedOn -> ServiceRequest
category token category
code token code
date date performed[x]
encounter reference encounter -> Encounter
location reference location -> Location
part-of reference partOf -> Procedure,Observation
patient reference subject => Patient
performer reference performer.actor -> Practitioner,Organization,Device,Patient
reason-code token reasonCode
status token status
subject reference subject -> Patient
""",
    "DocumentReference": """
identifier token masterIdentifier|identifier
authenticator reference authenticator -> Practitioner,Organization
author reference author -> Practitioner,Organization,Device,Patient
category token category
contenttype token content.attachment.contentType
custodian reference custodian -> Organization
date date date
description string description
encounter reference context.encounter -> Encounter
event token context.event
facility token context.facilityType
format token content.format
language token content.attachment.language
location uri content.attachment.url
patient reference subject => Patient
period date context.period
related reference context.related -> ServiceRequest,ImagingStudy,DiagnosticReport,DocumentReference,Appointment
relatesto reference relatesTo.target -> DocumentReference
relation token relatesTo.code
security-label token securityLabel
setting token context.practiceSetting
status token status
subject reference subject -> Patient,Practitioner,Device
type token type
""",
    "Binary": "",
    "Practitioner": f"""
{_PEOPLE}
communication token communication
""",
    "Organization": f"""
identifier token identifier
active token active
{_PLACES}
endpoint reference endpoint -> Endpoint
name string name|alias
partof reference partOf -> Organization
type token type
""",
    "Location": f"""
identifier token identifier
{_PLACES}
endpoint reference endpoint -> Endpoint
name string name|alias
operational-status token operationalStatus
organization reference managingOrganization -> Organization
partof reference partOf -> Location
status token status
type token type
""",
    "Device": """
identifier token identifier
device-name string deviceName.name|type.coding.display|type.text
location reference location -> Location
manufacturer string manufacturer
model string modelNumber
organization reference owner -> Organization
patient reference patient => Patient
status token status
type token type
udi-carrier string udiCarrier.carrierHRF
udi-di string udiCarrier.deviceIdentifier
url uri url
""",
    "Endpoint": """
identifier token identifier
connection-type token connectionType
name string name
organization reference managingOrganization -> Organization
payload-type token payloadType
status token status
""",
    "Provenance": """
agent reference agent.who -> Practitioner,Organization,Device,Patient
agent-role token agent.role
agent-type token agent.type
entity reference entity.what -> DocumentReference
location reference location -> Location
patient reference target => Patient
recorded date recorded
target reference target -> *
when date occurredDateTime
""",
    "AuditEvent": """
action token action
address string agent.network.address
agent reference agent.who -> Practitioner,Organization,Device,Patient
agent-name string agent.name
agent-role token agent.role
altid token agent.altId
date date recorded
entity reference entity.what -> *
entity-name string entity.name
entity-role token entity.role
entity-type token entity.type
outcome token outcome
patient reference agent.who|entity.what => Patient
policy uri agent.policy
site token source.site
source reference source.observer -> Practitioner,Organization,Device,Patient
subtype token subtype
type token type
""",
    "Subscription": """
contact token contact
criteria string criteria
payload token channel.payload
status token status
type token channel.type
url uri channel.endpoint
""",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter of one type."""

    base: str
    """The type it searches."""
    name: str
    type: str
    """token, reference, date, string, uri or quantity."""
    paths: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """What a reference may point to, of the types that are kept."""
    only: bool = False
    """References to other types are left out."""

    @property
    def number(self) -> int:
        """By what the index knows it."""
        return number(f"{self.base}.{self.name}")

    @property
    def expression(self) -> str:
        """Where the value stands, in FHIRPath as far as the notation here goes."""
        return " | ".join(f"{self.base}.{path}".replace("[x]", "") for path in self.paths)


@cache
def number(name: str) -> int:
    """A stable number, 31 bits, for a name; a test sees to it that no two have the same."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def _read(base: str, line: str) -> Parameter:
    name, kind, places, *more = line.split()
    targets = tuple(more[1].split(",")) if more else ()
    return Parameter(base, name, kind, tuple(places.split("|")), _known(targets), bool(more) and more[0] == "=>")


def _known(targets: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_DEFINED) if targets == ("*",) else targets


PARAMETERS: Mapping[str, Mapping[str, Parameter]] = {
    base: {one.name: one for one in (_read(base, line) for line in (_ALL + lines).splitlines() if line)}
    for base, lines in _DEFINED.items()
}
"""By type and name; besides these, every type has ``_id`` and ``_lastUpdated``."""

ID = {base: Parameter(base, "_id", "token", ("id",)) for base in PARAMETERS}
LAST_UPDATED = {base: Parameter(base, "_lastUpdated", "date", ("meta.lastUpdated",)) for base in PARAMETERS}


def parameter(base: str, name: str) -> Parameter | None:
    """The parameter ``name`` of the type ``base``, also ``_id`` and ``_lastUpdated``."""
    if name == "_id":
        return ID[base]
    if name == "_lastUpdated":
        return LAST_UPDATED[base]
    return PARAMETERS[base].get(name)
