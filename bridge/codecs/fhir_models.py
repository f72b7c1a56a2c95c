"""What resources and elements FHIR R4 has, as the models of fhir.resources (R4B) know it."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin

_NAMES = """
Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem
ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest
CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage CoverageEligibilityRequest
CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement
DiagnosticReport DocumentManifest DocumentReference Encounter Endpoint EnrollmentRequest EnrollmentResponse
EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit FamilyMemberHistory
Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy Immunization ImmunizationEvaluation
ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure
MeasureReport Media Medication MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest
MedicationStatement MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation
ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation Parameters Patient
PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner PractitionerRole Procedure Provenance
Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition ResearchElementDefinition
ResearchStudy ResearchSubject RiskAssessment Schedule SearchParameter ServiceRequest Slot Specimen
SpecimenDefinition StructureDefinition StructureMap Subscription Substance SupplyDelivery SupplyRequest Task
TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription
"""
RESOURCES = frozenset(_NAMES.split())
"""The types of resources in messages."""


@cache
def model(kind: str) -> Any:
    """The model class of a resource or data type; None if there is no such type."""
    from fhir.resources.R4B import get_fhir_model_class

    try:
        return get_fhir_model_class(kind)
    except (KeyError, ValueError):
        return None


@cache
def elements(owner: Any) -> dict[str, tuple[bool, Any]]:
    """Element -> whether it repeats, and the model class of its parts (None for a primitive)."""
    return {field.alias or name: _shape(field.annotation) for name, field in owner.model_fields.items()}


@cache
def choices(owner: Any) -> dict[str, tuple[str, ...]]:
    """``value`` -> ``valueString``, ``valueQuantity``...: the elements that one of several types goes by."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in owner.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and (choice := extra.get("one_of_many")):
            found[str(choice)] = (*found.get(str(choice), ()), field.alias or name)
    return found


@cache
def is_time(owner: Any, name: str) -> bool:
    """Whether an element is a date, dateTime, instant or time."""
    field = next((one for key, one in owner.model_fields.items() if (one.alias or key) == name), None)
    return field is not None and "datetime." in repr(field.annotation)


def _shape(annotation: Any) -> tuple[bool, Any]:
    if hasattr(annotation, "get_model_klass"):
        return False, annotation.get_model_klass()
    repeats, inner = get_origin(annotation) is list, None
    for part in get_args(annotation):
        if isinstance(part, type) or get_args(part):
            deeper, found = _shape(part)
            repeats, inner = repeats or deeper, inner or found
    return repeats, inner
