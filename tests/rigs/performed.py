"""Performed procedure steps as a modality tells them, with synthetic patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
)

from bridge.codecs.performed import CREATE, SET, Event, KnownStep
from tests.rigs.worklist import encoded

_WORKLIST = ModalityWorklistInformationFind
IMAGES = {"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ReferencedSOPInstanceUID": "1.2.826.0.1.7.1"}


def dataset(values: Mapping[str, Any]) -> Dataset:
    """Attributes by keyword; a list of mappings is a sequence."""
    data = Dataset()
    for keyword, value in values.items():
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            setattr(data, keyword, [dataset(item) for item in value])
        else:
            setattr(data, keyword, value)
    return data


def order(number: int = 1, **changed: Any) -> dict[str, Any]:
    """The item of ScheduledStepAttributesSequence for the step of :func:`tests.rigs.worklist.attributes`."""
    return {
        "StudyInstanceUID": f"1.2.826.0.1.{number}",
        "AccessionNumber": f"A{number}",
        "RequestedProcedureID": f"R{number}",
        "RequestedProcedureDescription": "CT thorax",
        "ScheduledProcedureStepID": f"S{number}",
        "PlacerOrderNumberImagingServiceRequest": f"{number}",
        "FillerOrderNumberImagingServiceRequest": f"F{number}",
        **changed,
    }


def created(*orders: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """What an N-CREATE says."""
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "TEST00001^ÉLODIE",
        "PatientID": "P1",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "ScheduledStepAttributesSequence": [dict(one) for one in orders or (order(),)],
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "CT1",
        "PerformedStationName": "CT-1",
        "PerformedProcedureStepStartDate": "20260105",
        "PerformedProcedureStepStartTime": "093512.5",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepDescription": "CT thorax",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "Modality": "CT",
        "StudyID": "",
        "PerformedSeriesSequence": [],
        **changed,
    }


def ended(status: str = "COMPLETED", reason: str = "", **changed: Any) -> dict[str, Any]:
    """What the last N-SET says; ``reason`` is a code of CID 9300."""
    why = {"CodeValue": reason, "CodingSchemeDesignator": "DCM", "CodeMeaning": "a reason"}
    series = {
        "PerformingPhysicianName": "",
        "ProtocolName": "CT-THORAX",
        "OperatorsName": "",
        "SeriesInstanceUID": "1.2.826.0.1.7",
        "SeriesDescription": "",
        "RetrieveAETitle": "",
        "ReferencedImageSequence": [IMAGES],
        "ReferencedNonImageCompositeSOPInstanceSequence": [],
    }
    return {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20260105",
        "PerformedProcedureStepEndTime": "095000",
        "PerformedSeriesSequence": [series],
        **({"PerformedProcedureStepDiscontinuationReasonCodeSequence": [why]} if reason else {}),
        **changed,
    }


def event(values: Mapping[str, Any], known: KnownStep | None = None, instance: str = "1.2.9", **more: Any) -> Event:
    """An N-CREATE, or an N-SET of a known step."""
    command = more.pop("command", SET if known else CREATE)
    return Event(command, instance, "CT1", "RADBRIDGE", encoded(dataset(values)), True, known, **more)


def after(*told: Event) -> KnownStep:
    """What is known of a step once it was told of."""
    last = told[-1]
    return KnownStep(last.number, last.digest, last.values)


class Modality:
    """pynetdicom as a modality: the status of each answer, as a data set."""

    def __init__(self, port: int, title: str = "CT1") -> None:
        self._port, self._ae = port, AE(title)
        self._ae.add_requested_context(ModalityPerformedProcedureStep)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = 60

    def create(self, instance: str, values: Mapping[str, Any]) -> Dataset:
        return self._tell("send_n_create", instance, values)

    def set(self, instance: str, values: Mapping[str, Any]) -> Dataset:
        return self._tell("send_n_set", instance, values)

    def listed(self, port: int) -> dict[str, str]:
        """Accession number -> status of the step, of what is on the worklist there."""
        step = {"ScheduledProcedureStepStatus": "", "ScheduledProcedureStepID": ""}
        query = dataset({"AccessionNumber": "", "ScheduledProcedureStepSequence": [step]})
        association = self._ae.associate("127.0.0.1", port, [build_context(_WORKLIST)], ae_title="RADBRIDGE")
        assert association.is_established
        answers = [item for _, item in association.send_c_find(query, _WORKLIST) if item]
        association.release()
        steps = {str(item.AccessionNumber): item.ScheduledProcedureStepSequence[0] for item in answers}
        return {accession: str(step.ScheduledProcedureStepStatus) for accession, step in steps.items()}

    def _tell(self, call: str, instance: str, values: Mapping[str, Any]) -> Dataset:
        association = self._ae.associate("127.0.0.1", self._port, ae_title="RADBRIDGE")
        if not association.is_established:
            return Dataset()
        try:
            status, _ = getattr(association, call)(dataset(values), ModalityPerformedProcedureStep, instance)
        finally:
            association.release()
        return status
