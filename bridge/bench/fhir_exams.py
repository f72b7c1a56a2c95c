"""Exams for the bench of the FHIR projection: synthetic, five of each patient, over six years."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from random import Random
from typing import Any
from urllib.parse import urlencode

from bridge.codecs.fhir import encode
from bridge.fhir.index import entries
from bridge.store.fhir_rows import Stored, add_versions
from bridge.store.store import Store

Json = dict[str, Any]
SECOND = "second page, newest first"
"""Asked by the link that the first page ends with."""

PER_EXAM = 5.2
"""Resources that an exam brings: order, study, report, two observations, and a patient for every fifth."""
_YEARS, _FIRST = 6, 2024
_MADE = 1_893_456_000_000
_BATCH = 2000


def resources(number: int, exams: int) -> Iterator[Json]:
    """What the exam of this number brings, of ``exams`` in all."""
    day = _day(number, exams)
    subject = {"reference": f"Patient/p{number // 5}"}
    based = [{"reference": f"ServiceRequest/o{number}"}]
    if number % 5 == 0:
        yield _patient(number // 5)
    yield {
        "resourceType": "ServiceRequest",
        "id": f"o{number}",
        "identifier": [_identifier("accession", f"A{number}"), _identifier("placer", f"O{number}")],
        "status": "completed" if number % 20 else "active",
        "intent": "order",
        "code": _code(number % 40),
        "subject": subject,
        "authoredOn": f"{day}T08:00:00Z",
        "occurrenceDateTime": f"{day}T10:{number % 60:02}:00Z",
        "performer": [{"reference": f"Practitioner/d{number % 50}"}],
    }
    yield {
        "resourceType": "ImagingStudy",
        "id": f"s{number}",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:1.2.826.0.1.3680043.8.498.{number + 1}"}],
        "status": "available",
        "modality": [
            {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": ("CT", "MR", "US")[number % 3]}
        ],
        "subject": subject,
        "basedOn": based,
        "started": f"{day}T10:15:00Z",
    }
    yield {
        "resourceType": "DiagnosticReport",
        "id": f"r{number}",
        "identifier": [_identifier("report", f"R{number}")],
        "status": "final" if number % 50 else "preliminary",
        "code": _code(number % 40),
        "subject": subject,
        "basedOn": based,
        "effectiveDateTime": f"{day}T10:15:00Z",
        "issued": f"{day}T12:00:00Z",
        "presentedForm": [{"contentType": "text/plain", "data": "QkVOQ0gg" * 120}],
    }
    for place in range(2):
        yield {
            "resourceType": "Observation",
            "id": f"v{number}-{place}",
            "status": "final",
            "code": _code(number % 30),
            "subject": subject,
            "effectiveDateTime": f"{day}T10:15:00Z",
            "valueQuantity": {"value": number % 100, "unit": "mm"},
        }


def _patient(number: int) -> Json:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [_identifier("his", f"P{number}")],
        "name": [{"family": f"BENCH{'ABCDEFGH'[number % 8]}{number}", "given": ["ANNE"]}],
        "gender": "female",
        "birthDate": f"{1930 + number % 90}-{1 + number % 12:02}-{1 + number % 28:02}",
    }


def _identifier(system: str, value: str) -> Json:
    return {"system": f"urn:bench:{system}", "value": value}


def _code(number: int) -> Json:
    return {"coding": [{"system": "urn:bench:codes", "code": f"C{number}"}]}


def fill(store: Store, exams: int) -> int:
    """Put them into an empty projection as it would itself; how many resources that made."""
    made = (one for number in range(exams) for one in resources(number, exams))
    sequence = 0
    while some := tuple(islice(made, _BATCH)):
        store.write(partial(_insert, some, sequence))
        sequence += len(some)
    return sequence


def _insert(some: tuple[Json, ...], sequence: int, tx: Any) -> None:
    written = []
    for number, one in enumerate(some, sequence + 1):
        body = encode({**one, "meta": {"versionId": "1", "lastUpdated": "2030-01-01T00:00:00.000Z"}})
        new = Stored(one["resourceType"], one["id"], "1", _MADE + number, False, body, number, "PUT")
        written.append((new, entries(one)))
    add_versions(tx, written)


def reads(chance: Random, exams: int) -> dict[str, str]:
    """What systems of a hospital ask, each of one exam or day taken at random: URLs below the service's."""
    number = chance.randrange(exams)
    order, patient, accession = f"o{number}", f"p{number // 5}", f"urn:bench:accession|A{number}"
    day = _day(number, exams)
    asked = {
        "read by id": (f"ServiceRequest/{order}", []),
        "vread": (f"ServiceRequest/{order}/_history/1", []),
        "history": (f"ServiceRequest/{order}/_history", []),
        "by accession": ("ServiceRequest", [("identifier", accession)]),
        "by patient": ("ServiceRequest", [("patient", patient)]),
        "by status and date": ("ServiceRequest", [("status", "active"), ("occurrence", day)]),
        "by patient and status": ("DiagnosticReport", [("patient", patient), ("status", "final")]),
        "of a month, newest first": (
            "DiagnosticReport",
            [("date", f"ge{day[:7]}-01"), ("date", f"le{day[:7]}-28"), ("_sort", "-_lastUpdated"), ("_count", "20")],
        ),
        "changed since, newest first": (
            "DiagnosticReport",
            [("_lastUpdated", "ge2030-01-01T00:00:01Z"), ("_sort", "-_lastUpdated"), ("_count", "20")],
        ),
        "by patient's identifier": (
            "ServiceRequest",
            [("subject:Patient.identifier", f"urn:bench:his|P{number // 5}")],
        ),
        "report by order's number": ("DiagnosticReport", [("based-on.identifier", accession)]),
        "_include": ("ServiceRequest", [("identifier", accession), ("_include", "ServiceRequest:patient")]),
        "_revinclude": (
            "ServiceRequest",
            [
                ("identifier", accession),
                ("_revinclude", "ImagingStudy:basedon"),
                ("_revinclude", "DiagnosticReport:based-on"),
            ],
        ),
        SECOND: ("DiagnosticReport", [("status", "final"), ("_sort", "-issued"), ("_count", "20")]),
        "patient's reports, newest first": ("DiagnosticReport", [("patient", patient), ("_sort", "-issued")]),
        "open orders of a day": (
            "ServiceRequest",
            [("status", "active"), ("occurrence", day), ("_sort", "occurrence")],
        ),
        "patients by name": ("Patient", [("name", f"bench{'abcdefgh'[number % 8]}{number % 1000}"), ("_count", "20")]),
        "results above a value": ("Observation", [("patient", patient), ("value-quantity", "gt50")]),
    }
    return {name: f"{path}?{urlencode(pairs)}" if pairs else path for name, (path, pairs) in asked.items()}


def _day(number: int, exams: int) -> str:
    return f"{_FIRST + number * _YEARS // exams}-{1 + number % 12:02}-{1 + number % 28:02}"
