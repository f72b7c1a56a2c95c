"""Coding systems as HL7 v2 and FHIR call them."""

from __future__ import annotations

SYSTEMS = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "C4": "http://www.ama-assn.org/go/cpt",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "RADLEX": "http://radlex.org",
    "RID": "http://radlex.org",
    "UCUM": "http://unitsofmeasure.org",
    "HIPPS": "https://www.cms.gov/Medicare/Medicare-Fee-for-Service-Payment/ProspMedicareFeeSvcPmtGen/HIPPSCodes",
}
"""Coding systems (HL7 table 0396) and their FHIR URI."""
NAMES = {uri: name for name, uri in reversed(SYSTEMS.items())}
"""And by their URI."""
