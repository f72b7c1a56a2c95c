"""Worklist items, updates and C-FIND identifiers for tests, with synthetic patients."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from bridge.codecs.dicom_query import Query, parse_query
from bridge.model import StepStatus, WorklistStep, WorklistUpdate


def attributes(number: int = 1, step: Mapping[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    """All that a worklist item needs; ``step`` and ``changed`` replace attributes of the step and of the item."""
    return {
        "PatientName": f"TEST{number:05d}^ÉLODIE",
        "PatientID": f"P{number}",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "AccessionNumber": f"A{number}",
        "StudyInstanceUID": f"1.2.826.0.1.{number}",
        "RequestedProcedureID": f"R{number}",
        "RequestedProcedureDescription": "CT thorax",
        "ScheduledProcedureStepSequence": [
            {
                "ScheduledProcedureStepID": f"S{number}",
                "ScheduledStationAETitle": "CT1",
                "Modality": "CT",
                "ScheduledProcedureStepStartDate": "20260105",
                "ScheduledProcedureStepStartTime": "0930",
                "ScheduledProcedureStepDescription": "CT thorax",
                **(step or {}),
            }
        ],
        **changed,
    }


def scheduled(number: int = 1, step: Mapping[str, Any] | None = None, **changed: Any) -> WorklistUpdate:
    """An order with one step."""
    made = WorklistStep(attributes(number, step, **changed))
    return WorklistUpdate((f"placer:{number}^HIS", f"filler:{number}^RIS"), StepStatus.SCHEDULED, (made,))


def identifier(charset: str | None = None, step: Mapping[str, Any] | None = None, **keys: Any) -> Dataset:
    """A request's Identifier. ``step``: the keys of the step's item; a Dataset's own values otherwise."""
    data = Dataset()
    if charset is not None:
        data.SpecificCharacterSet = charset.split("\\") if "\\" in charset else charset
    for keyword, value in keys.items():
        setattr(data, keyword, value)
    if step is not None:
        inner = Dataset()
        for keyword, value in step.items():
            setattr(inner, keyword, value)
        data.ScheduledProcedureStepSequence = Sequence([inner])
    return data


def encoded(data: Dataset, *, implicit: bool = True) -> bytes:
    """The Identifier as it goes over the wire, little endian."""
    buffer = BytesIO()
    stream = DicomFileLike(buffer)
    stream.is_little_endian, stream.is_implicit_VR = True, implicit
    write_dataset(stream, data)
    return buffer.getvalue()


def query(charset: str | None = None, step: Mapping[str, Any] | None = None, **keys: Any) -> Query:
    """The parsed query for :func:`identifier`'s arguments."""
    return parse_query(encoded(identifier(charset, step, **keys)), implicit=True)
