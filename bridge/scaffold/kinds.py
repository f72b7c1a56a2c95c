"""The kinds of messages of an imaging department, and the shipped mapping of each into each language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of messages, as people call it."""

    messages: tuple[str, ...]
    mappings: dict[str, str] = field(default_factory=dict)
    """The shipped mapping by the language of who gets them: worklist, fhir, hl7v2."""


KINDS: dict[str, Kind] = {
    "orders": Kind(("ORM^O01", "OMI^O23", "OMG^O19"), {"worklist": "order-to-worklist", "fhir": "order-to-fhir"}),
    "reports": Kind(("ORU^R01",), {"fhir": "report-to-fhir"}),
    "documents": Kind(
        tuple(f"MDM^T{number:02}" for number in range(1, 12)),
        {"fhir": "mdm-to-fhir"},
    ),
    "patients": Kind(
        tuple(
            f"ADT^A{number}"
            for number in ("01", "04", "05", "08", "18", "28", "30", "31", "34", "36", "39", "40", "46", "47")
        ),
        {"worklist": "adt-to-worklist"},
    ),
    "appointments": Kind(
        ("SIU^S12", "SIU^S13", "SIU^S14", "SIU^S15", "SIU^S16", "SIU^S17", "SIU^S26"),
        {"worklist": "siu-to-worklist", "fhir": "siu-to-fhir"},
    ),
    "charges": Kind(("DFT^P03",), {"hl7v2": "dft-to-billing"}),
}


def kinds_of(messages: Iterable[str]) -> list[str]:
    """The kinds that message types belong to, in the sequence of ``KINDS``."""
    types = set(messages)
    return [name for name, kind in KINDS.items() if types & set(kind.messages)]


def language(channel_type: str) -> str:
    """What a channel of this type is sent: worklist, fhir, hl7v2, or another that no shipped mapping is for."""
    known = {"dicom-worklist": "worklist", "fhir-out": "fhir"}
    return known.get(channel_type, "dicom" if channel_type.startswith("dicom") else "hl7v2")


def mapping_for(kind: str, to: str) -> str | None:
    """The shipped mapping of ``kind`` into a language; empty: as it came; None: it has no place there."""
    found = KINDS[kind].mappings.get(to)
    return found or ("" if to == "hl7v2" else None)
