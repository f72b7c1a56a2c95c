"""A simulated scanner: asks for its worklist (C-FIND, PS3.4 annex K) as CT and MR consoles do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from bridge.errors import Unreachable


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a scanner's list."""

    accession: str
    patient_id: str
    name: str
    study_uid: str
    procedure: str
    modality: str
    station: str
    day: str
    time: str
    """hhmm."""


class Modality:
    """The scanner called ``station``. :meth:`ask` blocks: call it from a thread."""

    def __init__(self, station: str, port: int, called: str = "RADBRIDGE") -> None:
        self._station, self._port, self._called = station, port, called

    def ask(self, day: date | None = None) -> dict[str, Listed]:
        """The steps of this station, on ``day`` or on any, by accession number. Raises Unreachable."""
        ae = AE(self._station)
        ae.add_requested_context(ModalityWorklistInformationFind)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        association = ae.associate("127.0.0.1", self._port, ae_title=self._called)
        if not association.is_established:
            raise Unreachable("the worklist does not take this scanner's call", at=self._station)
        found: dict[str, Listed] = {}
        try:
            for status, answer in association.send_c_find(self._query(day), ModalityWorklistInformationFind):
                if not status or status.Status not in (0xFF00, 0xFF01, 0x0000):
                    raise Unreachable("the worklist query failed", at=self._station)
                if answer is not None:
                    listed = _listed(answer)
                    found[listed.accession] = listed
        finally:
            association.release()
        return found

    def _query(self, day: date | None) -> Dataset:
        query = Dataset()
        query.SpecificCharacterSet = "ISO_IR 192"
        for keyword in ("AccessionNumber", "PatientID", "PatientName", "StudyInstanceUID"):
            setattr(query, keyword, "")
        query.RequestedProcedureDescription = ""
        step = Dataset()
        step.ScheduledStationAETitle = self._station
        step.ScheduledProcedureStepStartDate = day.strftime("%Y%m%d") if day else ""
        step.ScheduledProcedureStepStartTime = ""
        step.Modality = ""
        query.ScheduledProcedureStepSequence = [step]
        return query


def _listed(answer: Any) -> Listed:
    step = answer.ScheduledProcedureStepSequence[0]
    return Listed(
        accession=str(answer.AccessionNumber),
        patient_id=str(answer.PatientID),
        name=str(answer.PatientName),
        study_uid=str(answer.StudyInstanceUID),
        procedure=str(answer.RequestedProcedureDescription),
        modality=str(step.Modality),
        station=str(step.ScheduledStationAETitle),
        day=str(step.ScheduledProcedureStepStartDate),
        time=str(step.ScheduledProcedureStepStartTime)[:4],
    )
