"""The FHIR facade's pure part: what a client asks for, what resources are found by, what belongs in an answer."""
