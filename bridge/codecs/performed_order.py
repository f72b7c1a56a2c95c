"""What the worklist knows of a performed step and its modality leaves out: few say whose numbers they repeat.

Without it, patient ``4711`` of a modality and patient ``4711`` of the hospital would be two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.codecs.dicom_values import Values, items

ORDERS = "ScheduledStepAttributesSequence"
"""The orders that a step is done for."""
_PATIENT = {"PatientID": ("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")}
_ORDER = {
    "AccessionNumber": ("IssuerOfAccessionNumberSequence",),
    "PlacerOrderNumberImagingServiceRequest": ("OrderPlacerIdentifierSequence",),
    "FillerOrderNumberImagingServiceRequest": ("OrderFillerIdentifierSequence",),
}
"""A number -> who issued it."""


def named(told: Values) -> list[tuple[str, str]]:
    """Keyword and value of what the orders that a step is done for can be found by on the worklist."""
    keys = ("StudyInstanceUID", "AccessionNumber")
    return sorted({(key, str(order[key])) for order in items(told.get(ORDERS)) for key in keys if order.get(key)})


def unsaid(told: Values, listed: Sequence[Mapping[str, Any]]) -> Values:
    """What is to be added to ``told``, from the items ``listed`` of the worklist that the step may
    be about: the numbers that it leaves empty, and the issuers of those that it repeats. Empty if none is of its
    patient. Where several may be meant, as of two hospitals with the same numbers, only what they agree on."""
    mine = [item for item in listed if item.get("PatientID") == told.get("PatientID")]
    if not mine:
        return {}
    meant = [(order, _meant(order, mine)) for order in items(told.get(ORDERS))]
    patient = _agreed(told, [item for _, some in meant for item in some], _PATIENT)
    return {**patient, ORDERS: [_agreed(order, some, _ORDER) for order, some in meant]}


def completed(told: Values, added: Values) -> Values:
    """``told`` with what :func:`unsaid` found."""
    if not added:
        return told
    pairs = zip(items(told.get(ORDERS)), added[ORDERS], strict=True)
    return {**told, **added, ORDERS: [{**order, **more} for order, more in pairs]}


def _meant(order: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Those with its study, or else its accession number, as the worklist itself joins them; of several orders in one
    study those with its accession number."""
    study, accession = (
        [item for item in listed if order.get(key) and item.get(key) == order[key]]
        for key in ("StudyInstanceUID", "AccessionNumber")
    )
    return [item for item in study if item in accession] or study or accession


def _agreed(
    told: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], numbers: Mapping[str, tuple[str, ...]]
) -> Values:
    first, *others = [_added(told, item, numbers) for item in listed] or [{}]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _added(told: Mapping[str, Any], known: Mapping[str, Any], numbers: Mapping[str, tuple[str, ...]]) -> Values:
    found: Values = {}
    for number, issuers in numbers.items():
        if told.get(number) in (None, "", known.get(number)):
            found |= {key: known[key] for key in (number, *issuers) if known.get(key) and not told.get(key)}
    return found
